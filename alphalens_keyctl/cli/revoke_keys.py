"""What `revoke`, `suspend` and `resume` do: choose keys, guard, ask, change, report."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Connection

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli import select_keys
from alphalens_keyctl.cli.options.guards import MOST_BY_FILTER, Asked
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.database import Database
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keys import lookup, revocation, selection
from alphalens_keyctl.keys.revocation import Changed, Revocation
from alphalens_keyctl.keys.selection import Selection
from alphalens_keyctl.logs import usage
from alphalens_keyctl.models import Key, Status
from alphalens_keyctl.moments import rfc3339
from alphalens_keyctl.output import channel, documents, sentences
from alphalens_keyctl.output.inert import for_terminal
from alphalens_keyctl.output.words import counted

# A key used this recently is in use: a filter may not stop it without --in-use.
_IN_USE: Final = timedelta(hours=1)
# The question before a change says how much each key was used in this time.
_LATELY: Final = timedelta(days=7)
_MOST_NAMED: Final = 10


class Verb(NamedTuple):
    """How a command words what it does.

    `stops` says whether it could stop a service. `statuses` are those of the keys that its filters select when they
    name no status.
    """

    revocation: Revocation
    verb: str
    done: str
    already: str
    stops: bool
    statuses: tuple[Status, ...] = ()


REVOKE: Final = Verb(Revocation.REVOKE, "Revoke", "Revoked", "was revoked already", stops=True)
SUSPEND: Final = Verb(Revocation.SUSPEND, "Suspend", "Suspended", "is {status}: left as it is", stops=True)
RESUME: Final = Verb(
    Revocation.RESUME, "Resume", "Resumed", "is {status}: left as it is", stops=False, statuses=(Status.SUSPENDED,)
)


class Chosen(NamedTuple):
    """The ids of the keys that were asked for: those that change, and those that stay as they are. In a dry run,
    `stopped_by` is the error that the real run would end with."""

    changing: list[str]
    rest: list[str]
    stopped_by: KeyctlError | None = None


def revoke(run: Run, asked: Asked, *, keyring: bool) -> None:
    """Revoke the keys that were asked for, and report it; with `keyring` also remove them from the keyring.

    Raises `KeyctlError`.
    """
    done = _change_keys(run, REVOKE, asked)
    if keyring and not asked.dry_run:
        _forget(run, done)


def suspend(run: Run, asked: Asked) -> None:
    """Suspend the keys that were asked for, and report it. Raises `KeyctlError`."""
    _change_keys(run, SUSPEND, asked)


def resume(run: Run, asked: Asked) -> None:
    """Resume the keys that were asked for, and report it. Raises `KeyctlError`."""
    _change_keys(run, RESUME, asked)


def _change_keys(run: Run, verb: Verb, asked: Asked) -> Changed:
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
            _report(run, database, verb, asked, done)
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
            f"{verb.revocation} needs to know which keys",
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
    applies = revocation.applies_to(verb.revocation, now=now)
    if not asked.references:
        assert wanted is not None  # noqa: S101  # one of the two was given
        return _filtered(connection, verb, asked, wanted, now)
    meant = [lookup.all_meant_by(connection, each, now=now) for each in asked.references]
    fitting = list({key.id: key for keys in meant for key in keys})
    if wanted is not None:
        fitting = selection.ids(connection, wanted, among=fitting, now=now)
        select_keys.refuse_left_out(meant, set(fitting), wanted)
    changing = set(selection.ids(connection, Selection(final=True), also=applies, among=fitting, now=now))
    stopped_by = None
    if asked.most is not None and len(changing) > asked.most:
        stopped_by = _too_many(len(changing), asked.most)
    return _allowed(
        asked,
        [each for each in fitting if each in changing],
        [each for each in fitting if each not in changing],
        stopped_by,
    )


def _filtered(connection: Connection, verb: Verb, asked: Asked, wanted: Selection, now: datetime) -> Chosen:
    applies = revocation.applies_to(verb.revocation, now=now)
    most = asked.most or MOST_BY_FILTER
    changing = selection.ids(connection, wanted, also=applies, limit=None if asked.dry_run else most + 1, now=now)
    stopped_by = None
    if len(changing) > most:
        stopped_by = _too_many(selection.count(connection, wanted, now=now), most)
    elif changing and asked.most is None and not selection.leaves_any_out(connection, wanted, now=now):
        stopped_by = KeyctlError(
            Code.TOO_MANY,
            f"the filters select every key there is, {len(changing):,} in all; nothing was changed",
            f"If that is what you want, say --max {len(changing)}.",
        )
    elif verb.stops and not asked.in_use:
        stopped_by = _in_use(connection, wanted, applies, now)
    return _allowed(asked, changing, selection.ids(connection, wanted, also=~applies, now=now), stopped_by)


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
    connection: Connection, wanted: Selection, applies: ColumnElement[bool], now: datetime
) -> KeyctlError | None:
    busy = selection.used_since(connection, wanted, now - _IN_USE, also=applies, limit=_MOST_NAMED + 1, now=now)
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
            f"{verb.revocation} by filter asks first, and nobody is there to answer",
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
    for_good = " for good" if verb.revocation is Revocation.REVOKE else ""
    runs.confirm(f"{verb.verb} {'this key' if number == 1 else f'these {number:,} keys'}{for_good}?")
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
        with run.progress(f"{verb.verb} keys", len(chosen.changing)) as tell:
            done = revocation.apply(tx, verb.revocation, chosen.changing, act, reason=asked.reason, tell=tell)
    unchanged = set(done.unchanged)
    # In the order in which the keys were named, as in a dry run.
    return Changed(
        [each for each in chosen.changing if each not in unchanged],
        [*(each for each in chosen.changing if each in unchanged), *chosen.rest],
    )


def _report(run: Run, database: Database, verb: Verb, asked: Asked, done: Changed) -> None:
    with database.reading() as connection:
        still_open = _still_open(connection, verb, asked, done, run.act.at)
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
        siblings = list(islice(still_open, MOST_BY_FILTER))
    did = f"Would {verb.verb.lower()}" if asked.dry_run else verb.done
    lines = [f"{did} key '{key.name}' ({key.id})." for key in changed_keys]
    if len(done.changed) > len(changed_keys):
        lines.append(f"{did} {len(done.changed):,} keys in all.")
    # A filter selects each night what the night before has suspended: cron would send mail about it each time.
    if not (run.quiet and asked.filters.given):
        lines += [f"Key '{key.name}' ({key.id}) {verb.already.format(status=key.status)}." for key in unchanged_keys]
        if len(done.unchanged) > len(unchanged_keys):
            lines.append(f"{len(done.unchanged):,} keys were left as they are.")
    if not lines:
        run.note("No key fits: nothing to do.")
    runs.report("".join(for_terminal(line) + "\n" for line in lines))
    for key in siblings:
        # Not silenced by --quiet: who revoked a leaked key has to hear that another one opens as it did (promise 5).
        until = f" until {rfc3339(key.ends_at)}" if key.ends_at is not None else ""
        channel.note(
            for_terminal(
                f"Mind: key {key.id}, also called '{key.name}', still opens{until}: it is {key.status}."
                f" To end it: alphalens-keyctl {verb.revocation} {key.id}"
            )
        )


def _still_open(connection: Connection, verb: Verb, asked: Asked, done: Changed, now: datetime) -> Iterator[Key]:
    """The keys that share a name with the keys that were asked for, were not asked for, and open."""
    if verb.revocation is Revocation.RESUME:
        return iter(())
    # Filters select each night what the night before has ended: cron would send mail about it each time.
    ids = done.changed if not asked.references else [*done.changed, *done.unchanged]
    return lookup.still_opening(connection, ids, now=now)


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
