"""The README's crontab and systemd units: parsed, and each command run as cron runs it, twice, on both databases.

As cron runs it: `/bin/sh -c`, a home and a PATH and nothing else in the environment, no terminal, and the
database in `config.toml`.
"""

import configparser
import json
import re
import shlex
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import select, update

from alphalens_keyctl.database import Database
from alphalens_keyctl.models import key_table
from tests.support.commands import LIMIT, Keyctl
from tests.support.moments import DAY
from tests.support.readme import block, section

# crontab(5): each field with the numbers it takes.
FIELDS: Final = {"minute": (0, 59), "hour": (0, 23), "day of month": (1, 31), "month": (1, 12), "day of week": (0, 7)}


def from_cron() -> str:
    return section("From cron")


def crontab() -> list[str]:
    """The lines of the crontab that are no comments."""
    return [line for line in block("crontab", "crontab").splitlines() if not line.startswith("#")]


def command_of(line: str) -> str:
    return line.split(maxsplit=5)[5]


SUSPEND, REVOKE, EXPIRING = map(command_of, crontab())


class Cron:
    """Runs commands as cron does."""

    def __init__(self, keyctl: Keyctl) -> None:
        folder = keyctl.home / ".config" / "alphalens-keyctl"
        folder.mkdir(parents=True)
        (folder / "config.toml").write_text(f"database_url = {json.dumps(keyctl.database_url)}\n")
        (programs := keyctl.home / "programs").mkdir()
        keyctl.put_program(programs)
        self._environment = {"HOME": str(keyctl.home), "PATH": f"{programs}:/usr/bin:/bin"}

    def __call__(self, command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["/bin/sh", "-c", command], env=self._environment, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=LIMIT, check=False,
        )  # fmt: skip


@pytest.fixture
def cron(keyctl: Keyctl) -> Cron:
    return Cron(keyctl)


def make(keyctl: Keyctl, database: Database, name: str, **ago: int) -> str:
    """A key whose times lie so many days back, or ahead where negative. Returns its id."""
    key_id = keyctl.create(name)[1]
    now = datetime.now(UTC)
    values: dict[str, Any] = {column: now - days * DAY for column, days in ago.items()}
    if values:
        with database.writing() as tx:
            tx.execute(update(key_table).where(key_table.c.id == key_id).values(**values))
    return key_id


def statuses(database: Database) -> dict[str, str]:
    with database.reading() as connection:
        return {row[0]: row[1] for row in connection.execute(select(key_table.c.name, key_table.c.status))}


def events(keyctl: Keyctl, action: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = keyctl.ok("audit", "--action", action, "--json").json
    return found


def test_the_crontab_has_five_valid_fields_a_line_and_no_percent_sign() -> None:
    """cron takes a bare % for the end of the command."""
    for line in crontab():
        fields = line.split(maxsplit=5)[:5]
        for field, (name, (least, most)) in zip(fields, FIELDS.items(), strict=True):
            assert field == "*" or least <= int(field) <= most, (line, name)
        assert shlex.split(command_of(line))[0] == "alphalens-keyctl"
        assert "%" not in line


def test_the_nightly_line_suspends_what_nobody_used_and_nothing_else_once(
    keyctl: Keyctl, database: Database, cron: Cron
) -> None:
    idle = make(keyctl, database, "idle", last_used_at=91, activated_at=400)
    never = make(keyctl, database, "never", activated_at=91, created_at=91)
    make(keyctl, database, "busy", last_used_at=89, activated_at=400)
    make(keyctl, database, "new")
    first = cron(SUSPEND)
    assert first.returncode == 0, first.stderr
    assert sorted(first.stdout.splitlines()) == [
        f"Suspended key 'idle' ({idle}).",
        f"Suspended key 'never' ({never}).",
    ]
    assert first.stderr == ""
    wanted = {"idle": "suspended", "never": "suspended", "busy": "active", "new": "active"}
    assert statuses(database) == wanted
    recorded = events(keyctl, "key.suspend")
    assert {(event["actor"], event["detail"]["reason"], event["key_id"]) for event in recorded} == {
        ("cron", "unused", idle), ("cron", "unused", never),
    }  # fmt: skip
    again = cron(SUSPEND)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", ""), "no mail of what was suspended before"
    assert statuses(database) == wanted
    assert len(events(keyctl, "key.suspend")) == 2


@pytest.mark.one_database
def test_the_nightly_line_does_nothing_where_nothing_fits_and_sends_no_mail(
    keyctl: Keyctl, database: Database, cron: Cron
) -> None:
    for command in (SUSPEND, REVOKE):
        empty = cron(command)
        assert (empty.returncode, empty.stdout, empty.stderr) == (0, "", "")
    make(keyctl, database, "new")
    log = keyctl.ok("audit", "--jsonl").stdout
    for command in (SUSPEND, REVOKE, SUSPEND, REVOKE):
        done = cron(command)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert keyctl.ok("audit", "--jsonl").stdout == log


def test_a_night_on_which_too_many_fit_changes_nothing_and_is_an_error(
    keyctl: Keyctl, database: Database, cron: Cron, tmp_path: Path
) -> None:
    """The clock was wrong, or recording of uses was broken: that must not turn the whole fleet off."""
    (tmp_path / "fleet.csv").write_text("name\n" + "".join(f"service {number}\n" for number in range(21)))
    keyctl.ok("create", "--from", str(tmp_path / "fleet.csv"))
    with database.writing() as tx:
        tx.execute(update(key_table).values(activated_at=datetime.now(UTC) - 100 * DAY))
    log = keyctl.ok("audit", "--jsonl").stdout
    done = cron(SUSPEND)
    assert (done.returncode, done.stdout) == (6, "")
    assert done.stderr.startswith("error: the filters select 21 keys, and at most 20 may change at once;")
    assert set(statuses(database).values()) == {"active"}
    assert keyctl.ok("audit", "--jsonl").stdout == log


def test_a_month_later_the_second_line_revokes_what_nobody_resumed(
    keyctl: Keyctl, database: Database, cron: Cron
) -> None:
    for name in ("gone", "missed", "young"):
        make(keyctl, database, name, activated_at=100, created_at=100)
    make(keyctl, database, "in use")
    assert cron(SUSPEND).returncode == 0
    with database.writing() as tx:
        month_ago = datetime.now(UTC) - 31 * DAY
        tx.execute(update(key_table).where(key_table.c.name.in_(["gone", "missed"])).values(suspended_at=month_ago))
    keyctl.ok("resume", "missed")
    first = cron(REVOKE)
    assert first.returncode == 0, first.stderr
    assert re.fullmatch(r"Revoked key 'gone' \([0-9A-Za-z]{12}\)\.\n", first.stdout)
    wanted = {"gone": "revoked", "missed": "active", "young": "suspended", "in use": "active"}
    assert statuses(database) == wanted
    (event,) = events(keyctl, "key.revoke")
    assert (event["actor"], event["detail"]["reason"]) == ("cron", "suspended for 30 days")
    again = cron(REVOKE)
    assert (again.returncode, again.stdout) == (0, "")
    assert statuses(database) == wanted
    assert keyctl("audit", "verify").status == 0


@pytest.mark.one_database
def test_the_weekly_line_lists_what_ends_within_two_weeks_and_nothing_else(
    keyctl: Keyctl, database: Database, cron: Cron
) -> None:
    assert cron(EXPIRING).stdout == "", "no mail where there is nothing to say"
    make(keyctl, database, "soon", expires_at=-13)
    make(keyctl, database, "later", expires_at=-15)
    make(keyctl, database, "over", expires_at=1)
    make(keyctl, database, "never")
    for _ in range(2):
        done = cron(EXPIRING)
        assert (done.returncode, done.stderr) == (0, "")
        assert [line.split("\t")[0] for line in done.stdout.splitlines()] == ["soon"]


def test_a_database_that_is_away_is_said_to_cron_and_exits_7(keyctl: Keyctl, cron: Cron) -> None:
    folder = keyctl.home / ".config" / "alphalens-keyctl"
    (folder / "config.toml").write_text('database_url = "postgresql://nobody@127.0.0.1:1/none"\nconnect_timeout = 1\n')
    for command in (SUSPEND, REVOKE, EXPIRING):
        done = cron(command)
        assert (done.returncode, done.stdout) == (7, "")
        assert "error" in done.stderr


def units() -> tuple[configparser.ConfigParser, configparser.ConfigParser]:
    """The service and the timer."""
    found = []
    for text in re.findall(r"```ini\n(.*?)```", from_cron(), re.S):
        unit = configparser.ConfigParser(interpolation=None)
        unit.optionxform = str  # type: ignore[assignment,method-assign]  # systemd's names have capitals
        unit.read_string(text)
        found.append(unit)
    service, timer = found
    return service, timer


def test_the_units_of_systemd_are_a_oneshot_service_and_its_timer() -> None:
    service, timer = units()
    assert service.sections() == ["Service"]
    assert dict(service["Service"])["Type"] == "oneshot"
    assert set(service["Service"]) == {"Type", "ExecStart"}
    assert timer.sections() == ["Timer", "Install"]
    assert timer["Timer"]["OnCalendar"] in ("hourly", "daily", "weekly")
    assert timer["Timer"]["Persistent"] == "true"
    assert re.fullmatch(r"[0-9]+min", timer["Timer"]["RandomizedDelaySec"])
    assert timer["Install"]["WantedBy"] == "timers.target"
    # A timer starts the service of its own name.
    paths = re.findall(r"^# /etc/systemd/system/(.*)\.(service|timer)$", from_cron(), re.M)
    assert [kind for _, kind in paths] == ["service", "timer"]
    assert len({name for name, _ in paths}) == 1


@pytest.mark.one_database
def test_the_service_of_systemd_fails_while_a_key_is_about_to_end_without_a_successor(
    keyctl: Keyctl, database: Database, cron: Cron
) -> None:
    command = units()[0]["Service"]["ExecStart"]
    assert not set(command) & set("%$;|&<>\"'\\"), "systemd would read more into it than a shell does"
    make(keyctl, database, "never ends")
    assert cron(command).returncode == 0
    key_id = make(keyctl, database, "ending", expires_at=-13)
    log = keyctl.ok("audit", "--jsonl").stdout
    for _ in range(2):
        done = cron(command)
        assert done.returncode == 5
        assert f"ending ({key_id}, active)" in done.stdout
        assert "never ends" not in done.stdout
    assert keyctl.ok("audit", "--jsonl").stdout == log
    keyctl.ok("rotate", "ending", "--expires", "90d")
    assert cron(command).returncode == 0
