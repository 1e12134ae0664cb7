"""What `audit prune --usage` does: count the old rows of the usage log, ask, remove them, report."""

from datetime import datetime

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.moments import rfc3339
from alphalens_keyctl.output import documents
from alphalens_keyctl.output.words import counted


def prune_usage(run: Run, before: datetime, *, dry_run: bool, ask: bool, json: bool) -> None:
    """Remove the rows before the instant `before` (UTC), or with `dry_run` count them.

    With `ask`, ask first where somebody can answer. Raises `KeyctlError`.
    """
    with run.manager() as manager:
        asking = ask and not dry_run and runs.can_ask()
        if asking or dry_run:
            pruned = manager.prune_usage(before, dry_run=True)
            if asking and pruned:
                run.confirm(f"Remove {counted(pruned, 'row')} of the usage log, all before {rfc3339(before)}?")
        if not dry_run:
            pruned = manager.prune_usage(before, dry_run=False)
    if json:
        document = {"pruned": pruned, "before": rfc3339(before), "dry_run": dry_run}
        runs.report(documents.json_document(document))
        return
    verb = "Would remove" if dry_run else "Removed"
    runs.report(f"{verb} {counted(pruned, 'row')} of the usage log, all before {rfc3339(before)}.\n")
