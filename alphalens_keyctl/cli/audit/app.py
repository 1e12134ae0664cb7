"""The group `audit`: `audit` alone, and its subcommands."""

from alphalens_keyctl.cli.audit import check, head, log, prove, prune, report, show, usage, verify, witness
from alphalens_keyctl.cli.commands import App

app = App(invoke_without_command=True)
app.callback()(log.audit)
app.command(short_help="Show one event of the audit log whole.")(show.show)
app.command()(verify.verify)
app.command(short_help="Print the head of the audit log, to be kept elsewhere.")(head.head)
app.command(short_help="Check the audit log, and keep its head elsewhere; for cron.")(witness.witness)
app.command(short_help="Prove that one event is in the audit log.")(prove.prove)
app.command(name="usage", short_help="Show which keys were used, when and from where.")(usage.usage)
app.command(name="check", short_help="Check every key against the policy.")(check.check)
app.command(name="report", short_help="Report on a period, for an auditor.")(report.report)
app.command(name="prune", short_help="Remove old rows of the usage log.")(prune.prune)
