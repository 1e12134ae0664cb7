"""What `rotate` does: rotate one key or several, or take a rotation back."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection

from alphalens_keyctl.cli import deliver_key, select_keys
from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.destinations import Destinations
from alphalens_keyctl.cli.options.filters import Filters
from alphalens_keyctl.cli.rotate import Asked
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.database import Database
from alphalens_keyctl.delivery import stdout
from alphalens_keyctl.delivery.destination import about
from alphalens_keyctl.delivery.handover import Handover
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.keys import issuance, lookup, rotation, selection
from alphalens_keyctl.keys.issuance import RotationPlan
from alphalens_keyctl.keys.rotation import Retirement
from alphalens_keyctl.keys.selection import Sort
from alphalens_keyctl.logs import audit
from alphalens_keyctl.models import Action, Key, Status
from alphalens_keyctl.output import documents
from alphalens_keyctl.output.sentences import retirement

# Failed rotations that an error message names.
_MOST_NAMED = 20


class Output(NamedTuple):
    """What stdout gets: one document, a document for each key, or else the raw key, unless `no_print`."""

    json: bool = False
    jsonl: bool = False
    no_print: bool = False


def rotate(run: Run, asked: Asked) -> None:
    """Rotate the one key that was named, or each of several.

    Raises `KeyctlError`; some_failed when several were asked for and one failed.
    """
    given = asked.destinations
    plan = _plan(run, asked)
    if asked.dry_run:
        _show(run, asked, plan)
        return
    output = Output(json=asked.json, jsonl=asked.jsonl, no_print=given.no_print)
    if len(asked.references) == 1 and not asked.filters.given and not asked.jsonl:
        _rotate_one(run, asked.references[0], plan, deliver_key.handover(run, given), output)
        return
    if given.key_file or given.env_file:
        raise KeyctlError(Code.USAGE, "several keys do not fit into one file", "Use --pipe-to, --keyring or --jsonl.")
    _rotate_each(run, asked.references, asked.filters, plan, lambda: deliver_key.handover(run, given), output)


def abort(run: Run, references: Sequence[str | RawKey], *, json: bool) -> None:
    """Take the rotation of one key back and say which keys were discarded. Raises `KeyctlError`."""
    if len(references) != 1:
        raise KeyctlError(Code.USAGE, "--abort takes one KEY", "Run it once for each.")
    with run.database() as database:
        with database.writing() as tx:
            act = run.act.now()
            found = lookup.find(tx, references[0], now=act.at)
            done = rotation.abort(tx, database.attempts, found.id, act)
        with database.reading() as connection:
            destinations = _delivered_to(connection, done.successors)
    if json:
        runs.report(documents.json_document(documents.aborted_object(done)))
        return
    for successor in done.successors:
        run.note(f"Discarded key {successor.id}, which nobody had used.")
    run.note(f"Key '{done.key.name}' is {done.key.id} again.")
    if destinations:
        run.note(f"Mind: the discarded key had been delivered to {', '.join(destinations)}; the old one belongs there.")


def _show(run: Run, asked: Asked, plan: RotationPlan) -> None:
    """Say which keys would be rotated, and which are not due. Raises `KeyctlError` where the policy forbids one."""
    if not asked.references and not asked.filters.given:
        raise _which_keys()
    with run.database() as database:
        found = _chosen(run, database, asked.references, asked.filters)
        due = [key for key in found if plan.due(key)]
        rest = [key for key in found if not plan.due(key)]
        if asked.json:
            with database.reading() as connection:
                changed, unchanged = (
                    selection.documents_of(connection, [key.id for key in keys], now=run.act.at) for keys in (due, rest)
                )
                runs.report_all(documents.changed_texts(changed, unchanged, (), dry_run=True))
        else:
            _list(run, due, rest)
        with database.reading() as connection:
            issuance.refuse_forbidden(connection, due, plan, now=run.act.at)


def _list(run: Run, due: Sequence[Key], rest: Sequence[Key]) -> None:
    lines = [f"Would rotate key '{key.name}' ({key.id})." for key in due]
    lines += [f"Key '{key.name}' ({key.id}) needs no rotation yet." for key in rest]
    runs.report_sentences(lines)


def _which_keys() -> KeyctlError:
    return KeyctlError(
        Code.USAGE, "rotate needs to know which keys", "Name a KEY, or filter as 'alphalens-keyctl list' does."
    )


def _plan(run: Run, asked: Asked) -> RotationPlan:
    trial = None if asked.check is None else _trial(run, asked.check, asked.destinations)
    return RotationPlan(
        asked_at=run.asked_at,
        retirement=Retirement(asked.grace, asked.deadline),
        expires_at=asked.expires_at,
        same_lifetime=asked.same_lifetime,
        due=_Due(asked.if_older_than, asked.if_expiring_within, run.act.at),
        trial=trial,
        override=asked.override,
    )


def _trial(run: Run, line: str, given: Destinations) -> Callable[[Key, RawKey], None]:
    """Return the trial: it runs a command with the new key, and raises `KeyctlError` when the command fails."""
    command = deliver_key.command_line(run, line, "--check", given)
    command.look_up()

    def check(key: Key, raw: RawKey) -> None:
        command.run(raw, about(key))

    return check


class _Due:
    """Tells whether a key is to be rotated: when one of the conditions holds, or when none was given."""

    def __init__(self, age: timedelta | None, remaining: timedelta | None, now: datetime) -> None:
        self._age = age
        self._remaining = remaining
        self._now = now

    def __call__(self, key: Key) -> bool:
        if self._age is None and self._remaining is None:
            return True
        old = self._age is not None and (key.activated_at or key.created_at) <= self._now - self._age
        ending = (
            self._remaining is not None and key.expires_at is not None and key.expires_at <= self._now + self._remaining
        )
        return old or ending


def _rotate_one(run: Run, reference: str | RawKey, plan: RotationPlan, destinations: Handover, output: Output) -> None:
    """Rotate one key and say what was done."""
    with run.database() as database:
        with database.reading() as connection:
            found = lookup.find(connection, reference, now=run.act.at)
        result = _rotate(run, database, found, plan, destinations, output)
    if output.json:
        if result.raw is None or output.no_print:
            runs.report(documents.json_document(documents.rotated_object(result, shown=None)))
    elif result.previous is None:
        run.note(f"Nothing to do: key '{result.key.name}' ({result.key.id}) needs no rotation yet.")
    elif output.no_print or stdout.name() != "terminal":
        _note(run, result, destinations.names)


def _rotate_each(
    run: Run,
    references: Sequence[str | RawKey],
    filters: Filters,
    plan: RotationPlan,
    destinations: Callable[[], Handover],
    output: Output,
) -> None:
    """Rotate several keys, each in transactions of its own: when one rotation fails, the others are made all the same.

    Raises `KeyctlError` (some_failed) when one failed.
    """
    if not references and not filters.given:
        raise _which_keys()
    if output.json:
        raise KeyctlError(Code.USAGE, "several keys make more than one document", "Use --jsonl.")
    names = destinations().names  # raises for options that are wrong for every key, before the first is touched
    if not output.jsonl and not names:
        raise KeyctlError(
            Code.USAGE,
            "the raw keys of several rotations need a destination",
            "Add --pipe-to 'CMD', which is run for each, or --jsonl.",
        )
    if not output.jsonl:
        output = output._replace(no_print=True)
    failures: list[str] = []
    with run.database() as database:
        found = _chosen(run, database, references, filters)
        for number, key in enumerate(found, 1):
            try:
                result = _rotate(run, database, key, plan, destinations(), output)
            except KeyctlError as error:
                if error.code is Code.DATABASE_UNREACHABLE:
                    raise
                failures.append(f"'{key.name}' ({key.id}): {error.message}")
                run.note(f"{number} of {len(found)}: failed: {failures[-1]}")
                continue
            run.note(f"{number} of {len(found)}: {_what_was_done(result)}")
    if failures:
        shown = "; ".join(failures[:_MOST_NAMED])
        more = f"; and {len(failures) - _MOST_NAMED} more" if len(failures) > _MOST_NAMED else ""
        raise KeyctlError(
            Code.SOME_FAILED,
            f"{len(failures)} of {len(found)} rotations failed: {shown}{more}",
            "The old keys of those are as they were; all others were rotated.",
        )
    if found:
        run.note(f"{len(found)} of {len(found)} done.")


def _rotate(
    run: Run, database: Database, key: Key, plan: RotationPlan, destinations: Handover, output: Output
) -> issuance.Rotated:
    def show(rotated: issuance.Rotated, raw: RawKey) -> list[str]:
        def document(shown: str) -> Mapping[str, object]:
            return documents.rotated_object(rotated, shown=shown)

        def panel() -> str:
            from alphalens_keyctl.output import panels

            return panels.rotated(rotated, raw, now=run.act.at, screen=run.screen())

        if output.no_print:
            return []
        json = output.json or output.jsonl
        return deliver_key.show_once(run, raw, json=json, document=document, panel=panel)

    result = issuance.rotate(database, key.id, plan, run.act, destinations, show, prefix=run.settings.key_prefix)
    if output.jsonl and (result.raw is None or output.no_print):
        runs.report(documents.json_document(documents.rotated_object(result, shown=None)))
    return result


def _chosen(run: Run, database: Database, references: Sequence[str | RawKey], filters: Filters) -> list[Key]:
    """Return the keys to rotate, and say so where the filters select none. Raises `KeyctlError`."""
    with database.reading() as connection:
        named = [lookup.find(connection, reference, now=run.act.at) for reference in references]
        if not filters.given:
            return list({key.id: key for key in named}.values())
        wanted = select_keys.selection(filters)
        if not (wanted.statuses or wanted.expired):
            wanted = wanted._replace(statuses=(Status.ACTIVE,))
        fitting = selection.read(connection, wanted, sort=Sort.NAME, limit=None, now=run.act.at)
        if not fitting:
            run.note("No key fits: nothing to do.")
            select_keys.note_unknown_owner(run, connection, wanted)
    if not references:
        return fitting
    ids = {key.id for key in named}
    left = [key for key in fitting if key.id in ids]
    select_keys.refuse_left_out([[key] for key in named], {key.id for key in left}, wanted, settable=True)
    return left


def _note(run: Run, result: issuance.Rotated, destinations: Sequence[str]) -> None:
    run.note(f"Rotated key '{result.key.name}'; the new id is {result.key.id}.")
    run.note_delivery(destinations)
    if result.previous is not None:
        run.note(retirement(result.previous, run.act.at, grace_after_use=result.grace_after_use))


def _delivered_to(connection: Connection, keys: Sequence[Key]) -> list[str]:
    """Return the destinations that discarded keys had been delivered to, as the audit log has them."""
    wanted = audit.LogFilter(key_ids=tuple(key.id for key in keys), action=Action.ACTIVATE)
    destinations = [
        destination for event in audit.read(connection, wanted) for destination in event.detail.get("delivered_to", [])
    ]
    return destinations + [key.delivering_to for key in keys if key.delivering_to]


def _what_was_done(result: issuance.Rotated) -> str:
    if result.previous is None:
        return f"key '{result.key.name}' ({result.key.id}) needs no rotation yet"
    return f"rotated key '{result.key.name}'; the new id is {result.key.id}"
