"""What `list` does: select keys and print them: as a table, as lines for a pipe, or in a machine format."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, NamedTuple

from alphalens_keyctl.cli import select_keys
from alphalens_keyctl.cli.options.filters import Filters
from alphalens_keyctl.cli.options.rows import TERMINAL_LIMIT
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keys.selection import KeyDocument, Selection, Sort
from alphalens_keyctl.manager.backend import Backend
from alphalens_keyctl.models import Key, Status
from alphalens_keyctl.output import channel, documents, sentences
from alphalens_keyctl.output.documents import Format
from alphalens_keyctl.text import one_of, quoted

# What stands in the headings of the table → the fields of a key.
_MEANT: Final = {"expires": "expires_at", "created": "created_at", "last used": "last_used_at", "uses": "use_count"}
# Keys on their way somewhere that a note beside a pipe names.
_MOST_NOTED: Final = 20


class Asked(NamedTuple):
    """What the options of `list` ask for, beside the filters.

    Each of `texts` must be found in a key. With `final` also revoked and retired keys are listed. A `limit` of None is
    `TERMINAL_LIMIT` on a terminal, and no limit elsewhere. `columns` are names with commas between. `machine` is the
    machine format, None for people.
    """

    texts: Sequence[str]
    final: bool
    sort: str
    limit: int | None
    columns: str | None
    machine: Format | None


def list_keys(run: Run, filters: Filters, asked: Asked) -> None:
    """Print the keys that the filters select. On a terminal the last line says how many more there are.

    Raises `KeyctlError`.
    """
    wanted = select_keys.selection(filters, final=asked.final, containing=asked.texts)
    order = one_of(Sort, asked.sort, "order")
    columns = None if asked.columns is None else _columns(asked.columns)
    terminal = asked.machine is None and channel.is_terminal(sys.stdout)
    with run.manager() as manager:
        if terminal:
            channel.write(_drawn(run, manager, wanted, order, asked.limit, columns))
            return
        unfinished = _write(run, manager, wanted, order, asked, columns)
    for key in unfinished:
        run.note(sentences.unfinished(key.id, key.name, key.delivering_to))


def _write(
    run: Run, manager: Backend, wanted: Selection, order: Sort, asked: Asked, columns: Sequence[str] | None
) -> list[KeyDocument]:
    """Write the keys for a machine, or a line for each; then return the first whose delivery was cut off."""
    unfinished: list[KeyDocument] = []
    with manager.documents(wanted, sort=order, limit=asked.limit) as found:
        if asked.machine is not None:
            channel.write(documents.keys_as(asked.machine, found, columns or Key._fields), utf8=True)
            return unfinished
        first = next(found, None)
        if first is not None:
            listed = _noticed(chain((first,), found), unfinished)
            channel.write(documents.key_lines(listed, columns or documents.USUAL_COLUMNS), utf8=True)
    if first is None:
        select_keys.note_unknown_owner(run, manager, wanted)
    return unfinished


def _drawn(
    run: Run, manager: Backend, wanted: Selection, order: Sort, limit: int | None, columns: Sequence[str] | None
) -> Iterator[str]:
    """The table, streamed, and below it, unless --quiet, how many keys there are."""
    from alphalens_keyctl.output.key_list import KeyList

    most = TERMINAL_LIMIT if limit is None else limit
    with manager.keys(wanted, sort=order, limit=most) as found:
        keys = KeyList(found, columns, now=run.act.at, screen=run.screen())
        yield from keys
    if run.quiet:
        return
    total = keys.shown if keys.shown < most else manager.count(wanted)
    hidden = 0
    if not (wanted.final or wanted.statuses):
        hidden = manager.count(wanted._replace(final=True)) - total
    yield keys.footer(total, hidden)
    if not keys.shown:
        select_keys.note_unknown_owner(run, manager, wanted)


def _columns(given: str) -> list[str]:
    """The names of columns, each once. Raises `KeyctlError` (usage) for one that there is not."""
    names = [name.strip() for name in given.split(",")]
    for name in names:
        if name not in Key._fields:
            meant = _MEANT.get(name.lower(), name.lower().replace(" ", "_").replace("-", "_"))
            said = f"Did you mean {meant}? " if meant in Key._fields else ""
            raise KeyctlError(
                Code.USAGE, f"there is no column {quoted(name)}", f"{said}There are: {', '.join(Key._fields)}."
            )
    return list(dict.fromkeys(names))


def _noticed(found: Iterable[KeyDocument], unfinished: list[KeyDocument]) -> Iterator[KeyDocument]:
    """The keys as they come; the first whose delivery was cut off are added to `unfinished` on the way."""
    for row in found:
        key = KeyDocument._make(row)
        if key.status == Status.DELIVERING and len(unfinished) < _MOST_NOTED:
            unfinished.append(key)
        yield key
