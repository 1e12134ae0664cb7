"""What `rotate` does: rotate one key or several, or take a rotation back."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from alphalens_keyctl.cli import deliver_key, select_keys
from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.destinations import Destinations
from alphalens_keyctl.cli.options.filters import Filters
from alphalens_keyctl.cli.rotate import GRACE, Asked
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.delivery import stdout
from alphalens_keyctl.delivery.destination import about
from alphalens_keyctl.delivery.handover import Handover
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.keys import issuance
from alphalens_keyctl.keys.issuance import Due, RotationPlan, Trial
from alphalens_keyctl.keys.rotation import Retirement
from alphalens_keyctl.manager.backend import Backend, Rotatable
from alphalens_keyctl.models import Key
from alphalens_keyctl.output import documents
from alphalens_keyctl.output.sentences import retirement

# Failed rotations that an error message names.
_MOST_NAMED = 20


class Output(NamedTuple):
    """What stdout gets: one document, a document for each key, or else the raw key, unless `no_print`."""

    json: bool = False
    jsonl: bool = False
    no_print: bool = False


class How(NamedTuple):
    """How keys are rotated, tried out and shown."""

    plan: RotationPlan
    trial: Trial | None
    output: Output


def rotate(run: Run, asked: Asked) -> None:
    """Rotate the one key that was named, or each of several.

    Raises `KeyctlError`; some_failed when several were asked for and one failed.
    """
    given = asked.destinations
    trial = None if asked.check is None else _trial(run, asked.check, given)
    output = Output(json=asked.json, jsonl=asked.jsonl, no_print=given.no_print)
    how = How(_plan(run, asked), trial, output)
    if asked.dry_run:
        _show(run, asked, how.plan)
        return
    if len(asked.references) == 1 and not asked.filters.given and not asked.jsonl:
        _rotate_one(run, asked.references[0], how, deliver_key.handover(run, given))
        return
    if given.key_file or given.env_file:
        raise KeyctlError(Code.USAGE, "several keys do not fit into one file", "Use --pipe-to, --keyring or --jsonl.")
    _rotate_each(run, asked.references, asked.filters, how, lambda: deliver_key.handover(run, given))


def abort(run: Run, references: Sequence[str | RawKey], *, json: bool) -> None:
    """Take the rotation of one key back and say which keys were discarded. Raises `KeyctlError`."""
    if len(references) != 1:
        raise KeyctlError(Code.USAGE, "--abort takes one KEY", "Run it once for each.")
    with run.manager() as manager:
        done, destinations = manager.abort(references[0])
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
    with run.manager() as manager:
        found = _to_rotate(run, manager, asked.references, asked.filters, plan)
        if asked.json:
            changed, unchanged = manager.documents_of(found.due), manager.documents_of(found.rest)
            runs.report_all(documents.changed_texts(changed, unchanged, (), dry_run=True))
        else:
            _list(run, found.due, found.rest)
    if found.stopped_by is not None:
        raise found.stopped_by


def _list(run: Run, due: Sequence[Key], rest: Sequence[Key]) -> None:
    lines = [f"Would rotate key '{key.name}' ({key.id})." for key in due]
    lines += [f"Key '{key.name}' ({key.id}) needs no rotation yet." for key in rest]
    runs.report_sentences(lines)


def _to_rotate(
    run: Run, manager: Backend, references: Sequence[str | RawKey], filters: Filters, plan: RotationPlan
) -> Rotatable:
    """Return the keys to rotate, and say so where the filters select none. Raises `KeyctlError`."""
    wanted = select_keys.selection(filters) if filters.given else None
    found = manager.to_rotate(references, wanted, plan)
    if wanted is not None and not found.keys:
        run.note("No key fits: nothing to do.")
        select_keys.note_unknown_owner(run, manager, wanted)
    return found


def _which_keys() -> KeyctlError:
    return KeyctlError(
        Code.USAGE, "rotate needs to know which keys", "Name a KEY, or filter as 'alphalens-keyctl list' does."
    )


def _plan(run: Run, asked: Asked) -> RotationPlan:
    return RotationPlan(
        asked_at=run.asked_at,
        retirement=Retirement(GRACE if asked.grace is None else asked.grace, asked.deadline),
        expires_at=asked.expires_at,
        same_lifetime=asked.same_lifetime,
        due=Due(asked.if_older_than, asked.if_expiring_within),
        override=asked.override,
    )


def _trial(run: Run, line: str, given: Destinations) -> Trial:
    """Return the trial: it runs a command with the new key, and raises `KeyctlError` when the command fails."""
    command = deliver_key.command_line(run, line, "--check", given)
    command.look_up()

    def check(key: Key, raw: RawKey) -> None:
        command.run(raw, about(key))

    return check


def _rotate_one(run: Run, reference: str | RawKey, how: How, destinations: Handover) -> None:
    """Rotate one key and say what was done."""
    output = how.output
    with run.manager() as manager:
        result = _rotate(run, manager, manager.find(reference), how, destinations)
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
    how: How,
    destinations: Callable[[], Handover],
) -> None:
    """Rotate several keys, each in transactions of its own: when one rotation fails, the others are made all the same.

    Raises `KeyctlError` (some_failed) when one failed.
    """
    if not references and not filters.given:
        raise _which_keys()
    output = how.output
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
        how = how._replace(output=output._replace(no_print=True))
    failures: list[str] = []
    with run.manager() as manager:
        found = _to_rotate(run, manager, references, filters, how.plan).keys
        for number, key in enumerate(found, 1):
            try:
                result = _rotate(run, manager, key, how, destinations())
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


def _rotate(run: Run, manager: Backend, key: Key, how: How, destinations: Handover) -> issuance.Rotated:
    output = how.output

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

    result = issuance.rotate(manager.steps, key.id, how.plan, destinations, show, trial=how.trial)
    if output.jsonl and (result.raw is None or output.no_print):
        runs.report(documents.json_document(documents.rotated_object(result, shown=None)))
    return result


def _note(run: Run, result: issuance.Rotated, destinations: Sequence[str]) -> None:
    run.note(f"Rotated key '{result.key.name}'; the new id is {result.key.id}.")
    run.note_delivery(destinations)
    if result.previous is not None:
        run.note(retirement(result.previous, run.act.at, grace_after_use=result.grace_after_use))


def _what_was_done(result: issuance.Rotated) -> str:
    if result.previous is None:
        return f"key '{result.key.name}' ({result.key.id}) needs no rotation yet"
    return f"rotated key '{result.key.name}'; the new id is {result.key.id}"
