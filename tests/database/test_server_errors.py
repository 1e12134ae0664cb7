"""What a server says of an error shows no value that a statement carried, whatever makes the server quote it."""

import logging
import re
import traceback

import pytest

from alphalens_keyctl import KeyVerifier
from alphalens_keyctl.errors import KeyctlError
from tests.support.commands import Keyctl
from tests.support.databases import by_hand, on_postgresql

_TRIGGER = (
    "CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} END $$",
    "CREATE TRIGGER theirs BEFORE INSERT OR UPDATE ON api_key FOR EACH ROW EXECUTE FUNCTION theirs()",
)
# What an administrator, or another program, did to the table; and what is said of the error.
QUOTING = {
    "a row that breaks a constraint": (
        ("ALTER TABLE api_key ADD CONSTRAINT no_word CHECK (purpose <> 'hush-hush') NOT VALID",),
        'the database refused the change: new row for relation "api_key" violates check constraint "no_word"',
    ),
    "a value that is there already": (
        ("CREATE UNIQUE INDEX one_purpose ON api_key (purpose)",),
        'the database refused the change: duplicate key value violates unique constraint "one_purpose"',
    ),
    "a value that does not fit": (
        [step.format("PERFORM encode(NEW.digest, 'hex')::bigint; RETURN NEW;") for step in _TRIGGER],
        "the database failed: ",
    ),
    "a text that is no number": (
        [step.format("PERFORM NEW.purpose::integer; RETURN NEW;") for step in _TRIGGER],
        "the database failed: InvalidTextRepresentation (SQLSTATE 22P02)",
    ),
    "a trigger that tells": (
        [
            step.format("RAISE EXCEPTION USING MESSAGE = 'no: ' || encode(NEW.digest, 'hex'), DETAIL = NEW.purpose;")
            for step in _TRIGGER
        ],
        "the database failed: no: ***",
    ),
}


@on_postgresql
@pytest.mark.parametrize("what", QUOTING)
def test_no_value_reaches_any_output_whatever_the_server_says(keyctl: Keyctl, what: str) -> None:
    """Promise 1: neither the message, nor `--debug`."""
    statements, said = QUOTING[what]
    keyctl.create("first", "--purpose", "hush-hush")
    for statement in statements:
        by_hand(keyctl.database_url, statement)
    for arguments in (("create",), ("--debug", "create"), ("create", "--json")):
        result = keyctl(*arguments, "billing", "--purpose", "hush-hush")
        assert (result.status, result.stdout) == (6 if "refused" in said else 7, "")
        assert said in (result.error["message"] if "--json" in arguments else result.stderr)
        assert ("Traceback" in result.stderr) == ("--debug" in arguments)
        assert not re.search(r"hush|DETAIL|CONTEXT|\\x[0-9a-f]|[0-9a-f]{32}", result.stderr)


@on_postgresql
def test_no_value_reaches_the_log_of_a_service(keyctl: Keyctl, caplog: pytest.LogCaptureFixture) -> None:
    """Promise 1: what records uses asks the server by a way of its own."""
    raw, _ = keyctl.create("billing")
    by_hand(keyctl.database_url, "ALTER TABLE usage_event ADD CONSTRAINT no_agent CHECK (user_agent <> 'hush-hush')")
    assert keyctl.database_url is not None
    verifier = KeyVerifier(keyctl.database_url)
    assert verifier.verify(raw, user_agent="hush-hush").allowed
    with caplog.at_level(logging.DEBUG), pytest.raises(KeyctlError, match="no_agent") as told:
        verifier.close()
    assert "no_agent" in caplog.text
    assert not re.search("hush|DETAIL", caplog.text + "".join(traceback.format_exception(told.value)))
