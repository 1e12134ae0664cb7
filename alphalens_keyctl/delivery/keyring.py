"""The system's keyring as a destination: the service is `alphalens-keyctl`, the user is the key's name."""

import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, Any, Final, NamedTuple

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


def remove(user: str, meant: Callable[[RawKey], bool]) -> None:
    """Remove the entry under the name `user` whose raw key `meant` says yes to; any other entry stays.

    Raises `KeyctlError` (delivery_failed), and as `meant` does.
    """
    with interrupts.held(), _KeyringProcess() as process:
        raw = raw_key_in(process.held("read", user))
        if raw is not None and meant(raw) and process.held("remove", user) is not None:
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
    """The keyring as a destination, for `--keyring`.

    One process reads the old entry and stores the new one. It ends with the handover, or when the entry is put back, or
    with this process at the latest.
    """

    name = NAME
    limit = 3 * LIMIT

    def __init__(self) -> None:
        self._parcel: Parcel | None = None
        self._process: _KeyringProcess | None = None
        self._before: str | None = None
        self._touched = False

    def stage(self, parcel: Parcel) -> None:
        """Read the entry under the key's name, which also shows that there is a keyring before anything is changed."""
        with interrupts.held():
            self._process = _KeyringProcess(parcel.attempt.descriptors)
        self._before = self._process.held("read", parcel.key.name)
        self._parcel = parcel

    def held(self) -> RawKey | None:
        """Return the raw key that the keyring held when the new one was staged, or None."""
        return raw_key_in(self._before)

    def hand_over(self) -> None:
        """Store the key, read it back and compare: some backends store nothing and raise nothing."""
        assert self._parcel is not None  # noqa: S101  # staged before
        assert self._process is not None  # noqa: S101
        self._touched = True
        secret = self._parcel.raw.reveal()
        with self._process as process:
            held = process.held("store", self._parcel.key.name, secret)
        if held != secret:
            raise failed(NAME, "what was stored is not what it holds now", _HINT)

    def put_back(self, _earlier: RawKey | None) -> bool:
        """Give the keyring its old entry back, unless somebody else has stored another meanwhile."""
        if self._process is not None:
            self._process.end()
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


class _KeyringProcess:
    """The process that asks the keyring, for one request after the other.

    The process ends with the block, or by `end`, and is killed at the first failure. Whoever makes one holds Ctrl-C
    back (`interrupts.held`). The process inherits the descriptors `inherited`.
    """

    def __init__(self, inherited: Sequence[int] = ()) -> None:
        self._started = child.start(
            child.module(_PROCESS), stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, inherited=inherited
        )
        self._deadline = 0.0
        self._over = False

    def __enter__(self) -> "_KeyringProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def held(self, do: str, user: str, secret: str | None = None, *, service: str = SERVICE) -> str | None:
        """Send a request; return what the keyring holds then. Raises `KeyctlError` (delivery_failed)."""
        request = {"do": do, "service": service, "user": user} | ({} if secret is None else {"secret": secret})
        found: str | None = self.answer(request)["secret"]
        return found

    def answer(self, request: Mapping[str, str]) -> dict[str, Any]:
        """Return the answer to a request, for which there are `LIMIT` seconds. Raises `KeyctlError`
        (delivery_failed)."""
        try:
            with interrupts.let_in():
                said = self._exchanged(json.dumps(request).encode("ascii") + b"\n")
            return _answered(said, raw_key_in(request.get("secret")))
        except BaseException:
            self._kill()
            raise

    def end(self) -> None:
        """End the process: by the end of its input, where it was just asked, or else by a signal."""
        if self._over:
            return
        stdin, stdout = self._streams()
        try:
            stdin.close()
            with interrupts.let_in():
                if select.select([stdout], [], [], self._left())[0]:  # says no more: it is about to end
                    self._started.process.wait(self._left())
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._kill()

    def _exchanged(self, line: bytes) -> bytes:
        self._deadline = time.monotonic() + LIMIT
        stdin, stdout = self._streams()
        with suppress(BrokenPipeError):  # it has ended, and says nothing
            os.write(stdin.fileno(), line)
        said = b""
        while not said.endswith(b"\n"):
            if not select.select([stdout], [], [], self._left())[0]:
                raise failed(NAME, f"it did not answer within {LIMIT:g} seconds; it may be locked", _HINT)
            if not (piece := os.read(stdout.fileno(), 1 << 16)):
                break
            said += piece
        return said

    def _left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def _streams(self) -> tuple[IO[bytes], IO[bytes]]:
        process = self._started.process
        assert process.stdin is not None  # noqa: S101  # for the types
        assert process.stdout is not None  # noqa: S101
        return process.stdin, process.stdout

    def _kill(self) -> None:
        if not self._over:
            self._over = True
            try:
                self._started.end()
            finally:
                for stream in self._streams():
                    stream.close()


def _exchange(request: Mapping[str, str], inherited: Sequence[int] = ()) -> dict[str, Any]:
    """Return the answer to one request, of a process of its own. Raises `KeyctlError` (delivery_failed)."""
    with interrupts.held(), _KeyringProcess(inherited) as process:
        return process.answer(request)


def _ask(do: str, user: str, secret: str | None = None, *, service: str = SERVICE) -> str | None:
    with interrupts.held(), _KeyringProcess() as process:
        return process.held(do, user, secret, service=service)


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
