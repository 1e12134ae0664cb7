"""What `update` does: new values as a change of keys."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection

from alphalens_keyctl import text
from alphalens_keyctl.cli.change_keys import change_keys
from alphalens_keyctl.cli.options.guards import Asked
from alphalens_keyctl.cli.options.new_values import LABEL, UNSET, NewValues
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.database import Database, Writing
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.keys import lookup
from alphalens_keyctl.keys import update as updates
from alphalens_keyctl.keys.lifecycle import Changed
from alphalens_keyctl.keys.update import Update
from alphalens_keyctl.models import Key, Status
from alphalens_keyctl.moments import parse_expiry
from alphalens_keyctl.output import sentences
from alphalens_keyctl.provenance import Act


def update(run: Run, asked: Asked, given: NewValues, *, override: str | None) -> None:
    """Give the keys that were asked for their new values, and report it. `override` says why the keys may break the
    stored policy. Raises `KeyctlError`."""
    new = _parsed(given, asked, run.act.at)._replace(override=override)
    done = change_keys(run, _Updating(new), asked)
    if new.name is not None and done.changed and not asked.dry_run:
        run.note("Mind: a script, a keyring or a file that has the old name keeps it.")


@dataclass(frozen=True)
class _Updating:
    """An update, as `change_keys` asks for it."""

    new: Update
    command: str = "update"
    done: str = "Updated"
    statuses: tuple[Status, ...] = ()

    def question(self, these: str) -> str:
        return f"Set {sentences.new_values(self.new)} on {these}?"

    def unchanged(self, key: Key) -> str:
        return "is damaged: left as it is" if key.status == Status.DAMAGED else "has these values already"

    def meant(self, connection: Connection, reference: str | RawKey, now: datetime) -> list[Key]:
        return [lookup.find(connection, reference, now=now)]

    def applies(self, now: datetime) -> ColumnElement[bool] | None:
        return None

    def divided(self, connection: Connection, key_ids: Sequence[str], now: datetime, *, named: bool) -> Changed:
        return updates.divided(connection, key_ids, self.new, named=named, now=now)

    def endangered(self, now: datetime) -> ColumnElement[bool] | None:
        return updates.narrowed(self.new)

    def apply(
        self,
        tx: Writing,
        database: Database,
        key_ids: Sequence[str],
        asked: Asked,
        act: Act,
        tell: Callable[[int], None],
    ) -> Changed:
        return updates.apply(tx, database.attempts, key_ids, self.new, act, reason=asked.reason, tell=tell)

    def still_open(self, connection: Connection, key_ids: Sequence[str], now: datetime) -> None:
        return None


def _parsed(given: NewValues, asked: Asked, now: datetime) -> Update:
    """The new values, of which none contradicts another. Raises `KeyctlError` (usage, invalid_input)."""
    if not given.given:
        raise KeyctlError(
            Code.USAGE,
            "update needs to know what to set",
            "For example --set-owner OWNER or --unset purpose; --owner and --label select keys here and set nothing.",
        )
    if given.set_name is not None and len(asked.references) != 1:
        raise KeyctlError(Code.USAGE, "--set-name takes one KEY", "Two keys cannot have one name.")
    fields = _fields_set(given, now)
    labels = text.parse_labels(given.set_label or ())
    unset_labels = set()
    for what in given.unset or ():
        if what.startswith(LABEL):
            unset_labels.add(text.parse_label_name(what.removeprefix(LABEL)))
        elif what in UNSET:
            if UNSET[what] in fields and fields[UNSET[what]] is not None:
                raise _contradiction(f"--set-{what}", f"--unset {what}")
            fields[UNSET[what]] = None
        else:
            raise KeyctlError(Code.USAGE, f"there is no '{what}' to unset", f"There are: {', '.join(UNSET)}, label:K.")
    for label in sorted(unset_labels & set(labels)):
        raise _contradiction(f"--set-label {label}=…", f"--unset label:{label}")
    name = None if given.set_name is None else text.parse_name(given.set_name)
    return Update(name, fields, labels, frozenset(unset_labels))


def _fields_set(given: NewValues, now: datetime) -> dict[str, str | datetime | None]:
    fields: dict[str, str | datetime | None] = {}
    if given.set_owner is not None:
        fields["owner"] = text.parse_line(given.set_owner, what="owner", longest=text.LONGEST_OWNER)
    if given.set_purpose is not None:
        fields["purpose"] = text.parse_line(given.set_purpose, what="purpose", longest=text.LONGEST_PURPOSE)
    if given.set_expires is not None:
        fields["expires_at"] = parse_expiry(given.set_expires, now=now)
    return fields


def _contradiction(one: str, other: str) -> KeyctlError:
    return KeyctlError(Code.USAGE, f"{one} and {other} contradict each other", "Leave one of them out.")
