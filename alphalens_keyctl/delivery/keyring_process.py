"""The process that asks the system's keyring, started by `child.start`.

It reads JSON requests on standard input and writes the JSON answers to standard output, each of them a line. It ends
with its input. It is a process of its own because a keyring whose bus is silent never answers, and only a process can
be killed for certain.
"""

import json
import os
import sys
import threading
from typing import Any, Final

# Backends that store nothing, or store keys where others can read them.
_REFUSED: Final = {
    "keyring.backends.null": "keeps nothing",
    "keyring.backends.fail": "is what stands in where there is no keyring",
    "keyrings.alt": "keeps secrets in a file of its own, at best behind a password typed each time",
}
_PLAINTEXT: Final = "plaintext"


class RefusedError(Exception):
    """No key is given to this backend. The message names the backend and says why."""


def main() -> int:
    """Answer requests: {"do": "read" | "store" | "remove" | "replace", "service", "user", "secret", "old"}.

    An answer is {"found", "secret", "backend"}: what the keyring held, and holds now. Only `remove` and `replace` look
    before they act.
    """
    threading.Thread(target=_end_with_the_lifeline, args=(int(sys.argv[1]),), daemon=True).start()
    # A backend may print to stdout, where only the answers belong.
    stdout = os.dup(1)
    os.dup2(2, 1)
    with open(stdout, "w", encoding="ascii") as answers:
        for request in sys.stdin.buffer:
            answers.write(json.dumps(_answer(json.loads(request))) + "\n")
            answers.flush()
    return 0


def _answer(request: dict[str, str]) -> dict[str, str | None]:
    try:
        backend = _usable_backend()
        found, held = _do(backend, **request)
    except RefusedError as error:
        return {"refused": str(error)}
    except Exception as error:  # noqa: BLE001  # a backend may raise anything
        return {"failed": f"{type(error).__name__}: {error}"}
    return {"found": found, "secret": held, "backend": _name(backend)}


def _end_with_the_lifeline(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(1)


def _do(
    backend: Any, *, do: str, service: str, user: str, secret: str | None = None, old: str | None = None
) -> tuple[str | None, str | None]:
    """Do what the request says; return what the keyring held before, and holds afterwards.

    `remove` removes whatever is there. `replace` puts `secret` in the place of `old`, or nothing, and leaves an entry
    that is not `old` as it is.
    """
    found = backend.get_password(service, user) if do in ("remove", "replace") else None
    if do == "store" or (do == "replace" and found == old and secret is not None):
        backend.set_password(service, user, secret)
    elif found is not None and (do == "remove" or (do == "replace" and found == old)):
        backend.delete_password(service, user)
    return found, backend.get_password(service, user)


def _usable_backend() -> Any:
    """Return the backend of this user's keyring. Raises `RefusedError` when there is none that may hold a key."""
    import keyring
    from keyring.backends.chainer import ChainerBackend

    backend = keyring.get_keyring()
    if not isinstance(backend, ChainerBackend):
        _refuse(backend)
        return backend
    # A chain stores in the first backend that accepts, which may be one in plain text: so one is chosen here.
    reasons = []
    for link in backend.backends:
        try:
            _refuse(link)
        except RefusedError as error:
            reasons.append(str(error))
        else:
            return link
    raise RefusedError("; ".join(reasons) or "keyring.backends.chainer.ChainerBackend has no keyring to ask")


def _refuse(backend: object) -> None:
    name = _name(backend)
    for refused, why in _REFUSED.items():
        if name.startswith(f"{refused}."):
            raise RefusedError(f"{name} {why}")
    if _PLAINTEXT in name.lower():
        raise RefusedError(f"{name} keeps secrets in plain text")


def _name(backend: object) -> str:
    return f"{type(backend).__module__}.{type(backend).__qualname__}"
