"""What `update` does: new values as a change of keys."""

from datetime import datetime

from alphalens_keyctl import text
from alphalens_keyctl.cli.change_keys import Words, change_keys
from alphalens_keyctl.cli.options.guards import Asked
from alphalens_keyctl.cli.options.new_values import LABEL, UNSET, NewValues
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keys.changes import UpdateChange
from alphalens_keyctl.keys.update import Update
from alphalens_keyctl.moments import parse_expiry
from alphalens_keyctl.output import sentences


def update(run: Run, asked: Asked, given: NewValues, *, override: str | None) -> None:
    """Give the keys that were asked for their new values, and report it. `override` says why the keys may break the
    stored policy. Raises `KeyctlError`."""
    new = _parsed(given, asked, run.act.at)._replace(override=override)
    words = Words(
        "Updated",
        f"Set {_braced(sentences.new_values(new))} on {{}}?",
        "has these values already",
        "is damaged: left as it is",
    )
    done = change_keys(run, UpdateChange(new, asked.reason), words, asked)
    if new.name is not None and done.changed and not asked.dry_run:
        run.note("Mind: a script, a keyring or a file that has the old name keeps it.")


def _braced(said: str) -> str:
    """Return what was typed so that `format` leaves it as it is."""
    return said.replace("{", "{{").replace("}", "}}")


def _parsed(given: NewValues, asked: Asked, now: datetime) -> Update:
    """The new values, of which none contradicts another. Raises `KeyctlError` (usage, invalid_input)."""
    if not given.given:
        raise KeyctlError(
            Code.USAGE,
            "update needs to know what to set",
            "For example --set-owner OWNER or --unset purpose; --owner and --label select keys here and set nothing.",
        )
    if given.set_name is not None and len(asked.references) != 1:
        raise KeyctlError(Code.USAGE, "--set-name takes one KEY", "Two keys cannot have one name.")
    fields = _fields_set(given, now)
    labels = text.parse_labels(given.set_label or ())
    unset_labels = set()
    for what in given.unset or ():
        if what.startswith(LABEL):
            unset_labels.add(text.parse_label_name(what.removeprefix(LABEL)))
        elif what in UNSET:
            if UNSET[what] in fields and fields[UNSET[what]] is not None:
                raise _contradiction(f"--set-{what}", f"--unset {what}")
            fields[UNSET[what]] = None
        else:
            raise KeyctlError(Code.USAGE, f"there is no '{what}' to unset", f"There are: {', '.join(UNSET)}, label:K.")
    for label in sorted(unset_labels & set(labels)):
        raise _contradiction(f"--set-label {label}=…", f"--unset label:{label}")
    name = None if given.set_name is None else text.parse_name(given.set_name)
    return Update(name, fields, labels, frozenset(unset_labels))


def _fields_set(given: NewValues, now: datetime) -> dict[str, str | datetime | None]:
    fields: dict[str, str | datetime | None] = {}
    if given.set_owner is not None:
        fields["owner"] = text.parse_line(given.set_owner, what="owner", longest=text.LONGEST_OWNER)
    if given.set_purpose is not None:
        fields["purpose"] = text.parse_line(given.set_purpose, what="purpose", longest=text.LONGEST_PURPOSE)
    if given.set_expires is not None:
        fields["expires_at"] = parse_expiry(given.set_expires, now=now)
    return fields


def _contradiction(one: str, other: str) -> KeyctlError:
    return KeyctlError(Code.USAGE, f"{one} and {other} contradict each other", "Leave one of them out.")
