"""What the commands that change keys share: preview, ask, change, report."""

from datetime import timedelta
from itertools import islice
from typing import Final, NamedTuple

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli import select_keys
from alphalens_keyctl.cli.options.guards import Asked
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keys import changes, wording
from alphalens_keyctl.keys.changes import Change, Targets
from alphalens_keyctl.keys.guards import MOST_BY_FILTER
from alphalens_keyctl.keys.selection import Selection
from alphalens_keyctl.manager.backend import Backend, Outcome
from alphalens_keyctl.models import Key, Status
from alphalens_keyctl.moments import rfc3339
from alphalens_keyctl.output import channel, documents, sentences
from alphalens_keyctl.output.inert import for_terminal
from alphalens_keyctl.output.words import counted

# The question before a change says how much each key was used in this time.
_LATELY: Final = timedelta(days=7)
_MOST_NAMED: Final = 10


class Words(NamedTuple):
    """How a command words what it does to keys.

    `done` stands before a key that was changed: "Revoked". `question` and `question_end` stand around "this key", or
    how many keys. `unchanged` is why a key stays as it is, to follow its id, with a place for its status; `damaged` the
    same for a damaged key.
    """

    done: str
    question: str
    unchanged: str
    damaged: str | None = None
    question_end: str = "?"


def change_keys(run: Run, change: Change, words: Words, asked: Asked) -> Outcome:
    """Change the keys that were asked for, and report it. Raises `KeyctlError`."""
    targets = _targets(change, asked)
    with run.manager() as manager:
        if asked.dry_run:
            outcome = manager.preview(change, targets)
            _report(run, manager, change, words, asked, targets.wanted, outcome)
            if outcome.stopped_by is not None:
                raise outcome.stopped_by
            return outcome
        only = None if asked.yes else _confirmed(run, manager, change, words, targets)
        outcome = manager.change(
            change, targets, only=only, progress=lambda total: run.progress(f"{change.verb.capitalize()} keys", total)
        )
        try:
            _report(run, manager, change, words, asked, targets.wanted, outcome)
        except KeyctlError as error:
            raise KeyctlError(error.code, error.message, "The change was made; only the report failed.") from error
    return outcome


def _targets(change: Change, asked: Asked) -> Targets:
    if not asked.references and not asked.filters.given:
        raise changes.which_keys(change.verb)
    if not asked.filters.given:
        if asked.most is not None or asked.in_use:
            raise KeyctlError(Code.USAGE, "--max and --in-use are for filters", "Keys that are named need neither.")
        return Targets(asked.references)
    wanted = changes.selecting(change, select_keys.selection(asked.filters))
    return Targets(asked.references, wanted, asked.most, asked.in_use)


def _confirmed(run: Run, manager: Backend, change: Change, words: Words, targets: Targets) -> frozenset[str] | None:
    """Show the keys that would change and ask. Return their ids when the answer was yes; None for named keys where
    nobody can answer, so that any may change.

    Raises `KeyctlError` (declined, usage).
    """
    outcome = manager.preview(change, targets)
    if outcome.stopped_by is not None:
        raise outcome.stopped_by
    wanted, changing = targets.wanted, outcome.changed
    if not changing:
        # Filters that selected nothing led to no question: a key that fits them a moment later must stay.
        return None if wanted is None else frozenset()
    if not runs.can_ask():
        if wanted is None:
            return None
        raise KeyctlError(
            Code.USAGE,
            f"{change.verb} by filter asks first, and nobody is there to answer",
            "Add --yes; --dry-run shows what it would do.",
        )
    _show(run, manager, outcome, wanted)
    number = len(changing)
    these = "this key" if number == 1 else f"these {number:,} keys"
    narrows = f" This narrows: {sentences.first_limits(outcome.narrowed)}." if outcome.narrowed else ""
    run.confirm(f"{words.question} {these}{words.question_end}{narrows}")
    return frozenset(changing)


def _show(run: Run, manager: Backend, outcome: Outcome, wanted: Selection | None) -> None:
    """Say which keys would change: every key that was named, and of those that filters select the first."""
    number = len(outcome.changed)
    if wanted is not None:
        channel.note(f"{counted(number, 'key')} {wording.selected(wanted)}:")
    shown = outcome.keys(outcome.changed[: _MOST_NAMED if wanted is not None else None])
    lately = manager.used_since([key.id for key in shown], run.act.at - _LATELY)
    for key in shown:
        channel.note(
            f"  {key.name} ({key.id}, {key.status}): {sentences.used_lately(key, lately.get(key.id), run.act.at)}"
        )
    if number > len(shown):
        channel.note(f"  and {number - len(shown):,} more")


def _report(
    run: Run, manager: Backend, change: Change, words: Words, asked: Asked, wanted: Selection | None, outcome: Outcome
) -> None:
    still_open = outcome.still_open()
    if asked.json:
        changed, unchanged = outcome.documents(outcome.changed), outcome.documents(outcome.unchanged)
        runs.report_all(documents.changed_texts(changed, unchanged, still_open, dry_run=asked.dry_run))
        return
    # A dry run shows all that would change, a million too; of what was done the log has the rest.
    changed_keys = outcome.keys(outcome.changed[: None if asked.dry_run else MOST_BY_FILTER])
    unchanged_keys = outcome.keys(outcome.unchanged[:_MOST_NAMED])
    siblings = list(islice(still_open or (), MOST_BY_FILTER))
    did = f"Would {change.verb}" if asked.dry_run else words.done
    lines = [f"{did} key '{key.name}' ({key.id})." for key in changed_keys]
    if len(outcome.changed) > len(changed_keys):
        lines.append(f"{did} {len(outcome.changed):,} keys in all.")
    # A filter selects each night what the night before has suspended: cron would send mail about it each time.
    if not (run.quiet and asked.filters.given):
        lines += [f"Key '{key.name}' ({key.id}) {_why_unchanged(words, key)}." for key in unchanged_keys]
        if len(outcome.unchanged) > len(unchanged_keys):
            lines.append(f"{len(outcome.unchanged):,} keys were left as they are.")
    if not lines:
        run.note("No key fits: nothing to do.")
        if wanted is not None:
            select_keys.note_unknown_owner(run, manager, wanted)
    runs.report_sentences(lines)
    for key in siblings:
        # Not silenced by --quiet: who revoked a leaked key has to hear that another one opens as it did (promise 5).
        until = f" until {rfc3339(key.ends_at)}" if key.ends_at is not None else ""
        channel.note(
            for_terminal(
                f"Mind: key {key.id}, also called '{key.name}', still opens{until}: it is {key.status}."
                f" To end it: alphalens-keyctl {change.verb} {key.id}"
            )
        )


def _why_unchanged(words: Words, key: Key) -> str:
    if key.status == Status.DAMAGED and words.damaged is not None:
        return words.damaged
    return words.unchanged.format(status=key.status)
