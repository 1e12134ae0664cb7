"""The main job, as a user does it, on both databases."""

from tests.support.commands import Keyctl


def test_a_created_key_opens_and_is_listed(keyctl: Keyctl) -> None:
    created = keyctl.ok("create", "ci", "--owner", "ops", "--expires", "7d")
    raw = created.stdout.strip()
    assert created.stdout == raw + "\n"
    assert keyctl.opens(raw)
    (key,) = keyctl.keys()
    assert (key["name"], key["owner"], key["status"]) == ("ci", "ops", "active")
