"""The process in which the operating system's keyring is asked: `python -P -m` this module.

One JSON request on standard input, one JSON answer on standard output. A process of its own because a keyring
whose bus is silent never answers, and only a process can be ended for certain.
"""

import json
import os
import sys
from typing import Any, Final

# Backends that keep nothing, or keep it where anybody can read it.
_REFUSED: Final = {
    "keyring.backends.null": "keeps nothing",
    "keyring.backends.fail": "is what stands in where there is no keyring",
    "keyrings.alt": "keeps secrets in a file of its own, at best behind a password typed each time",
}
_PLAINTEXT: Final = "plaintext"


class RefusedError(Exception):
    """This backend is not given a key. The message names it and says why."""


def main() -> int:
    """Answer one request: {"do": "read" | "store" | "remove", "service", "user", "secret"}."""
    request = json.loads(sys.stdin.buffer.read())
    # Whatever a backend prints is no answer.
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        answer = {"secret": _do(_usable_backend(), **request)}
    except RefusedError as error:
        answer = {"refused": str(error)}
    except Exception as error:  # noqa: BLE001  # whatever a backend raises is its way of saying no
        answer = {"failed": f"{type(error).__name__}: {error}"}
    with open(stdout, "w", encoding="ascii") as answers:
        answers.write(json.dumps(answer))
    return 0


def _do(backend: Any, *, do: str, service: str, user: str, secret: str | None = None) -> str | None:
    """Returns what the keyring holds after it was done."""
    if do == "store":
        backend.set_password(service, user, secret)
    elif do == "remove" and backend.get_password(service, user) is not None:
        backend.delete_password(service, user)
    held: str | None = backend.get_password(service, user)
    return held


def _usable_backend() -> Any:
    """The keyring that this user has. Raises `RefusedError` for one that is none."""
    import keyring
    from keyring.backends.chainer import ChainerBackend

    backend = keyring.get_keyring()
    if not isinstance(backend, ChainerBackend):
        _refuse(backend)
        return backend
    # A chain takes the first that accepts, which may be one in plain text: each is looked at, and one chosen.
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
    name = f"{type(backend).__module__}.{type(backend).__qualname__}"
    for refused, why in _REFUSED.items():
        if name.startswith(f"{refused}."):
            raise RefusedError(f"{name} {why}")
    if _PLAINTEXT in name.lower():
        raise RefusedError(f"{name} keeps secrets in plain text")


if __name__ == "__main__":
    sys.exit(main())
