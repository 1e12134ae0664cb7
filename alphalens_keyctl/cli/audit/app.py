"""The group `audit`: `audit` alone, and its subcommands."""

from alphalens_keyctl.cli.audit import check, head, log, prune, usage, verify
from alphalens_keyctl.cli.commands import App

app = App(invoke_without_command=True)
app.callback()(log.audit)
app.command()(verify.verify)
app.command()(head.head)
app.command(name="usage", short_help="Show which keys were used, when and from where.")(usage.usage)
app.command(name="check", short_help="Check every key against the policy.")(check.check)
app.command(name="prune", short_help="Remove old rows of the usage log.")(prune.prune)
