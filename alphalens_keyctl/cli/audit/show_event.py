"""What `audit show` does: find one event and show it, in a panel or as JSON."""

from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.output import channel, documents, evidence


def show_event(run: Run, seq: int, *, json: bool) -> None:
    """Show the event of this number. Raises `KeyctlError`: event_not_found."""
    with run.manager() as manager:
        found = manager.event(seq)
    if json:
        channel.write([documents.json_document(evidence.recorded_object(found))])
        return
    from alphalens_keyctl.output.event_panel import event_panel

    channel.write([event_panel(found, now=run.act.at, screen=run.screen())])
