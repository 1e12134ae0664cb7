"""What `audit report` does: report on a period, and exit 0, or 5 where the log is not sound."""

import sys
from contextlib import suppress

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.errors import Code, ExitStatus, KeyctlError
from alphalens_keyctl.keys import policy
from alphalens_keyctl.logs.audit import Head
from alphalens_keyctl.manager.backend import Backend
from alphalens_keyctl.moments import parse_period, quarter_of
from alphalens_keyctl.output import channel, report_documents, report_page, sentences
from alphalens_keyctl.output.documents import Format, json_document
from alphalens_keyctl.output.whereabouts import source_of
from alphalens_keyctl.settings import PROGRAM


def report_of_log(run: Run, *, period: str | None, form: Format | None) -> None:
    """Print the report on a period, by default on this quarter so far: as a page, on a terminal as a summary, or with
    `form` as JSON, or its events as CSV.

    Exits 5 where the log or the keys are not sound; CSV says nothing of that. Raises `KeyctlError`; invalid_input for a
    period that is none.
    """
    wanted = parse_period(quarter_of(run.act.at) if period is None else period, now=run.act.at)
    limits = run.settings.check
    rules = policy.chosen((), ignored=limits.ignore)
    with run.manager() as manager:
        if form is Format.CSV:
            with manager.report_entries(wanted) as entries:
                channel.write(report_documents.entry_rows(entries), utf8=True)
            return
        report = manager.report(wanted, rules, limits)
        # By the head of the figures: the check is about the log that they are from, however much was written since.
        verdict = manager.verify_log(report.head)
        report = report._replace(head=_rooted(manager, report.head))
    with suppress(channel.ReaderGoneError):
        if form is Format.JSON:
            channel.write([json_document(report_documents.checked_report_object(report, verdict))])
        elif channel.is_terminal(sys.stdout):
            channel.write([runs.told(*sentences.report_summary(report, verdict))])
            run.note(f"For the page: {PROGRAM} audit report --period {wanted.name} > report.html")
        else:
            channel.write(report_page.page(report, verdict, source_of(run.settings)), utf8=True)
    if verdict.broken is not None:
        raise typer.Exit(ExitStatus.FOUND)


def _rooted(manager: Backend, head: Head) -> Head:
    """The head with its root; without it where events are missing, which the verdict tells."""
    try:
        return manager.rooted_head(head)
    except KeyctlError as error:
        if error.code is not Code.UNPROVEN:
            raise
        return head
