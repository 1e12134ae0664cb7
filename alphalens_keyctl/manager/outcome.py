"""What a change did over the database, and what the keys are since: `backend.Outcome`."""

from __future__ import annotations  # for speed: its types come from files that a change loads itself

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from alphalens_keyctl.keys import selection
from alphalens_keyctl.manager.rights import Deed, Rights

if TYPE_CHECKING:
    from alphalens_keyctl.keys.changes import Change, Chosen, Targets
    from alphalens_keyctl.keys.selection import KeyDocument
    from alphalens_keyctl.manager.access import Access
    from alphalens_keyctl.models import Key

_NOTHING: Final[Mapping[str, int]] = {}


class ChangeOutcome:
    """`Outcome` over the database."""

    def __init__(
        self,
        access: Access,
        rights: Rights,
        change: Change,
        targets: Targets,
        chosen: Chosen,
        narrowed: Mapping[str, int] = _NOTHING,
    ) -> None:
        """`rights` are those that the change was within: a caller may have ended its own key by it, and hears what it
        did all the same."""
        self.changed: Sequence[str] = chosen.changing
        self.unchanged: Sequence[str] = chosen.rest
        self.stopped_by = chosen.stopped_by
        self.narrowed = narrowed
        self._access = access
        self._rights = rights
        self._change = change
        self._named = bool(targets.references)

    def keys(self, key_ids: Sequence[str]) -> list[Key]:
        with self._access.reporting() as (connection, act):
            return selection.some(connection, key_ids, now=act.at)

    def documents(self, key_ids: Sequence[str]) -> Iterator[KeyDocument]:
        with self._access.reporting() as (connection, act):
            yield from selection.documents_of(connection, key_ids, now=act.at)

    def still_open(self) -> Iterator[Key] | None:
        # Filters select each night what the night before has ended: cron would send mail about it each time.
        about = [*self.changed, *self.unchanged] if self._named else self.changed
        with self._access.reporting() as (connection, act):
            found = self._change.still_open(connection, about, act.at)
            return None if found is None else iter([key for key in found if self._rights.may(Deed.SEE, key)])
