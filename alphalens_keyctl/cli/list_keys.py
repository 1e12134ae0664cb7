"""What `list` does: select keys and print them, as a table or in a machine format."""

from alphalens_keyctl.cli import select_keys
from alphalens_keyctl.cli.options.arguments import one_of
from alphalens_keyctl.cli.options.filters import Filters
from alphalens_keyctl.cli.options.rows import TERMINAL_LIMIT
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.keys import selection
from alphalens_keyctl.output import channel, documents
from alphalens_keyctl.output.documents import Format


def list_keys(run: Run, filters: Filters, *, final: bool, sort: str, limit: int | None, machine: Format | None) -> None:
    """Print the keys that the filters select, in the order `sort`; with `final` also revoked and retired keys.

    Prints at most `limit` keys; where it is None, `TERMINAL_LIMIT` in a table and all in a machine format. The table
    says how many more there are. Raises `KeyctlError`.
    """
    wanted = select_keys.selection(filters, final=final)
    order, now = one_of(selection.Sort, sort, "order"), run.act.at
    with run.database() as database, database.reading() as connection:
        if machine is not None:
            found = selection.documents(connection, wanted, sort=order, limit=limit, now=now)
            channel.write(documents.keys_as(machine, found), utf8=True)
            return
        keys = selection.read(connection, wanted, sort=order, limit=TERMINAL_LIMIT if limit is None else limit, now=now)
        total = selection.count(connection, wanted, now=now)
        hidden = (
            0 if final or wanted.statuses else selection.count(connection, wanted._replace(final=True), now=now) - total
        )
    from alphalens_keyctl.output import tables

    channel.write([tables.key_list(keys, total, hidden=hidden, now=now, screen=run.screen())])
