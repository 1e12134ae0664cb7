"""The system's keyring as a destination: the service is `alphalens-keyctl`, the user is the key's name."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from alphalens_keyctl import interrupts
from alphalens_keyctl.delivery import child
from alphalens_keyctl.delivery.destination import Parcel, failed, raw_key_in
from alphalens_keyctl.delivery.redaction import without
from alphalens_keyctl.errors import KeyctlError
from alphalens_keyctl.keyformat import RawKey, redact

SERVICE: Final = "alphalens-keyctl"
# The keys that this program itself goes to servers with, by their URLs. Of a service of their own: a key may have any
# name.
_OWN: Final = "alphalens-keyctl-login"
NAME: Final = "keyring"
LIMIT: Final = 5.0  # seconds for one request: a keyring answers at once, or is locked and never does (promise 11)
_PROCESS: Final = "alphalens_keyctl.delivery.keyring_process"
_HINT: Final = "Use --key-file PATH, or unlock or install a keyring."


class Entry(NamedTuple):
    """What the keyring has under a key's name: whether there is an entry, and the raw key in it, or None."""

    present: bool
    raw: RawKey | None


def look(user: str) -> Entry:
    """Return what the keyring has under the name `user`. Raises `KeyctlError` (delivery_failed)."""
    held = _ask("read", user)
    return Entry(held is not None, raw_key_in(held))


def backend() -> str:
    """Return the name of the backend that answers for this user's keyring. Raises `KeyctlError` (delivery_failed)."""
    return str(_exchange({"do": "read", "service": SERVICE, "user": SERVICE})["backend"])


def remove(user: str) -> None:
    """Remove the entry under the name `user`, if there is one. Raises `KeyctlError` (delivery_failed)."""
    if _ask("remove", user) is not None:
        raise failed(NAME, "the entry is still there after it was removed")


def held(user: str) -> RawKey | None:
    """Return the raw key under the name `user`, or None. Raises `KeyctlError` (delivery_failed)."""
    return look(user).raw


def own_key(url: str) -> RawKey | None:
    """Return the key that the keyring has for a server, or None. Raises `KeyctlError` (delivery_failed)."""
    return raw_key_in(_ask("read", url, service=_OWN))


def keep_own_key(url: str, raw: RawKey) -> None:
    """Store the key for a server, read it back and compare. Raises `KeyctlError` (delivery_failed)."""
    if _ask("store", url, raw.reveal(), service=_OWN) != raw.reveal():
        raise failed(NAME, "what was stored is not what it holds now", _HINT)


def forget_own_key(url: str) -> bool:
    """Remove the key for a server. Returns whether there was one. Raises `KeyctlError` (delivery_failed)."""
    answer = _exchange({"do": "remove", "service": _OWN, "user": url})
    if answer["secret"] is not None:
        raise failed(NAME, "the entry is still there after it was removed")
    return answer["found"] is not None


class Keyring:
    """The keyring as a destination, for `--keyring`."""

    name = NAME
    limit = 3 * LIMIT

    def __init__(self) -> None:
        self._parcel: Parcel | None = None
        self._before: str | None = None
        self._touched = False

    def stage(self, parcel: Parcel) -> None:
        """Read the entry under the key's name, which also shows that there is a keyring before anything is changed."""
        self._before = _ask("read", parcel.key.name)
        self._parcel = parcel

    def held(self) -> RawKey | None:
        """Return the raw key that the keyring held when the new one was staged, or None."""
        return raw_key_in(self._before)

    def hand_over(self) -> None:
        """Store the key, read it back and compare: some backends store nothing and raise nothing."""
        assert self._parcel is not None  # noqa: S101  # staged before
        self._touched = True
        secret = self._parcel.raw.reveal()
        if _ask("store", self._parcel.key.name, secret, self._parcel.attempt.descriptors) != secret:
            raise failed(NAME, "what was stored is not what it holds now", _HINT)

    def put_back(self, _earlier: RawKey | None) -> bool:
        """Give the keyring its old entry back, unless somebody else has stored another meanwhile."""
        if self._parcel is None or not self._touched:
            return True
        new = self._parcel.raw.reveal()
        request = {"do": "replace", "service": SERVICE, "user": self._parcel.key.name, "old": new}
        if self._before is not None:
            request["secret"] = self._before
        try:
            answer = _exchange(request, self._parcel.attempt.descriptors)
        except KeyctlError:
            return False
        return bool(answer["found"] != new or answer["secret"] == self._before)


def _ask(
    do: str, user: str, secret: str | None = None, inherited: Sequence[int] = (), *, service: str = SERVICE
) -> str | None:
    """Send the keyring one request; return what it holds then."""
    request = {"do": do, "service": service, "user": user} | ({} if secret is None else {"secret": secret})
    held: str | None = _exchange(request, inherited)["secret"]
    return held


def _exchange(request: Mapping[str, str], inherited: Sequence[int] = ()) -> dict[str, Any]:
    """Return the answer to one request, of a process of its own that is killed after `LIMIT`."""
    with child.running(
        child.module(_PROCESS), stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, inherited=inherited
    ) as process:
        try:
            with interrupts.let_in():
                said, _ = process.communicate(json.dumps(request).encode("ascii"), timeout=LIMIT)
        except subprocess.TimeoutExpired:
            raise failed(NAME, f"it did not answer within {LIMIT:g} seconds; it may be locked", _HINT) from None
    return _answered(said, raw_key_in(request.get("secret")))


def _answered(said: bytes, sent: RawKey | None) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = json.loads(said)
    except ValueError:
        raise failed(NAME, "it ended without an answer", _HINT) from None
    if "refused" in answer:
        raise failed(NAME, f"no key is given to this backend: {answer['refused']}", _HINT)
    if "failed" in answer:
        why = str(answer["failed"])  # a backend's own words, which may repeat what it was sent
        raise failed(NAME, redact(why) if sent is None else without(why, sent), _HINT)
    return answer
