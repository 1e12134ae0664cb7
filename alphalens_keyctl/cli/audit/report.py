"""`audit report`: evidence for a period."""

from typing import Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonOption
from alphalens_keyctl.cli.options.groups import Panel


def report(
    ctx: typer.Context,
    period: Annotated[
        str | None,
        typer.Option(
            "--period",
            metavar="PERIOD",
            show_default=False,
            help="A year (2026), quarter (2026-Q3), month (2026-07) or days (2026-07-01..2026-09-30), in UTC. "
            "Default: this quarter so far.",
        ),
    ] = None,
    csv: Annotated[
        bool,
        typer.Option("--csv", rich_help_panel=Panel.OUTPUT, help="Print every event of the period, with ages, as CSV."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Report on a period for an auditor, as one HTML page: keys made, rotated, revoked, ages at rotation, exceptions,
    breaches of the policy, who did what, and whether the log is sound; exit 5 when it is not.

    On a terminal it prints a summary in place of the page. With --csv the log is not verified: exit 0.

    Examples:
      alphalens-keyctl audit report --period 2026 > report.html
      alphalens-keyctl audit report --csv > events.csv
    """
    run = runs.of(ctx)
    form = runs.one_format(json=json, csv=csv)
    from alphalens_keyctl.cli.audit import report_of_log

    report_of_log.report_of_log(run, period=period, form=form)
