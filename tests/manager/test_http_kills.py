"""Promises 2 and 3 when the client or the server of `create` and `rotate` is killed between any two of their bytes; all
of these kills are run by `python -m tests.support.http_kills`, of which this takes a stride."""

from pathlib import Path

from tests.support.commands import Keyctl
from tests.support.databases import on_sqlite
from tests.support.http_kills import ground, kill


@on_sqlite
def test_a_client_or_server_that_is_killed_leaves_no_key_that_nobody_holds(keyctl: Keyctl, tmp_path: Path) -> None:
    with ground(keyctl, tmp_path) as standing:
        came = kill(standing, "client", "create", ("pipe-to",), stride=3)
        came += kill(standing, "client", "rotate", (), stride=3, offset=2)
        came += kill(standing, "server", "rotate", ("key-file",), stride=9, offset=7)
    assert came.total() >= 5
    assert came["done"]
