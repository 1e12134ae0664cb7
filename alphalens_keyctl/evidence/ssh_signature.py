"""Signatures of the keys that people have: by OpenSSH's ssh-keygen, so that an agent or a hardware key can sign."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.text import quoted

# A signature for one namespace is none for another: nobody can pass off what a key signed elsewhere, as a git commit.
NAMESPACE: Final = "audit-head@alphalens-keyctl"
LIMIT: Final = 60.0  # seconds: somebody may have to touch a hardware key
_PROGRAM: Final = "ssh-keygen"
_LONGEST_REASON: Final = 200
_TOO_OLD: Final = (b"unknown option", b"illegal option", b"invalid option")


def sign(message: str, key: Path, *, may_ask: bool, limit: float = LIMIT) -> str:
    """Return the signature of `message` by the private key in the file `key`, or where that is a public key, by the
    private key of it that the agent has.

    With `may_ask`, ssh-keygen may ask for a passphrase on the terminal. Raises `KeyctlError` (signature_failed).
    """
    # As a path that cannot be taken for an option.
    words = ["-Y", "sign", "-f", str(key.absolute()), "-n", NAMESPACE]
    done = _ran(words, message, may_ask=may_ask, limit=limit)
    if done.returncode != 0 or not done.stdout.startswith(b"-----BEGIN SSH SIGNATURE-----"):
        hint = "" if may_ask else "Without a terminal nobody can be asked: give the public key of one in the agent."
        raise _failed(f"{_PROGRAM} did not sign: {_reason(done)}", hint)
    return done.stdout.decode("ascii")


def signer(message: str, signature: str | None, allowed: Path, name: str | None, *, limit: float = LIMIT) -> str:
    """Return who signed `message`: a name that the file `allowed`, in the format of ssh's `allowed_signers`, has for
    the key. With `name`, it has to be that one.

    Raises `KeyctlError`: unproven where the signature is missing or does not hold; invalid_input for a file that cannot
    be read; signature_failed.
    """
    _require_readable(allowed)
    if signature is None:
        raise _refused("it is not signed", "'audit head --sign KEYFILE' signs.")
    with TemporaryDirectory(prefix="alphalens-keyctl-") as folder:
        file = Path(folder) / "signature"
        file.write_text(signature, encoding="ascii")
        shared = ["-f", str(allowed.absolute()), "-s", str(file)]
        names = [name] if name is not None else _names(["-Y", "find-principals", *shared], limit)
        reason = f"no signer in {quoted(str(allowed))} has the key that signed it"
        for each in names:
            done = _ran(["-Y", "verify", *shared, "-I", each, "-n", NAMESPACE], message, may_ask=False, limit=limit)
            if done.returncode == 0:
                return each
            reason = _reason(done)
    raise _refused(reason)


def _names(words: Sequence[str], limit: float) -> list[str]:
    """Return the names that the file has for the key of the signature, whatever the file allows the key."""
    done = _ran(words, "", may_ask=False, limit=limit)
    return done.stdout.decode("utf-8", "surrogateescape").splitlines() if done.returncode == 0 else []


def _ran(words: Sequence[str], message: str, *, may_ask: bool, limit: float) -> "subprocess.CompletedProcess[bytes]":
    environment = dict(os.environ)
    if not may_ask:
        environment["SSH_ASKPASS_REQUIRE"] = "never"
    try:
        done = subprocess.run(  # noqa: S603  # no shell; the words are ours but for paths and names
            [_PROGRAM, *words],
            input=message.encode("utf-8"),
            capture_output=True,
            env=environment,
            # Away from the terminal, on which it would ask.
            start_new_session=not may_ask,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _failed(f"{_PROGRAM} did not answer within {limit:g} seconds", "See whether the agent answers.") from None
    except OSError as error:
        raise _failed(
            f"{_PROGRAM} cannot be started: {error.strerror}", "Install OpenSSH's client, version 8.2 or newer."
        ) from error
    if done.returncode != 0 and any(words in done.stderr for words in _TOO_OLD):
        raise _failed(f"{_PROGRAM} here cannot sign and verify", "Install OpenSSH's client, version 8.2 or newer.")
    return done


def _reason(done: "subprocess.CompletedProcess[bytes]") -> str:
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return said[0][:_LONGEST_REASON] if said else f"it ended with {done.returncode}"


def _require_readable(allowed: Path) -> None:
    try:
        allowed.read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "its name is not one"
        raise KeyctlError(Code.INVALID_INPUT, f"the file of allowed signers cannot be read: {why}") from None


def _failed(problem: str, hint: str = "") -> KeyctlError:
    return KeyctlError(Code.SIGNATURE_FAILED, problem, hint)


def _refused(reason: str, hint: str = "") -> KeyctlError:
    return KeyctlError(Code.UNPROVEN, f"the head's signature is refused: {reason}", hint)
