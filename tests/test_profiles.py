"""Which profile is in force, what its values win over, and where each value comes from."""

import json
from pathlib import Path
from typing import Final

import pytest

from alphalens_keyctl import keyformat
from alphalens_keyctl.config_file import COLORS
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.settings import Given, Origin, Settings, Source, load
from tests.support.readme import block

FILE = """
database_url = "/srv/top.db"
lock_timeout = 1
check.unused = "10d"
check.expiring = "3d"

[profile.prod]
database_url = "/srv/prod.db"
color = "red"
check.expiring = "7d"

[profile.test]
actor = "tester"
"""


def settled(folder: Path, content: str, given: Given | None = None, environment: Given | None = None) -> Settings:
    (folder / "config.toml").write_text(content)
    return load(given or Given(), environment, config_folder=folder, data_folder=folder / "data")


def refusal(folder: Path, content: str, given: Given | None = None, environment: Given | None = None) -> KeyctlError:
    with pytest.raises(KeyctlError) as caught:
        settled(folder, content, given, environment)
    assert caught.value.code is Code.CONFIGURATION
    return caught.value


def test_option_environment_and_default_profile_choose_in_this_order(tmp_path: Path) -> None:
    by_default = f'default_profile = "test"\n{FILE}'
    for content, given, environment, profile in (
        (FILE, None, None, None),
        (by_default, None, None, "test"),
        (by_default, None, "prod", "prod"),
        (by_default, "test", "prod", "test"),
        (FILE, "prod", None, "prod"),
    ):
        found = settled(tmp_path, content, Given(profile=given), Given(profile=environment))
        assert found.profile == profile


def test_a_profile_wins_over_the_top_of_the_file_value_by_value(tmp_path: Path) -> None:
    found = settled(tmp_path, FILE, Given(profile="prod"))
    assert (found.database_url, found.lock_timeout, found.color) == ("/srv/prod.db", 1.0, "red")
    assert (found.check.unused.days, found.check.expiring.days) == (10, 7)
    assert settled(tmp_path, FILE, Given(profile="test")).database_url == "/srv/top.db"
    assert settled(tmp_path, FILE).color is None


def test_the_environment_wins_over_a_profile_unless_an_option_names_the_profile(tmp_path: Path) -> None:
    """Who types `--profile prod` must not work on the database that an earlier `export` left behind."""
    exported = Given(database_url="exported.db", actor="ci")
    assert settled(tmp_path, FILE, Given(profile="prod"), exported).database_url == "/srv/prod.db"
    assert settled(tmp_path, FILE, Given(profile="prod"), exported).actor == "ci", "the profile names no actor"
    by_variable = Given(database_url="exported.db", profile="prod")
    assert settled(tmp_path, FILE, None, by_variable).database_url == "exported.db"
    assert settled(tmp_path, f'default_profile = "prod"\n{FILE}', None, exported).database_url == "exported.db"
    both = Given(database_url="given.db", profile="prod")
    assert settled(tmp_path, FILE, both, exported).database_url == "given.db"


def test_the_uses_of_one_database_never_go_where_another_ones_go(tmp_path: Path) -> None:
    """Promise 8: they would be in nobody's log."""
    content = f'usage_database_url = "/srv/top-uses.db"\n{FILE}'
    exported = Given(database_url="exported.db", usage_database_url="exported-uses.db")
    assert settled(tmp_path, content).usage_database_url == "/srv/top-uses.db"
    assert settled(tmp_path, content, Given(profile="test")).usage_database_url == "/srv/top-uses.db"
    assert settled(tmp_path, content, Given(profile="prod")).usage_database_url is None
    assert settled(tmp_path, content, None, exported).usage_database_url == "exported-uses.db"
    assert settled(tmp_path, content, Given(profile="prod"), exported).usage_database_url is None
    assert settled(tmp_path, content, Given(database_url="given.db"), exported).usage_database_url is None
    only_uses = Given(usage_database_url="exported-uses.db")
    assert settled(tmp_path, content, None, only_uses).usage_database_url == "exported-uses.db"


def test_each_value_says_where_it_comes_from(tmp_path: Path) -> None:
    environment = Given(actor="ci", profile="prod")
    found = settled(tmp_path, FILE, Given(database_url="given.db"), environment)
    path = str(tmp_path / "config.toml")
    assert {
        name: found.source(name)
        for name in ("database_url", "actor", "color", "lock_timeout", "key_prefix", "profile", "check.expiring")
    } == {
        "database_url": Source(Origin.OPTION, "--database"),
        "actor": Source(Origin.ENVIRONMENT, "ALPHALENS_KEYCTL_ACTOR"),
        "color": Source(Origin.PROFILE, "[profile.prod]"),
        "lock_timeout": Source(Origin.FILE, path),
        "key_prefix": Source(Origin.DEFAULT),
        "profile": Source(Origin.ENVIRONMENT, "ALPHALENS_KEYCTL_PROFILE"),
        "check.expiring": Source(Origin.PROFILE, "[profile.prod]"),
    }
    assert found.source("check.unused") == Source(Origin.FILE, path)
    assert found.source("check.owners") == Source(Origin.DEFAULT)


def test_an_unknown_profile_is_an_error_that_lists_those_there_are(tmp_path: Path) -> None:
    for error in (
        refusal(tmp_path, FILE, Given(profile="prdo")),
        refusal(tmp_path, FILE, None, Given(profile="prdo")),
        refusal(tmp_path, f'default_profile = "prdo"\n{FILE}'),
    ):
        assert "there is no profile 'prdo'" in error.message
        assert error.hint == "There are: prod, test."
    assert str(tmp_path / "config.toml") in refusal(tmp_path, f'default_profile = "prdo"\n{FILE}').message
    assert "[profile.NAME]" in refusal(tmp_path, "lock_timeout = 1", Given(profile="prod")).hint
    with pytest.raises(KeyctlError, match="there is no profile 'prod'"):
        load(Given(profile="prod"), config_folder=None, data_folder=tmp_path)


def test_a_profile_that_is_set_but_empty_is_refused_and_not_taken_for_unset(tmp_path: Path) -> None:
    assert "empty" in refusal(tmp_path, FILE, None, Given(profile="")).message
    assert "empty" in refusal(tmp_path, FILE, Given(profile="")).message


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("colour = 'hunter2'", "'colour' is not a setting"),
        ("profile = 'hunter2'", "'profile' is not a setting"),
        ("default_profile = 'hunter2'", "'default_profile' is not a setting"),
        ("lock_timeout = 'hunter2'", "'lock_timeout' must be a number of seconds above 0, 3600 at most"),
        ("color = 'hunter2'", "'color' is not a colour that there is"),
        ("color = 1", "'color' is not a colour that there is"),
        ("warn_within = 'hunter2'", "'warn_within' must be a duration: 90d, 12w"),
        ("check.hunter = 1", "'check': 'hunter' is not a setting"),
        ("check.unused = 'hunter2'", "'check': 'unused' must be a duration: 90d, 12w"),
    ],
)
def test_what_is_wrong_in_a_profile_is_named_with_file_and_table_also_where_another_is_in_force(
    tmp_path: Path, line: str, problem: str
) -> None:
    """Else the file would break on the day the profile is used."""
    error = refusal(tmp_path, f"{FILE}\n[profile.other]\n{line}", Given(profile="prod"))
    assert error.message == f"{tmp_path / 'config.toml'}: [profile.other]: {problem}"
    assert "hunter2" not in error.message + error.hint


def test_the_colours_are_a_closed_list_that_the_error_gives(tmp_path: Path) -> None:
    for color in COLORS:
        assert settled(tmp_path, f'color = "{color}"').color == color
    assert refusal(tmp_path, 'color = "bold red"').hint == f"There are: {', '.join(COLORS)}."


@pytest.mark.parametrize(
    "line", ["profile = 1", "profile = ['prod']", "[profile]\nprod = 'hunter2'", "[profile.'a b']", "[profile.'']"]
)
def test_what_is_no_table_of_settings_is_no_profile(tmp_path: Path, line: str) -> None:
    error = refusal(tmp_path, line)
    assert str(tmp_path / "config.toml") in error.message
    assert "hunter2" not in error.message + error.hint


def test_a_name_that_no_profile_can_have_is_not_repeated(tmp_path: Path) -> None:
    """Promises 1 and 12: a raw key may have slipped into the variable, and the error is shown on a terminal."""
    for name in ("\x1b[2J", "a\nb", "\u202eb", " prdo", "x" * 41, keyformat.generate().reveal()):
        error = refusal(tmp_path, FILE, None, Given(profile=name))
        assert error.message == "there is no profile of that name"
        assert name not in error.hint
        assert name not in refusal(tmp_path, f"[profile.{json.dumps(name)}]").message


def test_warn_within_is_a_duration_or_nothing(tmp_path: Path) -> None:
    assert settled(tmp_path, "").warn_within.days == 14
    assert settled(tmp_path, 'warn_within = "4w"').warn_within.days == 28
    assert not settled(tmp_path, 'warn_within = "0"').warn_within


def test_the_readmes_profiles_are_read(tmp_path: Path) -> None:
    found = settled(tmp_path, block("profiles", "toml"), Given(profile="prod"))
    assert (found.database_url, found.color, found.lock_timeout) == ("postgresql://ops@db.example/keys", "red", 10.0)
    assert settled(tmp_path, block("profiles", "toml")).profile == "staging"


SERVER: Final = """
database_url = "top.db"
[profile.far]
server = "https://keys.example"
api_key_file = "~/far.key"
[profile.near]
database_url = "near.db"
"""


def test_a_server_and_a_database_take_each_others_place(tmp_path: Path) -> None:
    """Whatever says more nearly where the keys are, counts alone."""
    far, near = Given(profile="far"), Given(profile="near")
    by_server = Given(server="https://other.example")
    for given, environment, server, database in (
        (far, None, "https://keys.example", None), (near, None, None, "near.db"), (Given(), None, None, "top.db"),
        (by_server, near, "https://other.example", None), (Given(), by_server, "https://other.example", None),
        (Given(database_url="x.db", profile="far"), None, None, "x.db"),
        (far, Given(database_url="x.db"), "https://keys.example", None),
        (Given(), Given(database_url="x.db", profile="far"), None, "x.db"),
    ):  # fmt: skip
        found = settled(tmp_path, SERVER, given, environment)
        assert found.server == server, (given, environment)
        assert (found.is_default_database, found.database_url.endswith(database or "keys.db")) == (
            database is None,
            True,
        )
    assert settled(tmp_path, SERVER, far).source("server") == Source(Origin.PROFILE, "[profile.far]")
    assert settled(tmp_path, SERVER, far).api_key_file == Path("~/far.key").expanduser()


def test_one_place_names_no_server_beside_a_database(tmp_path: Path) -> None:
    both = Given(server="https://keys.example", database_url="x.db")
    assert "both a server and a database" in refusal(tmp_path, "", None, both).message
    assert (
        "[profile.a]"
        in refusal(tmp_path, '[profile.a]\nserver = "https://x"\ndatabase_url = "x"', Given(profile="a")).message
    )
    with pytest.raises(KeyctlError) as caught:
        settled(tmp_path, "", both)
    assert caught.value.code is Code.USAGE
    for line in (
        'server = "keys.example"',
        "server = 7",
        'server = ""',
        'api_key_file = "far.key"',
        "api_key_file = 7",
    ):
        refusal(tmp_path, line)
    refusal(tmp_path, 'insecure_plaintext = "yes"')
