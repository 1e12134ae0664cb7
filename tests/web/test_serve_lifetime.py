"""How `serve` starts, listens, loses its database and ends.

Promises 8, 9 and 11.
"""

import http.client
import os
import signal
import socket
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from tests.services.postgresql import Server
from tests.support.commands import Keyctl
from tests.support.databases import on_postgresql
from tests.support.waiting import wait_for
from tests.support.web import LIMIT, Load, Served, send, serving, uses, with_key


@pytest.mark.parametrize(
    ("number", "options"),
    [
        (signal.SIGTERM, []),
        # How the server is told to end is all that differs.
        pytest.param(signal.SIGINT, [], marks=pytest.mark.one_database),
        (signal.SIGTERM, ["--workers", "2"]),
    ],
)
def test_stopped_under_load_it_exits_0_and_no_accepted_use_is_missing(
    number: signal.Signals, options: list[str], keyctl: Keyctl
) -> None:
    """Promise 8."""
    raw_key, key_id = keyctl.create("good")
    with serving(keyctl, *options) as served:
        load = Load(served.address, raw_key)
        wait_for(lambda: load.accepted > 300)
        served.process.kill(number)
        result = served.process.wait()
        load.stop()
    assert (result.status, result.stdout) == (0, "")
    assert load.others == set()
    rows = uses(keyctl, "ok")
    # A use may be written whose answer did not get out any more; never the other way round.
    assert load.accepted <= len(rows) <= load.accepted + load.broken
    assert {row["key_id"] for row in rows} == {key_id}
    (key,) = keyctl.keys()
    assert key["use_count"] == len(rows)


@pytest.mark.one_database
def test_on_a_unix_socket_it_has_the_right_mode_and_peers_are_trusted_by_the_word_unix(
    keyctl: Keyctl, tmp_path: Path
) -> None:
    raw_key, _ = keyctl.create("good")
    place = tmp_path / "s"
    forwarded = ("X-Forwarded-For", "203.0.113.9")
    for options in (
        ["--trusted-proxy", "unix"],
        ["--trusted-proxy", "0.0.0.0/0"],
        ["--trusted-proxy=unix", "--workers=2"],
    ):
        with serving(keyctl, "--unix-socket", str(place), *options) as served:
            found = place.stat()
            assert stat.S_ISSOCK(found.st_mode)
            assert stat.S_IMODE(found.st_mode) == 0o660
            assert served.ask("/", with_key(raw_key, forwarded)).status == 204
            assert served.ask("/").status == 401
        # Nothing is left behind.
        assert not place.exists()
    assert [row["client_ip"] for row in uses(keyctl, "ok")] == ["203.0.113.9", None, "203.0.113.9"]


@pytest.mark.one_database
def test_a_socket_left_behind_is_replaced_and_anything_else_is_left_alone(keyctl: Keyctl, tmp_path: Path) -> None:
    left = tmp_path / "left"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(left))
    with serving(keyctl, "--unix-socket", str(left)) as served:
        assert served.ask("/").status == 401
        # A second server on the same socket is told so, and the first goes on.
        second = keyctl("serve", "--unix-socket", str(left))
        assert second.status == 7
        assert "is taken" in second.stderr
        assert served.ask("/").status == 401
    file = tmp_path / "file"
    file.write_text("mine")
    refused = keyctl("serve", "--unix-socket", str(file))
    assert refused.status == 7
    assert "is no socket" in refused.stderr
    assert file.read_text() == "mine"
    assert keyctl("serve", "--unix-socket", str(tmp_path / "none" / "s")).status == 7
    assert keyctl("serve", "--unix-socket", "x" * 200).status == 7


@pytest.mark.one_database
def test_a_port_that_is_taken_and_a_host_that_is_not_ours_are_errors_with_a_hint(keyctl: Keyctl) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        for options in (["--workers", "1"], ["--workers", "2"]):
            result = keyctl("serve", "--port", str(other.getsockname()[1]), *options)
            assert result.status == 7
            assert "is taken" in result.stderr
            assert "hint:" in result.stderr
    for host in ("192.0.2.1", "no such host.invalid", "999.1.1.1", "x" * 300):
        assert keyctl("serve", "--port", "0", "--host", host).status == 7, host


@pytest.mark.parametrize(
    "options",
    [
        ["--port", "70000"], ["--port", "-1"], ["--workers", "0"], ["--workers", "1000"], ["--max-staleness", "-1"],
        ["--max-staleness", "nan"], ["--max-staleness", "inf"], ["--usage", "off"], ["--trusted-proxy", "everyone"],
        ["--trusted-proxy", ""], ["--unix-socket", "/tmp/s", "--port", "8377"],
        ["--unix-socket", "/tmp/s", "--host", "127.0.0.1"], ["extra"],
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_bad_input_and_nothing_is_listened_on(
    options: list[str], fresh_keyctl: Keyctl
) -> None:
    fresh_keyctl.create("first")
    result = fresh_keyctl("serve", *options)
    assert result.status == 2, result
    assert "listening" not in result.stderr


def test_without_a_database_it_does_not_start_and_makes_none(fresh_keyctl: Keyctl) -> None:
    """Promise 9."""
    result = fresh_keyctl("serve", "--port", "0")
    assert result.status == 7
    assert "there is no database" in result.stderr
    assert not list(fresh_keyctl.home.rglob("*.db"))
    unreachable = fresh_keyctl("--database", "postgresql://keyctl:s3cret@127.0.0.1:9/x", "serve", "--port", "0")
    assert unreachable.status == 7
    assert "s3cret" not in unreachable.stderr


@pytest.mark.one_database
def test_without_the_extra_it_says_what_to_install(keyctl: Keyctl) -> None:
    result = keyctl("serve", "--port", "0", before=[("tests.support.faults", "uninstall", ["uvicorn"])])
    assert result.status == 7
    assert "alphalens-keyctl[server]" in result.stderr


@pytest.mark.one_database
def test_on_an_address_of_ipv6_clients_of_ipv6_are_served(keyctl: Keyctl) -> None:
    raw_key, _ = keyctl.create("good")
    with serving(keyctl, "--host", "::1") as served:
        connection = http.client.HTTPConnection("::1", served.address.port, timeout=LIMIT)
        assert send(connection, headers=with_key(raw_key)).status == 204
        connection.close()
    assert [row["client_ip"] for row in uses(keyctl)] == ["::1"]


@pytest.mark.one_database
def test_a_worker_that_dies_is_replaced_and_none_outlives_a_supervisor_that_was_killed(keyctl: Keyctl) -> None:
    raw_key, _ = keyctl.create("good")
    with serving(keyctl, "--workers", "2") as served:
        wait_for(lambda: len(workers(served)) == 2)
        assert served.ask("/", with_key(raw_key)).status == 204
        victim, _ = workers(served)
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: len(workers(served)) == 2 and victim not in workers(served))
        assert served.ask("/", with_key(raw_key)).status == 204
        left = workers(served)
        served.process.kill(signal.SIGKILL)
        served.process.wait()
        wait_for(lambda: not any(Path(f"/proc/{worker}/cmdline").exists() for worker in left))
        with pytest.raises(OSError):  # noqa: PT011  # refused or reset
            served.ask("/")


@on_postgresql
def test_the_databases_password_is_in_no_argument_and_no_variable_of_a_worker(keyctl: Keyctl, tmp_path: Path) -> None:
    """Promise 1 in spirit: the URL comes from a file, and stays off the process list."""
    marker = "s3cret-in-a-url"
    configuration = tmp_path / "config.toml"
    assert keyctl.database_url is not None
    url = keyctl.database_url.replace("keyctl@", f"keyctl:{marker}@", 1)  # the test server trusts anybody
    assert marker in url
    configuration.write_text(f'database_url = "{url}"\n')
    raw_key, _ = keyctl.create("good")
    del keyctl.environment["ALPHALENS_KEYCTL_DATABASE_URL"]
    with serving(keyctl, "--workers", "2", before=["--config", str(configuration)]) as served:
        wait_for(lambda: len(workers(served)) == 2)
        assert served.ask("/", with_key(raw_key)).status == 204
        for worker in workers(served):
            for what in ("cmdline", "environ"):
                assert marker not in Path(f"/proc/{worker}/{what}").read_bytes().decode("latin-1")
        assert marker not in served.log_text()


def workers(served: Served) -> list[int]:
    """The processes that serve, whole: the helper that multiprocessing starts beside them is none."""
    leader = served.process.pid
    children = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
    found = []
    for child in children:
        with suppress(FileNotFoundError):  # it has ended meanwhile
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found


def test_while_postgresql_is_away_it_is_not_ready_and_refuses_and_it_comes_back_alone(
    own_server: Server, own_keyctl: Keyctl
) -> None:
    """Promise 9."""
    raw_key, _ = own_keyctl.create("good")
    with serving(own_keyctl) as served:
        assert served.ask("/readyz").status == 204
        assert served.ask("/", with_key(raw_key)).status == 204
        own_server.stop()
        wait_for(lambda: served.ask("/readyz").status == 503)
        assert served.ask("/healthz").status == 204
        # What was read a moment ago is believed a moment longer; each of these uses counts as well.
        answers = iter(lambda: served.ask("/", with_key(raw_key)).status, 401)
        accepted = sum(status == 204 for status in answers)
        own_server.start()
        wait_for(lambda: served.ask("/readyz").status == 204)
        wait_for(lambda: served.ask("/", with_key(raw_key)).status == 204)
        assert served.stop().status == 0
    assert "Traceback" not in served.log_text()
    assert len(uses(own_keyctl, "ok")) == 2 + accepted


@pytest.mark.parametrize("workers", ["1", "2"])
def test_uses_that_cannot_be_written_at_the_end_are_said_to_be_lost(
    workers: str, own_server: Server, own_keyctl: Keyctl
) -> None:
    """Promise 8: nothing is dropped in silence."""
    raw_key, _ = own_keyctl.create("good")
    with serving(own_keyctl, "--workers", workers) as served:
        assert served.ask("/", with_key(raw_key)).status == 204
        own_server.stop()
        result = served.stop()
    assert result.status == 7
    assert "uses are lost" in served.log_text()
    own_server.start()  # for the next test, and to be stopped


@pytest.mark.one_database
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_that_cannot_start_says_so_and_ends(workers: str, keyctl: Keyctl, tmp_path: Path) -> None:
    """Promise 11: workers that cannot start are not started for ever."""
    (tmp_path / "uvloop.py").write_text("raise SystemExit(1)  # as uvicorn itself gives up\n")
    variables = {"PYTHONPATH": f"{tmp_path}:{keyctl.environment['PYTHONPATH']}"}
    result = keyctl.spawn("serve", "--port", "0", "--workers", workers, environment=variables)
    assert result.status == 7
    assert "the server did not start" in result.stderr
