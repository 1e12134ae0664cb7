"""What `revoke`, `suspend` and `resume` do: a revocation as a change of keys."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Connection

from alphalens_keyctl.cli.change_keys import change_keys
from alphalens_keyctl.cli.options.guards import Asked
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.database import Database, Writing
from alphalens_keyctl.errors import KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.keys import lookup, revocation, selection
from alphalens_keyctl.keys.lifecycle import Changed
from alphalens_keyctl.keys.revocation import Revocation
from alphalens_keyctl.keys.selection import Selection
from alphalens_keyctl.models import Key, Status
from alphalens_keyctl.provenance import Act


@dataclass(frozen=True)
class _Verb:
    """A revocation, as `change_keys` asks for it. `stops` says whether it could stop a service."""

    revocation: Revocation
    done: str
    already: str
    stops: bool
    statuses: tuple[Status, ...] = ()

    @property
    def command(self) -> str:
        return self.revocation.value

    def question(self, these: str) -> str:
        return f"{self.command.capitalize()} {these}{' for good' if self.revocation is Revocation.REVOKE else ''}?"

    def unchanged(self, key: Key) -> str:
        return self.already.format(status=key.status)

    def meant(self, connection: Connection, reference: str | RawKey, now: datetime) -> list[Key]:
        return lookup.all_meant_by(connection, reference, now=now)

    def applies(self, now: datetime) -> ColumnElement[bool]:
        return revocation.applies_to(self.revocation, now=now)

    def divided(self, connection: Connection, key_ids: Sequence[str], now: datetime, *, named: bool) -> Changed:
        changing = set(selection.ids(connection, Selection(final=True), also=self.applies(now), among=key_ids, now=now))
        return Changed(
            [each for each in key_ids if each in changing], [each for each in key_ids if each not in changing]
        )

    def endangered(self, now: datetime) -> ColumnElement[bool] | None:
        return self.applies(now) if self.stops else None

    def apply(
        self,
        tx: Writing,
        database: Database,
        key_ids: Sequence[str],
        asked: Asked,
        act: Act,
        tell: Callable[[int], None],
    ) -> Changed:
        return revocation.apply(tx, self.revocation, key_ids, act, reason=asked.reason, tell=tell)

    def still_open(self, connection: Connection, key_ids: Sequence[str], now: datetime) -> Iterator[Key]:
        """The keys that share a name with the keys that were asked for, were not asked for, and open."""
        if self.revocation is Revocation.RESUME:
            return iter(())
        return lookup.still_opening(connection, key_ids, now=now)


_REVOKE: Final = _Verb(Revocation.REVOKE, "Revoked", "was revoked already", stops=True)
_SUSPEND: Final = _Verb(Revocation.SUSPEND, "Suspended", "is {status}: left as it is", stops=True)
_RESUME: Final = _Verb(
    Revocation.RESUME, "Resumed", "is {status}: left as it is", stops=False, statuses=(Status.SUSPENDED,)
)


def revoke(run: Run, asked: Asked, *, keyring: bool) -> None:
    """Revoke the keys that were asked for, and report it; with `keyring` also remove them from the keyring.

    Raises `KeyctlError`.
    """
    done = change_keys(run, _REVOKE, asked)
    if keyring and not asked.dry_run:
        _forget(run, done)


def suspend(run: Run, asked: Asked) -> None:
    """Suspend the keys that were asked for, and report it. Raises `KeyctlError`."""
    change_keys(run, _SUSPEND, asked)


def resume(run: Run, asked: Asked) -> None:
    """Resume the keys that were asked for, and report it. Raises `KeyctlError`."""
    change_keys(run, _RESUME, asked)


def _forget(run: Run, done: Changed) -> None:
    """Remove revoked keys from the keyring. An entry that holds another key by now stays."""
    from alphalens_keyctl.delivery import keyring

    with run.database() as database, database.reading() as connection:
        keys = selection.some(connection, [*done.changed, *done.unchanged], now=run.act.at)
        digests = selection.digests(connection, keys)
    try:
        for key in keys:
            if keyring.look(key.name, digests).key_id == key.id:
                keyring.remove(key.name)
    except KeyctlError as error:
        raise KeyctlError(
            error.code, error.message, "The keys are revoked all the same; remove the entry by hand."
        ) from error
