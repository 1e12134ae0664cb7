"""What `revoke`, `suspend` and `resume` do: a revocation as a change of keys."""

from functools import partial
from typing import Final

from alphalens_keyctl.cli.change_keys import Words, change_keys
from alphalens_keyctl.cli.options.guards import Asked
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.errors import KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.keys.changes import RevocationChange
from alphalens_keyctl.keys.revocation import Revocation
from alphalens_keyctl.manager.backend import Backend, Outcome, issued
from alphalens_keyctl.models import Key

_WORDS: Final = {
    Revocation.REVOKE: Words("Revoked", "Revoke", "was revoked already", question_end=" for good?"),
    Revocation.SUSPEND: Words("Suspended", "Suspend", "is {status}: left as it is"),
    Revocation.RESUME: Words("Resumed", "Resume", "is {status}: left as it is"),
}


def revoke(run: Run, asked: Asked, *, keyring: bool) -> None:
    """Revoke the keys that were asked for, and report it; with `keyring` also remove them from the keyring.

    Raises `KeyctlError`.
    """
    done = _change(run, Revocation.REVOKE, asked)
    if keyring and not asked.dry_run:
        with run.manager() as manager:
            _forget(manager, done)


def suspend(run: Run, asked: Asked) -> None:
    """Suspend the keys that were asked for, and report it. Raises `KeyctlError`."""
    _change(run, Revocation.SUSPEND, asked)


def resume(run: Run, asked: Asked) -> None:
    """Resume the keys that were asked for, and report it. Raises `KeyctlError`."""
    _change(run, Revocation.RESUME, asked)


def _change(run: Run, revocation: Revocation, asked: Asked) -> Outcome:
    return change_keys(run, RevocationChange(revocation, asked.reason), _WORDS[revocation], asked)


def _forget(manager: Backend, done: Outcome) -> None:
    """Remove revoked keys from the keyring. An entry that holds another key by now stays."""
    from alphalens_keyctl.delivery import keyring

    try:
        for key in done.keys([*done.changed, *done.unchanged]):
            keyring.remove(key.name, partial(_is, manager, key))
    except KeyctlError as error:
        raise KeyctlError(
            error.code, error.message, "The keys are revoked all the same; remove the entry by hand."
        ) from error


def _is(manager: Backend, key: Key, raw: RawKey) -> bool:
    return raw.id == key.id and issued(manager, raw) is not None
