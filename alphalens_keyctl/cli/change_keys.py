"""What the commands that change keys share: choose keys, guard, ask, change, report."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, NamedTuple, Protocol

from sqlalchemy import ColumnElement, Connection

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli import select_keys
from alphalens_keyctl.cli.options.guards import MOST_BY_FILTER, Asked
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.database import Database, Writing
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.keys import selection
from alphalens_keyctl.keys.lifecycle import Changed
from alphalens_keyctl.keys.selection import Selection
from alphalens_keyctl.logs import usage
from alphalens_keyctl.models import Key, Status
from alphalens_keyctl.moments import rfc3339
from alphalens_keyctl.output import channel, documents, sentences
from alphalens_keyctl.output.inert import for_terminal
from alphalens_keyctl.output.words import counted
from alphalens_keyctl.provenance import Act

# A key used this recently is in use: a filter may not stop it without --in-use.
_IN_USE: Final = timedelta(hours=1)
# The question before a change says how much each key was used in this time.
_LATELY: Final = timedelta(days=7)
_MOST_NAMED: Final = 10


class Verb(Protocol):
    """What a command does to keys, and how the command words it."""

    @property
    def command(self) -> str:
        """The name of the command."""

    @property
    def done(self) -> str:
        """The word before a key that was changed: "Revoked"."""

    @property
    def statuses(self) -> tuple[Status, ...]:
        """The statuses of the keys that filters select when the filters name none."""

    def question(self, these: str) -> str:
        """The question to ask; `these` is "this key", or how many keys."""

    def unchanged(self, key: Key) -> str:
        """Why a key stays as it is, to follow its id."""

    def meant(self, connection: Connection, reference: str | RawKey, now: datetime) -> list[Key]:
        """The keys that KEY means, the one that was named first. Raises `KeyctlError` as `lookup.find` does."""

    def applies(self, now: datetime) -> ColumnElement[bool] | None:
        """The condition for a key that would be changed; None where only `divided` can tell."""

    def divided(self, connection: Connection, key_ids: Sequence[str], now: datetime, *, named: bool) -> Changed:
        """Which of these keys would be changed, with every key that changes along with them, and which would not.

        `named` says that they were named, and not selected by filters alone. Raises `KeyctlError` for a key that must
        not be asked for.
        """

    def endangered(self, now: datetime) -> ColumnElement[bool] | None:
        """The condition for a key that the change takes from whoever uses it; None where the change takes none."""

    def apply(
        self,
        tx: Writing,
        database: Database,
        key_ids: Sequence[str],
        asked: Asked,
        act: Act,
        tell: Callable[[int], None],
    ) -> Changed:
        """Change the keys. `tell` is called with the number of those that are done. Raises `KeyctlError`."""

    def still_open(self, connection: Connection, key_ids: Sequence[str], now: datetime) -> Iterator[Key] | None:
        """The keys of the same names that go on opening; None where the command does not say so."""


class Chosen(NamedTuple):
    """The ids of the keys that were asked for: those that change, and those that stay as they are. In a dry run,
    `stopped_by` is the error that the real run would end with."""

    changing: list[str]
    rest: list[str]
    stopped_by: KeyctlError | None = None


def change_keys(run: Run, verb: Verb, asked: Asked) -> Changed:
    """Change the keys that were asked for, and report it. Raises `KeyctlError`."""
    wanted = _wanted(verb, asked)
    with run.database() as database:
        if asked.yes and not asked.dry_run:
            done = _change(run, database, verb, asked, wanted, None)
        else:
            with database.reading() as connection:
                chosen = _choose(connection, verb, asked, wanted, run.act.at)
            confirmed = bool(chosen.changing) and _confirm(run, database, verb, asked, wanted, chosen)
            if asked.dry_run:
                done = Changed(chosen.changing, chosen.rest)
            else:
                # Filters that selected nothing led to no question: a key that fits them a moment later must stay.
                shown = chosen if confirmed or (wanted is not None and not chosen.changing) else None
                done = _change(run, database, verb, asked, wanted, shown)
        try:
            _report(run, database, verb, asked, wanted, done)
        except KeyctlError as error:
            if asked.dry_run:
                raise
            raise KeyctlError(error.code, error.message, "The change was made; only the report failed.") from error
        if asked.dry_run and chosen.stopped_by is not None:
            raise chosen.stopped_by
    return done


def _wanted(verb: Verb, asked: Asked) -> Selection | None:
    if not asked.references and not asked.filters.given:
        raise KeyctlError(
            Code.USAGE,
            f"{verb.command} needs to know which keys",
            "Name a KEY, or filter as 'alphalens-keyctl list' does.",
        )
    if not asked.filters.given:
        if asked.most is not None or asked.in_use:
            raise KeyctlError(Code.USAGE, "--max and --in-use are for filters", "Keys that are named need neither.")
        return None
    wanted = select_keys.selection(asked.filters)
    # --expired names a status too.
    return wanted if wanted.statuses or wanted.expired else wanted._replace(statuses=verb.statuses)


def _choose(connection: Connection, verb: Verb, asked: Asked, wanted: Selection | None, now: datetime) -> Chosen:
    """Return the named keys, or the keys that the filters select, or of the named keys those that fit the filters."""
    if not asked.references:
        assert wanted is not None  # noqa: S101  # one of the two was given
        return _filtered(connection, verb, asked, wanted, now)
    meant = [verb.meant(connection, each, now) for each in asked.references]
    fitting = list({key.id: key for keys in meant for key in keys})
    if wanted is not None:
        fitting = selection.ids(connection, wanted, among=fitting, now=now)
        select_keys.refuse_left_out(meant, set(fitting), wanted)
    changing, rest = verb.divided(connection, fitting, now, named=True)
    stopped_by = None
    if asked.most is not None and len(changing) > asked.most:
        stopped_by = _too_many(len(changing), asked.most)
    return _allowed(asked, changing, rest, stopped_by)


def _filtered(connection: Connection, verb: Verb, asked: Asked, wanted: Selection, now: datetime) -> Chosen:
    applies = verb.applies(now)
    most = asked.most or MOST_BY_FILTER
    if applies is None:
        selected = selection.ids(connection, wanted, now=now)
        changing, rest = verb.divided(connection, selected, now, named=False)
    else:
        changing = selection.ids(connection, wanted, also=applies, limit=None if asked.dry_run else most + 1, now=now)
        rest = []
    stopped_by = None
    if len(changing) > most:
        stopped_by = _too_many(selection.count(connection, wanted, now=now), most)
    elif changing and asked.most is None and not selection.leaves_any_out(connection, wanted, now=now):
        stopped_by = KeyctlError(
            Code.TOO_MANY,
            f"the filters select every key there is, {len(changing):,} in all; nothing was changed",
            f"If that is what you want, say --max {len(changing)}.",
        )
    elif not asked.in_use and (endangered := verb.endangered(now)) is not None:
        stopped_by = _in_use(connection, wanted, endangered, now)
    if applies is not None and (stopped_by is None or asked.dry_run):
        rest = selection.ids(connection, wanted, also=~applies, now=now)
    return _allowed(asked, changing, rest, stopped_by)


def _allowed(asked: Asked, changing: list[str], rest: list[str], stopped_by: KeyctlError | None) -> Chosen:
    """Return the keys unless something stops the change; a dry run shows them first, and ends with the error."""
    if stopped_by is not None and not asked.dry_run:
        raise stopped_by
    return Chosen(changing, rest, stopped_by)


def _too_many(number: int, most: int) -> KeyctlError:
    return KeyctlError(
        Code.TOO_MANY,
        f"the filters select {number:,} keys, and at most {most:,} may change at once; nothing was changed",
        f"Filter more closely, or say --max {number}.",
    )


def _in_use(
    connection: Connection, wanted: Selection, endangered: ColumnElement[bool], now: datetime
) -> KeyctlError | None:
    busy = selection.used_since(connection, wanted, now - _IN_USE, also=endangered, limit=_MOST_NAMED + 1, now=now)
    if not busy:
        return None
    named = ", ".join(f"'{key.name}' ({key.id})" for key in busy[:_MOST_NAMED])
    more = " and more" if len(busy) > _MOST_NAMED else ""
    return KeyctlError(
        Code.IN_USE,
        f"used within the last hour: {named}{more}; nothing was changed",
        "Filter them out, or say --in-use.",
    )


def _confirm(run: Run, database: Database, verb: Verb, asked: Asked, wanted: Selection | None, chosen: Chosen) -> bool:
    """Show the keys that would change and ask. True when the answer was yes; False in a dry run, and for
    named keys where nobody can answer.

    Raises `KeyctlError` (declined, usage).
    """
    if asked.dry_run:
        return False
    if not runs.can_ask():
        if wanted is None:
            return False
        raise KeyctlError(
            Code.USAGE,
            f"{verb.command} by filter asks first, and nobody is there to answer",
            "Add --yes; --dry-run shows what it would do.",
        )
    number = len(chosen.changing)
    if wanted is not None:
        channel.note(f"{counted(number, 'key')} {sentences.selected(wanted)}:")
    with database.reading() as connection:
        # Every key that was named, and of those that filters select the first.
        most = _MOST_NAMED if wanted is not None else None
        shown = selection.some(connection, chosen.changing[:most], now=run.act.at)
        lately = usage.lately(connection, [key.id for key in shown], since=run.act.at - _LATELY)
    for key in shown:
        channel.note(
            f"  {key.name} ({key.id}, {key.status}): {sentences.used_lately(key, lately.get(key.id), run.act.at)}"
        )
    if number > len(shown):
        channel.note(f"  and {number - len(shown):,} more")
    run.confirm(verb.question("this key" if number == 1 else f"these {number:,} keys"))
    return True


def _change(
    run: Run, database: Database, verb: Verb, asked: Asked, wanted: Selection | None, shown: Chosen | None
) -> Changed:
    with database.writing() as tx:
        act = run.act.now()
        chosen = _choose(tx, verb, asked, wanted, act.at)
        if shown is not None and not set(chosen.changing) <= set(shown.changing):
            # While the question stood, a rotation may have given the name to a key that the answer was not about.
            raise KeyctlError(
                Code.LOST_RACE,
                "other keys are meant than a moment ago; nothing was changed",
                "Look at them again, then repeat the command.",
            )
        with run.progress(f"{verb.command.capitalize()} keys", len(chosen.changing)) as tell:
            done = verb.apply(tx, database, chosen.changing, asked, act, tell)
    unchanged = set(done.unchanged)
    # In the order in which the keys were named, as in a dry run.
    return Changed(
        [each for each in chosen.changing if each not in unchanged],
        [*(each for each in chosen.changing if each in unchanged), *chosen.rest],
    )


def _report(run: Run, database: Database, verb: Verb, asked: Asked, wanted: Selection | None, done: Changed) -> None:
    with database.reading() as connection:
        # Filters select each night what the night before has ended: cron would send mail about it each time.
        about = done.changed if not asked.references else [*done.changed, *done.unchanged]
        still_open = verb.still_open(connection, about, run.act.at)
        if asked.json:
            changed, unchanged = (
                selection.documents_of(connection, ids, now=run.act.at) for ids in (done.changed, done.unchanged)
            )
            runs.report_all(documents.changed_texts(changed, unchanged, still_open, dry_run=asked.dry_run))
            return
        # A dry run shows all that would change, a million too; of what was done the log has the rest.
        most = None if asked.dry_run else MOST_BY_FILTER
        changed_keys = selection.some(connection, done.changed[:most], now=run.act.at)
        unchanged_keys = selection.some(connection, done.unchanged[:_MOST_NAMED], now=run.act.at)
        siblings = list(islice(still_open or (), MOST_BY_FILTER))
    did = f"Would {verb.command}" if asked.dry_run else verb.done
    lines = [f"{did} key '{key.name}' ({key.id})." for key in changed_keys]
    if len(done.changed) > len(changed_keys):
        lines.append(f"{did} {len(done.changed):,} keys in all.")
    # A filter selects each night what the night before has suspended: cron would send mail about it each time.
    if not (run.quiet and asked.filters.given):
        lines += [f"Key '{key.name}' ({key.id}) {verb.unchanged(key)}." for key in unchanged_keys]
        if len(done.unchanged) > len(unchanged_keys):
            lines.append(f"{len(done.unchanged):,} keys were left as they are.")
    if not lines:
        run.note("No key fits: nothing to do.")
        if wanted is not None:
            with database.reading() as connection:
                select_keys.note_unknown_owner(run, connection, wanted)
    runs.report_sentences(lines)
    for key in siblings:
        # Not silenced by --quiet: who revoked a leaked key has to hear that another one opens as it did (promise 5).
        until = f" until {rfc3339(key.ends_at)}" if key.ends_at is not None else ""
        channel.note(
            for_terminal(
                f"Mind: key {key.id}, also called '{key.name}', still opens{until}: it is {key.status}."
                f" To end it: alphalens-keyctl {verb.command} {key.id}"
            )
        )
