"""`rotate KEY…`: a successor for each; the old key works until its grace is over."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonLinesOption, JsonOption, complete_key, parse_key
from alphalens_keyctl.cli.options.destinations import Destinations, command_line
from alphalens_keyctl.cli.options.filters import Filters
from alphalens_keyctl.cli.options.groups import with_groups
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.moments import parse_expiry, parse_span

if TYPE_CHECKING:
    from alphalens_keyctl.cli.run import Run
    from alphalens_keyctl.keys.issuance import RotationPlan
    from alphalens_keyctl.models import Key

DEADLINE = "30d"


@with_groups(filters=Filters, destinations=Destinations)
def rotate(
    ctx: typer.Context,
    keys: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY",
            autocompletion=complete_key,
            show_default=False,
            help="Names, ids, starts of ids of 6 or more characters, or - for a raw key on stdin.",
        ),
    ] = None,
    grace: Annotated[
        str, typer.Option("--grace", metavar="DUR", help="How long the old key keeps working; 0 cuts at once.")
    ] = "24h",
    until_used: Annotated[
        bool, typer.Option("--until-used", help="Start the grace when the new key is first used.")
    ] = False,
    deadline: Annotated[
        str | None,
        typer.Option(
            "--deadline",
            metavar="DUR",
            show_default=False,
            help=f"With --until-used: the old key ends then whatever happens. Default: {DEADLINE}.",
        ),
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option(
            "--expires",
            metavar="WHEN",
            show_default=False,
            help="When the new key expires. Default: it lives as long as the old one was meant to.",
        ),
    ] = None,
    if_older_than: Annotated[
        str | None,
        typer.Option("--if-older-than", metavar="DUR", show_default=False, help="Only a key active for longer."),
    ] = None,
    if_expiring_within: Annotated[
        str | None,
        typer.Option("--if-expiring-within", metavar="DUR", show_default=False, help="Only a key about to expire."),
    ] = None,
    check: Annotated[
        str | None,
        typer.Option(
            "--check",
            metavar="CMD",
            show_default=False,
            help="Last, run this with the new raw key on its stdin; if it fails, take the rotation back.",
        ),
    ] = None,
    abort: Annotated[
        bool, typer.Option("--abort", help="Take an unused new key back; the old one is current again.")
    ] = False,
    json: JsonOption = False,
    jsonl: JsonLinesOption = False,
    *,
    filters: Filters,
    destinations: Destinations,
) -> None:
    """Replace a key by a successor of the same name, owner, purpose and labels.

    The old key keeps working for its grace. Of rotations at once one wins, the rest exit 6. Several keys, or
    filters, need --pipe-to or --jsonl.
    """
    run = runs.of(ctx)
    from alphalens_keyctl.cli import rotate_keys

    runs.one_format(json=json, jsonl=jsonl)
    references = [parse_key(key) for key in keys or ()]
    if abort:
        rotate_keys.abort(run, references, json=json)
        return
    plan = _plan(run, grace, until_used, deadline, expires, if_older_than, if_expiring_within)
    if check is not None:
        plan = plan._replace(trial=_trial(run, check, destinations.pipe_timeout))
    output = rotate_keys.Output(json=json, jsonl=jsonl, no_print=destinations.no_print)

    if len(references) == 1 and not filters.given and not jsonl:
        rotate_keys.rotate_one(run, references[0], plan, destinations.handover(run), output)
        return
    if destinations.key_file or destinations.env_file:
        raise KeyctlError(Code.USAGE, "several keys do not fit into one file", "Use --pipe-to, --keyring or --jsonl.")
    rotate_keys.rotate_each(run, references, filters, plan, lambda: destinations.handover(run), output)


def _plan(
    run: "Run",
    grace: str,
    until_used: bool,
    deadline: str | None,
    expires: str | None,
    if_older_than: str | None,
    if_expiring_within: str | None,
) -> "RotationPlan":
    from alphalens_keyctl.keys import issuance
    from alphalens_keyctl.keys.rotation import Retirement

    if deadline is not None and not until_used:
        raise KeyctlError(
            Code.USAGE, "--deadline is for --until-used", "Without it --grace says when the old key ends."
        )
    return issuance.RotationPlan(
        asked_at=run.asked_at,
        retirement=Retirement(
            parse_span(grace, what="grace", zero=True),
            parse_span(deadline or DEADLINE, what="deadline") if until_used else None,
        ),
        expires_at=parse_expiry(expires, now=run.act.at) if expires is not None else None,
        same_lifetime=expires is None,
        due=_Due(
            None if if_older_than is None else parse_span(if_older_than, what="age"),
            None if if_expiring_within is None else parse_span(if_expiring_within, what="time to expiry"),
            run.act.at,
        ),
    )


def _trial(run: "Run", line: str, timeout: float) -> "Callable[[Key, RawKey], None]":
    """The last step of a careful rotation: a command that tries the new key."""
    from alphalens_keyctl.delivery.destination import about

    command = command_line(run, line, "--check", timeout)
    command.look_up()

    def check(key: "Key", raw: RawKey) -> None:
        command.run(raw, about(key))

    return check


class _Due:
    """Whether a key needs rotating: always, unless a condition was given; then when one of them holds."""

    def __init__(self, age: timedelta | None, remaining: timedelta | None, now: datetime) -> None:
        self._age = age
        self._remaining = remaining
        self._now = now

    def __call__(self, key: "Key") -> bool:
        if self._age is None and self._remaining is None:
            return True
        old = self._age is not None and (key.activated_at or key.created_at) <= self._now - self._age
        ending = (
            self._remaining is not None and key.expires_at is not None and key.expires_at <= self._now + self._remaining
        )
        return old or ending
