"""Option and environment (`Given`), `config.toml`, default: the first that says something wins. What is wrong is
named by file and key, and never by its value, which may hold a password."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphalens_keyctl import keyformat
from alphalens_keyctl.address import SQLiteAddress, parse_address
from alphalens_keyctl.config_file import CHECK_NAMES
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.settings import Given, Settings, Thresholds, load

SECRET = "hunter2"
TIMES = ("connect_timeout", "lock_timeout", "query_timeout")


def load_from(folder: Path, content: str | bytes | None = None, given: Given | None = None) -> Settings:
    """Settings with `content` as the `config.toml` of `folder`; data would go to `folder`/data."""
    if content is not None:
        (folder / "config.toml").write_bytes(content.encode() if isinstance(content, str) else content)
    return load(given or Given(), config_folder=folder, data_folder=folder / "data")


def refusal(folder: Path, content: str | bytes | None = None, given: Given | None = None) -> KeyctlError:
    with pytest.raises(KeyctlError) as caught:
        load_from(folder, content, given)
    assert caught.value.code is Code.CONFIGURATION
    assert caught.value.code.exit_status == 7
    return caught.value


def test_without_any_configuration_the_defaults_hold(tmp_path: Path) -> None:
    assert load_from(tmp_path) == Settings(
        database_url=str(tmp_path / "data" / "keys.db"),
        actor=None,
        key_prefix="alk",
        connect_timeout=5.0,
        lock_timeout=5.0,
        query_timeout=60.0,
        is_default_database=True,
    )
    assert list(tmp_path.iterdir()) == [], "settling the settings creates nothing"


def test_the_file_goes_before_the_default(tmp_path: Path) -> None:
    settings = load_from(
        tmp_path,
        """
        database_url = "postgresql://db.example/keys"
        actor = "ops"
        key_prefix = "acme"
        connect_timeout = 1
        lock_timeout = 2.5
        query_timeout = 3600
        """,
    )
    assert settings == Settings("postgresql://db.example/keys", "ops", "acme", 1.0, 2.5, 3600.0)
    assert isinstance(settings.connect_timeout, float)


def test_option_and_environment_go_before_the_file(tmp_path: Path) -> None:
    content = 'database_url = "/srv/from-file.db"\nactor = "from file"\nlock_timeout = 1\n'
    settings = load_from(tmp_path, content, Given(database_url="given.db", actor="given"))
    assert settings == Settings("given.db", "given", lock_timeout=1.0)
    assert load_from(tmp_path, content, Given(actor="given")).database_url == "/srv/from-file.db"
    assert load_from(tmp_path, content, Given(database_url="given.db")).actor == "from file"


def test_uses_are_written_where_the_option_or_else_the_file_says(tmp_path: Path) -> None:
    content = 'database_url = "/srv/read.db"\nusage_database_url = "/srv/written.db"\n'
    assert load_from(tmp_path, content) == Settings("/srv/read.db", usage_database_url="/srv/written.db")
    assert load_from(tmp_path, content, Given(usage_database_url="given.db")).usage_database_url == "given.db"
    assert "empty" in refusal(tmp_path, content, Given(usage_database_url="")).message


def test_a_relative_path_in_the_file_counts_from_the_folder_of_the_file(tmp_path: Path) -> None:
    """Whoever wrote the file does not know where a command will run."""
    folder = tmp_path / "100% mine"
    folder.mkdir()
    for written, meant in {
        "keys.db": folder / "keys.db",
        "sqlite:///keys.db": folder / "keys.db",
        "SQLite:///../my%20keys.db": tmp_path / "my keys.db",
        "/srv/keys.db": Path("/srv/keys.db"),
        "sqlite:////srv/keys.db": Path("/srv/keys.db"),
        "~/keys.db": Path.home() / "keys.db",
    }.items():
        found = load_from(folder, f'[profile.p]\ndatabase_url = "{written}"\n', Given(profile="p")).database_url
        address = parse_address(found)
        assert isinstance(address, SQLiteAddress)
        assert address.path == meant, written
    for kept in ("postgresql://db.example/keys", "mysql://db.example/keys", ":memory:"):
        assert load_from(folder, f'database_url = "{kept}"\n').database_url == kept
    assert load_from(folder, "", Given(database_url="keys.db")).database_url == "keys.db", "typed, it counts from here"


def test_a_wrong_value_in_the_file_is_an_error_even_where_an_option_overrides_it(tmp_path: Path) -> None:
    """Else the file would break on the day the option is left out."""
    assert "'database_url'" in refusal(tmp_path, "database_url = 1", Given(database_url="given.db")).message


def test_a_file_that_was_named_is_read_instead_of_the_folders(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text('actor = "other"')
    assert load_from(tmp_path, 'actor = "usual"', Given(config_file=tmp_path / "other.toml")).actor == "other"


def test_a_file_that_was_named_must_exist(tmp_path: Path) -> None:
    error = refusal(tmp_path, 'actor = "usual"', Given(config_file=tmp_path / "absent.toml"))
    assert str(tmp_path / "absent.toml") in error.message


def test_settings_are_frozen(tmp_path: Path) -> None:
    with pytest.raises(AttributeError):
        load_from(tmp_path).actor = "other"  # type: ignore[misc]  # that is what is tried


@pytest.mark.parametrize(
    "line",
    [
        *["databaseurl = 'hunter2'", "Database_URL = 'hunter2'", "password = 'hunter2'", "[database]\nurl = 'hunter2'"],
        *["lock-timeout = 'hunter2'", "config_file = 'hunter2'"],
    ],
)
def test_an_unknown_setting_is_named_with_its_file_and_the_settings_there_are(tmp_path: Path, line: str) -> None:
    error = refusal(tmp_path, line)
    key = line.partition("\n")[0].partition(" = ")[0].strip("[]'")
    assert error.message == f"{tmp_path / 'config.toml'}: '{key}' is not a setting"
    assert error.hint == (
        "There are: database_url, usage_database_url, server, api_key_file, insecure_plaintext, actor, key_prefix,"
        " connect_timeout, lock_timeout, query_timeout, warn_within, color, check, default_profile, profile."
    )


@pytest.mark.parametrize("key", ["", "lock_timeout ", "postgresql://u:hunter2@h/d"])
def test_an_unknown_setting_that_looks_like_none_is_not_repeated(tmp_path: Path, key: str) -> None:
    """A URL that slipped to the wrong side of the '=' has a password in it."""
    message = refusal(tmp_path, f"'{key}' = 1").message
    assert message.endswith("'a key that is no word' is not a setting")


@pytest.mark.parametrize("key", ['"a\\u001bb"', '"a\\nb"', '"\\u202eb"', '"\\u009b2J"', '"\\u0000"', '"é"'])
def test_an_unknown_setting_cannot_act_on_the_terminal_that_shows_it(tmp_path: Path, key: str) -> None:
    """Promise 12."""
    said = refusal(tmp_path, f"{key} = 1").message.removeprefix(str(tmp_path))
    assert said.isascii()
    assert said.isprintable()


def test_a_raw_key_in_the_place_of_a_setting_is_not_repeated(tmp_path: Path) -> None:
    """Promise 1."""
    raw = keyformat.generate().reveal()
    for line in (f"{raw} = 1", f"actor = '{raw}'", f"key_prefix = '{raw}'", f"[{raw}]", f"database_url = {raw}"):
        error = refusal(tmp_path, line)
        assert raw.rpartition("_")[2][:8] not in error.message + error.hint


ILL_TYPED = {
    "usage_database_url": ["1", "true", "''", "['hunter2']"],
    "database_url": ["1", "true", "['hunter2']", "{hunter2 = 1}", "1979-05-27", "''", "1.5"],
    "actor": [
        *["1", "false", "['hunter2']", "''", "' hunter2'", '"hunter2\\u001b"', '"hunter2\\n"'],
        f"'{'hunter2' * 40}'",
    ],
    "key_prefix": [
        *["1", "true", "['alk']", "''", "'a'", '"al\\n"'],
        *["'Hunter2'", "'hunter2_'", "'hunter2hunter2'", "'1hunter2'", "'hünter2'"],
    ],
    **{
        name: [
            *["true", "false", "'5'", "''", "'hunter2'", "[5]", "{s = 5}", "1979-05-27", "07:32:00"],
            *["0", "-1", "-0.0", "0.0", "3600.1", "3601", "1e400", "9" * 400],
            *["nan", "+nan", "-nan", "inf", "+inf", "-inf"],
        ]
        for name in TIMES
    },
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in ILL_TYPED.items() for value in values])
def test_an_ill_typed_setting_is_named_with_its_file_and_without_its_value(
    tmp_path: Path, key: str, value: str
) -> None:
    error = refusal(tmp_path, f"{key} = {value}")
    assert str(tmp_path / "config.toml") in error.message
    assert f"'{key}'" in error.message
    said = (error.message + error.hint).replace(str(tmp_path), "")
    assert SECRET not in said.lower()
    assert said.isascii()
    assert said.isprintable()


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize(
    ("value", "seconds"), [("1", 1.0), ("0.5", 0.5), ("3600", 3600.0), ("0x10", 16.0), ("1e2", 100.0)]
)
def test_a_time_is_a_number_of_seconds_up_to_an_hour(tmp_path: Path, name: str, value: str, seconds: float) -> None:
    assert getattr(load_from(tmp_path, f"{name} = {value}"), name) == seconds


BROKEN: dict[str, str | bytes] = {
    "no closing quote": f'database_url = "postgresql://user:{SECRET}@host/db',
    "no quotes": f"database_url = postgresql://user:{SECRET}@host/db",
    "no value": "actor =",
    "bad escape": f'database_url = "\\q{SECRET}"',
    "twice": f"actor = '{SECRET}'\nactor = '{SECRET}'",
    "not UTF-8": b"actor = '\xff" + SECRET.encode() + b"'",
    "UTF-16": f"actor = '{SECRET}'".encode("utf-16"),
    "byte order mark": f"\ufeffactor = '{SECRET}'",
    "NUL": f"actor = '{SECRET}\0'",
    "no such day": "lock_timeout = 2020-99-99",
    "binary": bytes(range(256)),
    "an integer of 5,000 digits": "lock_timeout = " + "9" * 5000,
    "deep": "actor = " + "[" * 100_000,
    "deep table": "actor = " + "{a=" * 100_000,
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_file_that_is_not_toml_is_named_without_repeating_what_stands_in_it(tmp_path: Path, what: str) -> None:
    """The parser's own message repeats the line. Exit 7, not 1: the file is at fault, not the program."""
    error = refusal(tmp_path, BROKEN[what])
    assert str(tmp_path / "config.toml") in error.message
    said = (error.message + error.hint).replace(str(tmp_path), "")
    assert SECRET not in said


def taken_or_refused(folder: Path, content: bytes) -> KeyctlError | Settings:
    """Anything raised but a refusal of the configuration fails the test."""
    try:
        return load_from(folder, content)
    except KeyctlError as error:
        if error.code is not Code.CONFIGURATION:
            raise
        return error


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_any_file_gives_settings_or_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    found = taken_or_refused(tmp_path, content)
    if isinstance(found, KeyctlError):
        assert str(tmp_path / "config.toml") in found.message


@pytest.mark.parametrize("key", ILL_TYPED)
@given(value=st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.lists(st.integers()))
def test_any_value_of_any_setting_is_taken_or_refused(tmp_path: Path, key: str, value: object) -> None:
    """Most JSON values are TOML values; null, NaN and a few characters are not, and make a broken file."""
    found = taken_or_refused(tmp_path, f"{key} = {json.dumps(value)}".encode())
    if isinstance(found, KeyctlError):
        assert str(tmp_path / "config.toml") in found.message
    elif key in TIMES:
        assert getattr(found, key) == value
        assert 0 < getattr(found, key) <= 3600


def test_a_folder_in_the_place_of_the_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "config.toml").mkdir()
    assert str(tmp_path / "config.toml") in refusal(tmp_path).message
    assert str(tmp_path) in refusal(tmp_path, given=Given(config_file=tmp_path)).message


def test_a_link_that_leads_to_itself_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "config.toml").symlink_to(tmp_path / "config.toml")
    assert str(tmp_path / "config.toml") in refusal(tmp_path).message


def test_a_file_in_the_place_of_the_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KeyctlError) as caught:
        load(Given(), config_folder=tmp_path / "file", data_folder=tmp_path)
    assert caught.value.code is Code.CONFIGURATION
    assert str(tmp_path / "file") in caught.value.message


@contextmanager
def nobody() -> Iterator[None]:
    """As a user without rights: root reads every file, whatever its mode."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_file_that_may_not_be_read_is_an_error_and_not_taken_for_absent(tmp_path: Path) -> None:
    """Its settings would silently be the defaults: another database than was meant."""
    (tmp_path / "config.toml").write_text('database_url = "other.db"')
    (tmp_path / "config.toml").chmod(0)
    with nobody():
        error = refusal(tmp_path)
    assert str(tmp_path / "config.toml") in error.message
    assert "Permission denied" in error.message


def test_what_is_set_but_empty_is_refused_and_not_taken_for_unset(tmp_path: Path) -> None:
    """In CI a secret that is missing arrives as an empty variable: the default would be another database."""
    for content in (None, "database_url = 'a.db'\nactor = 'b'"):
        assert "empty" in refusal(tmp_path, content, Given(database_url="")).message
        with pytest.raises(KeyctlError) as caught:
            load_from(tmp_path, content, Given(actor=""))
        assert (caught.value.code, caught.value.message) == (Code.INVALID_INPUT, "the actor is empty")


@pytest.mark.parametrize("actor", ["a\nb", "\x1b[2J", "a\u202eb", " a", "x" * 201, "a\udcff", "`id`", "a\\b"])
def test_a_given_actor_is_held_to_the_same_rules_as_any_text(tmp_path: Path, actor: str) -> None:
    """Promise 12: the actor stands in every audit event."""
    with pytest.raises(KeyctlError) as caught:
        load_from(tmp_path, None, Given(actor=actor))
    error = caught.value
    assert error.code is Code.INVALID_INPUT
    assert "the actor" in error.message
    assert (error.message + error.hint).isprintable()


def test_an_actor_is_kept_in_nfc(tmp_path: Path) -> None:
    assert load_from(tmp_path, None, Given(actor="Zoe\u0308")).actor == "Zo\u00eb"
    assert load_from(tmp_path, 'actor = "Zoe\\u0308"').actor == "Zo\u00eb"


DURATIONS = ("rotation_age", "unused", "never_used", "expiring", "suspended", "delivering")


def test_the_table_check_sets_thresholds_and_leaves_the_others_at_their_defaults(tmp_path: Path) -> None:
    assert load_from(tmp_path).check == Thresholds()
    assert load_from(tmp_path, "[check]").check == Thresholds()
    found = load_from(
        tmp_path,
        """
        [check]
        rotation_age = "12w"
        unused = "36h"
        never_used = "45m"
        owners = ["ops", "Zoe\\u0308"]
        ignore = ["no-purpose"]
        """,
    )
    assert found.check == Thresholds(
        rotation_age=timedelta(weeks=12), unused=timedelta(hours=36), never_used=timedelta(minutes=45),
        owners=("ops", "Zo\u00eb"), ignore=("no-purpose",),
    )  # fmt: skip
    assert load_from(tmp_path, 'check = {expiring = "1d", suspended = "36525d"}').check == Thresholds(
        expiring=timedelta(days=1), suspended=timedelta(days=36525)
    )


def test_the_thresholds_have_the_defaults_of_the_readme_and_are_frozen() -> None:
    assert list(CHECK_NAMES) == [*DURATIONS, "owners", "ignore"]
    days = [timedelta(days=number) for number in (90, 90, 30, 14, 30)]
    assert Thresholds() == Thresholds(days[0], days[1], days[2], days[3], days[4], timedelta(hours=1), (), ())
    with pytest.raises(AttributeError):
        Thresholds().unused = timedelta(1)  # type: ignore[misc]  # that is what is tried


ILL_TYPED_THRESHOLDS = {
    **{
        name: [
            *["1", "90", "true", "0.5", "''", "'hunter2'", "'90'", "'0d'", "'-1d'", "'1Y'", "' 1d'", "'1d '"],
            *["'36526d'", "'999999999w'", "'1٠d'", "['1d']", "{d = 1}", "1979-05-27", "nan"],
        ]
        for name in DURATIONS
    },
    "owners": [
        *["'hunter2'", "1", "true", "{}", "[1]", "[['hunter2']]", "['ops', 1]"],
        *["['']", "[' hunter2']", '["hunter2\\u001b"]', f"['{'hunter2' * 40}']"],
    ],
    "ignore": ["'hunter2'", "1", "true", "{}", "[1]", "[['hunter2']]", "['no-purpose', 1]"],
}


@pytest.mark.parametrize("key", ILL_TYPED_THRESHOLDS)
def test_an_ill_typed_threshold_is_named_with_its_table_and_file_and_without_its_value(
    tmp_path: Path, key: str
) -> None:
    for value in ILL_TYPED_THRESHOLDS[key]:
        error = refusal(tmp_path, f"[check]\n{key} = {value}")
        assert error.message.startswith(f"{tmp_path / 'config.toml'}: 'check': '{key}'"), value
        said = (error.message + error.hint).replace(str(tmp_path), "")
        assert SECRET not in said.lower()
        assert said.isascii()
        assert said.isprintable()


@pytest.mark.parametrize("value", ["1", "true", "'90d'", "['unused']", "[{unused = '1d'}]", "1979-05-27"])
def test_a_check_that_is_no_table_is_named(tmp_path: Path, value: str) -> None:
    assert refusal(tmp_path, f"check = {value}").message == f"{tmp_path / 'config.toml'}: 'check' must be a table"


@pytest.mark.parametrize("line", ["rotation-age = '1d'", "Unused = '1d'", "older_than = '1d'", "[check.unused2]"])
def test_an_unknown_threshold_is_named_with_those_there_are(tmp_path: Path, line: str) -> None:
    error = refusal(tmp_path, f"[check]\n{line}")
    key = line.partition(" = ")[0].strip("[]").removeprefix("check.")
    assert error.message == f"{tmp_path / 'config.toml'}: 'check': '{key}' is not a setting"
    assert error.hint == f"There are: {', '.join(CHECK_NAMES)}."


@pytest.mark.parametrize(
    "key", ["", "unused ", "postgresql://u:hunter2@h/d", "a\\u001bb", "a\\nb", "\\u202eb", "é", "x" * 41]
)
def test_an_unknown_threshold_that_looks_like_none_is_not_repeated(tmp_path: Path, key: str) -> None:
    """Promise 12, and a URL that slipped to the wrong side of the '=' has a password in it."""
    message = refusal(tmp_path, f'[check]\n"{key}" = 1').message
    assert message.endswith("'check': 'a key that is no word' is not a setting")


def test_a_raw_key_among_the_thresholds_is_not_repeated(tmp_path: Path) -> None:
    """Promise 1."""
    raw = keyformat.generate().reveal()
    for line in (f"{raw} = 1", f"unused = '{raw}'", f"owners = ['{raw}']", f"[check.{raw}]"):
        error = refusal(tmp_path, f"[check]\n{line}")
        assert raw.rpartition("_")[2][:8] not in error.message + error.hint
