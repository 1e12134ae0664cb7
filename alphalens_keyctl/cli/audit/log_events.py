"""What `audit` alone does: select events of the audit log and print them, as a table or in a machine format."""

from datetime import datetime

from alphalens_keyctl.cli.options.rows import TERMINAL_LIMIT
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.logs import audit
from alphalens_keyctl.models import Action
from alphalens_keyctl.output import channel, documents, feeds
from alphalens_keyctl.output.documents import Format
from alphalens_keyctl.output.feeds import Feed
from alphalens_keyctl.text import one_of


def show_log(
    run: Run,
    *,
    reference: str | RawKey | None,
    actor: str | None,
    action: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int | None,
    after: int | None,
    machine: Format | Feed | None,
) -> None:
    """Print the events that fit every filter that is not None, oldest first. `since` and `until` are UTC.

    Prints the latest `limit` events, or with `after` the next ones behind the event of that number; where `limit` is
    None, `TERMINAL_LIMIT` in a table and all in a machine format. The table says how many more there are. Raises
    `KeyctlError`.
    """
    wanted = audit.LogFilter(
        actor=actor,
        action=None if action is None else one_of(Action, action, "action"),
        since=since,
        until=until,
        after_seq=after,
    )
    with run.manager() as manager:
        if reference is not None:
            wanted = wanted._replace(key_ids=manager.key_ids(reference))
        if machine is not None:
            with manager.events(wanted, limit=limit) as events:
                lines = (
                    feeds.events_as(machine, events)
                    if isinstance(machine, Feed)
                    else documents.events_as(machine, events)
                )
                channel.write(lines, utf8=True)
            return
        with manager.events(wanted, limit=TERMINAL_LIMIT if limit is None else limit) as events:
            shown = list(events)
        total = manager.count_events(wanted)
    from alphalens_keyctl.output import tables

    channel.write([tables.event_list(shown, total, now=run.act.at, screen=run.screen())])
