"""`rotate KEY`: a successor, shown once; the old key works until its grace is over."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.arguments import JsonOption, KeyArgument, parse_key
from alphalens_keyctl.cli.shown_once import show_once
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.moments import parse_expiry, parse_span

if TYPE_CHECKING:
    from alphalens_keyctl.models import Key


def rotate(
    ctx: typer.Context,
    key: KeyArgument,
    grace: Annotated[
        str, typer.Option("--grace", metavar="DUR", help="How long the old key keeps working; 0 cuts at once.")
    ] = "24h",
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
    json: JsonOption = False,
) -> None:
    """Replace a key by a successor of the same name, owner, purpose and labels.

    The old key keeps working for its grace. Of rotations at once one wins, the rest exit 6.
    """
    run = runs.of(ctx)
    from alphalens_keyctl import delivery, issuance, selection
    from alphalens_keyctl.output import channel, documents

    plan = issuance.RotationPlan(
        asked_at=run.asked_at,
        grace=parse_span(grace, what="grace", zero=True),
        expires_at=parse_expiry(expires, now=run.act.at) if expires is not None else None,
        same_lifetime=expires is None,
        due=_Due(
            None if if_older_than is None else parse_span(if_older_than, what="age"),
            None if if_expiring_within is None else parse_span(if_expiring_within, what="time to expiry"),
            run.act.at,
        ),
    )
    reference = parse_key(key)

    def deliver(rotated: issuance.Rotated, raw: RawKey) -> list[str]:
        def panel() -> str:
            from alphalens_keyctl.output import panels

            return panels.rotated(rotated, raw, now=run.act.at, screen=run.screen())

        return show_once(
            run,
            raw,
            json=json,
            document=lambda: documents.rotated_object(rotated, [delivery.stdout_name()]),
            panel=panel,
        )

    with run.database() as database:
        with database.reading() as connection:
            found = selection.find(connection, reference, now=run.act.at)
        result = issuance.rotate(database, found.id, plan, run.act, deliver, prefix=run.settings.key_prefix)
    if json:
        if result.raw is None:
            channel.write([documents.json_document(documents.rotated_object(result, []))])
    elif result.previous is None:
        run.note(f"Nothing to do: key '{result.key.name}' ({result.key.id}) needs no rotation yet.")
    elif delivery.stdout_name() != "terminal":
        from alphalens_keyctl.output.words import retirement

        run.note(f"Rotated key '{result.key.name}'; the new id is {result.key.id}.")
        run.note(retirement(result.previous, run.act.at))


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
