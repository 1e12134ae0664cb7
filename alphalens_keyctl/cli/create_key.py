"""What `create NAME` does: create one key, show it once, report."""

from collections.abc import Mapping
from datetime import datetime

from alphalens_keyctl.cli import deliver_key
from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.destinations import Destinations
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.delivery import stdout
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.keys import issuance
from alphalens_keyctl.keys.issuance import Created
from alphalens_keyctl.keys.lifecycle import Draft
from alphalens_keyctl.output import documents


def create_key(
    run: Run,
    given: Destinations,
    *,
    name: str,
    owner: str | None,
    purpose: str | None,
    labels: Mapping[str, str],
    scopes: tuple[str, ...] | None,
    allow_from: tuple[str, ...] | None,
    expires_at: datetime | None,
    override: str | None,
    if_missing: bool,
    json: bool,
) -> None:
    """Create a key and deliver it; with `if_missing`, do nothing when a key has the name. Say what was done.

    Raises `KeyctlError`.
    """
    draft = Draft(name, owner, purpose, labels, expires_at, override, scopes, allow_from)
    handover = deliver_key.handover(run, given)

    def show(created: Created, raw: RawKey) -> list[str]:
        def document(shown: str) -> Mapping[str, object]:
            return documents.created_object(created, shown=shown)

        def panel() -> str:
            from alphalens_keyctl.output import panels

            return panels.created(created, raw, now=run.act.at, screen=run.screen())

        return [] if given.no_print else deliver_key.show_once(run, raw, json=json, document=document, panel=panel)

    with run.manager(create=True) as manager:
        result = issuance.create(manager.steps, draft, handover, show, if_missing=if_missing)
    shown = result.raw is not None and not given.no_print
    if json and not shown:
        runs.report(documents.json_document(documents.created_object(result, shown=None)))
    elif not json and not (shown and stdout.name() == "terminal"):
        _note(run, result, handover.names)


def _note(run: Run, result: Created, destinations: tuple[str, ...]) -> None:
    done = "Created key" if result.raw else "Nothing to do: there is a key"
    ended = ", but it has expired: rotate it" if result.key.status == "expired" else ""
    run.note(f"{done} '{result.key.name}' with id {result.key.id}{ended}.")
    run.note_delivery(destinations if result.raw else ())
