"""Profiles, `config` and the question before a change, as a person meets them."""

from pathlib import Path

import pytest

from tests.support.commands import Keyctl
from tests.support.terminal import Session, on_terminal
from tests.support.web import serving, with_key


def configure(keyctl: Keyctl, content: str) -> Path:
    folder = keyctl.home / ".config" / "alphalens-keyctl"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "config.toml"
    file.write_text(content)
    return file


def settings(keyctl: Keyctl, *options: str, **environment: str) -> dict[str, tuple[object, str, str | None]]:
    document = keyctl.ok(*options, "config", "--json", environment=environment).json
    return {each["name"]: (each["value"], each["source"], each["from"]) for each in document["settings"]}


def test_a_profile_that_an_option_names_works_on_its_database_whatever_was_exported(keyctl: Keyctl) -> None:
    """The other way round a person would revoke keys in a database that the command line does not name."""
    url = keyctl.database_url
    configure(keyctl, f'[profile.prod]\ndatabase_url = "{url}"\n')
    keyctl.create("billing")
    other = {"ALPHALENS_KEYCTL_DATABASE_URL": "other.db"}
    [key] = keyctl.ok("--profile", "prod", "list", "--json", environment=other).json
    assert key["name"] == "billing"
    by_variable = other | {"ALPHALENS_KEYCTL_PROFILE": "prod"}
    assert keyctl("list", "--json", environment=by_variable).error["code"] == "database_missing"
    error = keyctl("--profile", "prdo", "list", "--json").error
    assert (error["code"], error["hint"]) == ("configuration_invalid", "There are: prod.")


def test_config_shows_every_setting_and_its_source_and_no_password(fresh_keyctl: Keyctl) -> None:
    file = configure(
        fresh_keyctl,
        'lock_timeout = 2.5\n[profile.prod]\ncolor = "red"\n'
        'database_url = "postgresql://ops:hunter2@db.example/keys"\n',
    )
    found = settings(fresh_keyctl, "--profile", "prod", ALPHALENS_KEYCTL_ACTOR="ci")
    assert found["database_url"] == ("postgresql://ops@db.example/keys", "profile", "[profile.prod]")
    assert found["lock_timeout"] == (2.5, "file", str(file))
    assert found["actor"] == ("ci", "environment", "ALPHALENS_KEYCTL_ACTOR")
    assert found["profile"] == ("prod", "option", "--profile")
    assert found["warn_within"] == ("14d", "default", None)
    assert found["check.owners"] == ([], "default", None)
    text = fresh_keyctl.ok("--profile", "prod", "config").stdout
    assert "color\tred\t[profile.prod]\n" in text
    assert "lock_timeout\t2.5\tconfig.toml\n" in text
    assert "hunter2" not in text
    unreadable = settings(fresh_keyctl, "--database", "postgresql://u:hunter2@h:hunter2/d")
    assert unreadable["database_url"][0] == "cannot be read: the URL's port is not a number"
    assert not (fresh_keyctl.home / ".local").exists(), "config opens and makes no database"


def test_a_broken_configuration_stops_no_help(fresh_keyctl: Keyctl) -> None:
    configure(fresh_keyctl, "nonsense")
    assert fresh_keyctl("config").status == 7
    assert "Usage:" in fresh_keyctl.ok("revoke", "--help").stdout


@pytest.mark.one_database
@pytest.mark.parametrize("color", [True, False])
def test_a_question_says_profile_and_database_in_the_colour_of_the_profile(keyctl: Keyctl, color: bool) -> None:
    """Promise 10: without --no-color alone."""
    configure(keyctl, f'[profile.prod]\ndatabase_url = "{keyctl.database_url}"\ncolor = "red"\n')
    keyctl.create("billing")
    options = [] if color else ["--no-color"]
    session = Session(keyctl, *options, "--profile", "prod", "revoke", "billing")
    session.wait_for("[y/N]:")
    session.type(b"n\n")
    shown = session.end()
    path = str(keyctl.database_url).removeprefix("sqlite:///")
    assert f"Profile prod, database {path}".replace(" ", "") in "".join(shown.text.split())
    assert (b"\x1b[1;31mProfile prod" in shown.raw) == color
    assert b"\x1b[" in shown.raw if color else b"\x1b[" not in shown.raw


@pytest.mark.one_database
def test_a_question_by_filter_says_where_a_database_comes_from_that_is_not_the_profiles(keyctl: Keyctl) -> None:
    configure(keyctl, 'default_profile = "prod"\n[profile.prod]\ndatabase_url = "prod.db"\n')
    for name in ("first", "second"):
        keyctl.create(name)
    session = Session(keyctl, "suspend", "--name", "f*", width=200)
    session.wait_for("[y/N]:")
    session.type(b"n\n")
    assert "(from ALPHALENS_KEYCTL_DATABASE_URL)" in session.end().text
    session = Session(keyctl, "--profile", "prod", "--database", str(keyctl.database_url), "revoke", "first", width=200)
    session.wait_for("[y/N]:")
    session.type(b"y\n")
    shown = session.end()
    assert "(from --database)" in shown.text
    assert shown.status == 0


@pytest.mark.parametrize("width", [40, 120])
def test_config_fits_the_screen_and_says_every_source(fresh_keyctl: Keyctl, width: int) -> None:
    configure(fresh_keyctl, 'default_profile = "prod"\n[profile.prod]\ncolor = "red"\n')
    shown = on_terminal(fresh_keyctl, "config", width=width)
    assert shown.status == 0
    assert all(len(line) <= width or " " not in line for line in shown.lines), "a path alone may be wider"
    assert "[profile.prod]" in next(line for line in shown.lines if line.startswith("color"))


@pytest.mark.one_database
@pytest.mark.parametrize("workers", ["1", "2"])
def test_verify_and_serve_work_by_the_file_that_an_option_names_alone(
    keyctl: Keyctl, tmp_path: Path, workers: str
) -> None:
    """The file in its usual place is read only where no other was named."""
    raw, _ = keyctl.create("billing")
    configure(keyctl, "this is no TOML")
    named = tmp_path / "named.toml"
    named.write_text("lock_timeout = 2.5\n")
    assert keyctl("--config", str(named), "verify", "--json", stdin=raw.encode()).json["allowed"]
    with serving(keyctl, "--workers", workers, before=("--config", str(named))) as served:
        assert served.ask("/verify", with_key(raw)).status == 204
