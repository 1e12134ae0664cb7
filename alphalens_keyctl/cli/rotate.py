"""`rotate KEY`: a successor, shown once; the old key works until its grace is over."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.arguments import JsonOption, KeyArgument, parse_key
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
    """Replace a key by a successor of the same name, owner, purpose and labels, and show that once.

    The old key keeps working for its grace. Of several rotations at once one wins; the others exit 6.
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

    def document(rotated: issuance.Rotated) -> str:
        return documents.json_document(
            {
                "key": documents.key_object(rotated.key),
                "raw_key": rotated.raw.reveal() if rotated.raw else None,
                "delivered_to": [delivery.stdout_name()] if rotated.raw else [],
                "previous": documents.key_object(rotated.previous) if rotated.previous else None,
                "rotated": rotated.raw is not None,
            }
        )

    def deliver(rotated: issuance.Rotated) -> list[str]:
        assert rotated.raw is not None  # noqa: S101  # only a new key is delivered
        if json:
            shown = document(rotated)
        elif delivery.stdout_name() == "terminal":
            from alphalens_keyctl.output import panels

            shown = panels.rotated(rotated, now=run.act.at, screen=run.screen())
        else:
            shown = rotated.raw.reveal() + "\n"
        return delivery.to_stdout(shown, rotated.raw, mask=run.in_github_actions)

    with run.database() as database:
        with database.reading() as connection:
            found = selection.find(connection, reference, now=run.act.at)
        result = issuance.rotate(database, found.id, plan, run.act, deliver, prefix=run.settings.key_prefix)
    if json:
        if result.raw is None:
            channel.write([document(result)])
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
