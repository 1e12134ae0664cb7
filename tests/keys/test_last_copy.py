"""Promise 2: no delivery replaces what may be the only copy of another live key."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from alphalens_keyctl.database import Database
from alphalens_keyctl.delivery.files import Alone, KeyFile, Variable
from alphalens_keyctl.delivery.handover import Handover
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import checksum, generate
from alphalens_keyctl.keys import issuance
from alphalens_keyctl.keys.issuance import Created, RotationPlan
from alphalens_keyctl.keys.lifecycle import Draft
from alphalens_keyctl.keys.rotation import Retirement
from alphalens_keyctl.manager.over_database import OverDatabase
from alphalens_keyctl.moments import utc_now
from tests.support.callers import DAY, OTHER, TEAM, House, shown_to_nobody
from tests.support.key_rows import put

NOW: Final = utc_now()
# What the key in the file is, and whether another may take its place.
STANDING: Final[dict[str, tuple[dict[str, object], bool]]] = {
    "active": ({}, False),
    "suspended": ({"suspended_at": NOW}, False),
    "delivering": ({"activated_at": None, "delivering_to": "key-file x"}, False),
    "retiring": ({"retires_at": NOW + DAY}, True),
    "retired": ({"retires_at": NOW - DAY}, True),
    "expired": ({"expires_at": NOW - DAY}, True),
    "revoked": ({"revoked_at": NOW, "revoked_by": "x"}, True),
}


def create(way: OverDatabase, name: str, to: KeyFile) -> Created:
    return issuance.create(way.steps, Draft(name, TEAM), Handover([to]), shown_to_nobody, if_missing=False)


def rotate(way: OverDatabase, key_id: str, to: KeyFile) -> None:
    plan = RotationPlan(utc_now(), Retirement(DAY))
    issuance.rotate(way.steps, key_id, plan, Handover([to]), shown_to_nobody)


def refused(do: Callable[[], object]) -> KeyctlError:
    with pytest.raises(KeyctlError) as caught:
        do()
    assert caught.value.code is Code.CONFLICT, caught.value
    return caught.value


def test_a_file_that_holds_another_live_key_keeps_it(database: Database, tmp_path: Path) -> None:
    house, path = House(database), tmp_path / "env"
    for word, (values, may) in STANDING.items():
        raw = generate()
        key_id = put(database, f"old-{word}", raw=raw, owner=OTHER, **values)
        assert house.now(key_id).status == word
        before = f"A=b\nKEY={raw.reveal()}\n"
        path.write_text(before)
        path.chmod(0o600)
        to = KeyFile(path, Variable("KEY"), option="env-file")
        if may:
            create(house.root, word, to)
            assert raw.reveal() not in path.read_text()
            continue
        for do in (lambda: create(house.root, word, to), lambda: rotate(house.root, house.key().id, to)):  # noqa: B023
            told = refused(do)
            assert f"'old-{word}'" in told.message
            assert path.read_text() == before
            assert house.now(key_id).status == word
        # Who may not see the key does not hear its name.
        plain = house.caller("plain").id
        told = refused(lambda: rotate(house.as_caller(plain), plain, to))  # noqa: B023
        assert key_id not in told.message
        assert word in told.message
        # The name is free again.
        path.unlink()
        create(house.root, word, to)


@pytest.mark.one_database
def test_a_file_that_holds_what_is_rotated_or_what_is_no_key_here_is_written(
    database: Database, tmp_path: Path
) -> None:
    house, path = House(database), tmp_path / "key"
    to = KeyFile(path, Alone(), option="key-file")
    for before in (None, "anything\n", generate().reveal()):
        if before is not None:
            path.write_text(before)
        made = create(house.root, f"over {before and before[:3]}", to)
    # The same file again, rotation after rotation, and the file of the predecessor.
    first = path.read_text()
    rotate(house.root, made.key.id, to)
    current = house.root.find(made.key.name).id
    path.write_text(first)
    rotate(house.root, current, to)
    assert path.read_text()[4:16] == house.root.find(made.key.name).id
    # A real id with another secret is no key of this database.
    other, text = generate(), generate().reveal()
    put(database, "forged", raw=other)
    forged = f"alk_{other.id}{text[16:-6]}"
    path.write_text(forged + checksum(forged))
    held = to.current()
    assert held is not None
    assert held.id == other.id
    assert create(house.root, "last", to).key.status == "active"
