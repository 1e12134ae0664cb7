"""What `audit usage` does: sum the usage log up in a table, or print its rows in a machine format."""

from datetime import datetime, timedelta

from alphalens_keyctl.cli.audit.usage import DEFAULT_DAYS, KEYS_SHOWN
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.logs import usage
from alphalens_keyctl.logs.usage_rows import UsageFilter
from alphalens_keyctl.models import Reason
from alphalens_keyctl.output import channel, documents, feeds
from alphalens_keyctl.output.documents import Format
from alphalens_keyctl.output.feeds import Feed
from alphalens_keyctl.text import one_of


def show_usage(
    run: Run,
    *,
    reference: str | RawKey | None,
    outcome: str | None,
    since: datetime | None,
    until: datetime | None,
    after: int | None,
    limit: int | None,
    machine: Format | Feed | None,
) -> None:
    """Print the rows that fit every filter that is not None, oldest first, or without `machine` their summary.

    `since` and `until` are UTC. `limit` is a number of rows, the latest, or the next where reading goes on behind the
    row with the id `after`; in the summary it is a number of keys (`KEYS_SHOWN` where it is None). The summary starts
    `DEFAULT_DAYS` before its end where `since` is None. Raises `KeyctlError`.
    """
    now = run.act.at
    wanted = UsageFilter(
        outcome=None if outcome is None else one_of(Reason, outcome, "outcome"),
        since=since,
        until=until,
        after_id=after,
    )
    with run.manager() as manager:
        if reference is not None:
            wanted = wanted._replace(key_ids=manager.key_ids(reference))
        if machine is not None:
            with manager.uses(wanted, limit=limit) as uses:
                said = feeds.uses_as(machine, uses) if isinstance(machine, Feed) else documents.uses_as(machine, uses)
                channel.write(said, utf8=True)
            return
        end = until or now
        buckets = usage.divide(since or end - timedelta(days=DEFAULT_DAYS), end)
        found = manager.usage_summary(wanted, buckets, most_keys=KEYS_SHOWN if limit is None else limit)
    from alphalens_keyctl.output import usage as summaries

    channel.write([summaries.summary(found, now=now, screen=run.screen(), default_span=since is None)])
