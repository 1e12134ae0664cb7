"""The steps of taking a fleet in over the database: each is one transaction, within the rights of its caller."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from alphalens_keyctl import keyformat
from alphalens_keyctl.keys import bulk_issuance, lifecycle
from alphalens_keyctl.keys.bulk_file import Line
from alphalens_keyctl.keys.bulk_issuance import Begun, Settled
from alphalens_keyctl.manager.access import Access


class DatabaseBulkSteps:
    """`bulk_issuance.BulkSteps` over the database. New raw keys begin with `prefix`."""

    def __init__(self, access: Access, *, prefix: str) -> None:
        self._access = access
        self._prefix = prefix
        self._begun: set[str] = set()

    def try_begin(self, lines: Sequence[Line]) -> None:
        """Raise `KeyctlError` where `begin` would before it writes anything."""
        access = self._access
        with access.reading() as (connection, rights, act):
            if not lifecycle.abandoned(connection, access.attempts):
                permit = access.permit_of(rights, connection, act.at)
                bulk_issuance.refuse(connection, access.attempts, permit, lines, act)
                return
        with access.writing() as (tx, rights, act):
            # They may have the names, until somebody looks after them.
            lifecycle.discard_abandoned(tx, access.attempts, act)
            bulk_issuance.refuse(tx, access.attempts, access.permit_of(rights, tx, act.at), lines, act)

    def begin(self, lines: Sequence[Line], destinations: Sequence[str], *, lease: float) -> Iterator[list[Begun]]:
        """Write a key for each line, all at once."""
        access, raws = self._access, [keyformat.generate(self._prefix) for _ in lines]
        ids = [raw.id for raw in raws]
        self._begun.update(ids)
        try:
            with access.writing() as (tx, rights, act):
                permit = access.permit_of(rights, tx, act.at)
                keys = bulk_issuance.begin(
                    tx, access.attempts, permit, lines, raws, act, destinations=destinations, lease=lease
                )
        except BaseException as failure:
            # The database may have committed before this process heard of it.
            bulk_issuance.settled(self, ids, failure)
            raise
        yield list(zip(keys, raws, strict=True))

    def renew(self, key_ids: Sequence[str], *, lease: float) -> None:
        """Let the lease end in so many seconds from now."""
        with self._access.writing() as (tx, rights, act):
            permit = self._access.permit_of(rights, tx, act.at)
            bulk_issuance.renew(tx, permit, key_ids, act, lease=lease)

    def activate(self, key_ids: Sequence[str], *, at: datetime, delivered_to: Sequence[str]) -> None:
        """Make all of the keys current, or none."""
        # Asked again: the caller's own key may have been revoked while commands ran.
        with self._access.writing() as (tx, rights, act):
            permit = self._access.permit_of(rights, tx, act.at)
            bulk_issuance.activate(tx, permit, key_ids, act, at=at, delivered_to=delivered_to)

    def settle(self, key_ids: Sequence[str]) -> Settled:
        """Discard the keys, but for the case that all of them are current. Who began them needs no right to it, and may
        have lost what it takes to finish them."""
        access = self._access
        with access.database.writing() as tx:
            act = access.act.now()
            permit = None if self._begun.issuperset(key_ids) else access.permit(tx, act.at)
            return bulk_issuance.settle(tx, permit, key_ids, act)
