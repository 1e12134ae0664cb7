"""What `audit` alone does: select events of the audit log and print them, as a story or in a machine format."""

from datetime import datetime

from alphalens_keyctl.cli.audit import follow_log
from alphalens_keyctl.cli.options.rows import TERMINAL_LIMIT
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.logs.audit import LogFilter
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
    after: int | None,
    limit: int | None,
    machine: Format | Feed | None,
    reverse: bool,
    follow: bool,
) -> None:
    """Print the events that fit every filter that is not None, oldest first, or with `reverse` newest first. `since`
    and `until` are UTC. With `follow`, go on with each new event, as `follow_log` does.

    Prints the latest `limit` events, or where reading goes on behind an event the next ones; where `limit` is None,
    `TERMINAL_LIMIT` for people and all in a machine format. People are told how many more there are. Raises
    `KeyctlError`.
    """
    wanted = LogFilter(
        actor=actor,
        action=None if action is None else one_of(Action, action, "action"),
        since=since,
        until=until,
        after_seq=after,
    )
    if follow:
        follow_log.follow_log(run, wanted, reference=reference, limit=limit, machine=machine)
        return
    with run.manager() as manager:
        if reference is not None:
            wanted = wanted._replace(key_ids=manager.key_ids(reference))
        if machine is not None:
            with manager.events(wanted, limit=limit, reverse=reverse) as events:
                lines = (
                    feeds.events_as(machine, events)
                    if isinstance(machine, Feed)
                    else documents.events_as(machine, events)
                )
                channel.write(lines, utf8=True)
            return
        with manager.events(wanted, limit=TERMINAL_LIMIT if limit is None else limit, reverse=reverse) as events:
            shown = list(events)
        total = manager.count_events(wanted)
    from alphalens_keyctl.output.event_list import event_list

    channel.write(event_list(shown, total, screen=run.screen(), behind=wanted.after_seq is not None))
