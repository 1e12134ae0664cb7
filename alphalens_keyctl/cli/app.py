"""The application: its commands, and the options that stand before a command."""

from typing import Annotated, Any, ClassVar, Final

import typer
from typer.main import get_command

from alphalens_keyctl import __version__
from alphalens_keyctl.cli.commands import App, tell_help
from alphalens_keyctl.cli.late_commands import LateGroup, Place
from alphalens_keyctl.cli.options.groups import with_groups
from alphalens_keyctl.cli.options.program import ProgramOptions
from alphalens_keyctl.cli.run import Start
from alphalens_keyctl.errors import ExitStatus
from alphalens_keyctl.output import channel
from alphalens_keyctl.settings import PROGRAM

_CLI: Final = "alphalens_keyctl.cli"


class Program(LateGroup):
    """The program itself, and where its commands are."""

    places: ClassVar = {
        "create": Place(f"{_CLI}.create:create", "Create a key and show it once."),
        "list": Place(f"{_CLI}.list:list_", "List keys."),
        "show": Place(f"{_CLI}.show:show", "Show everything about one key."),
        "update": Place(f"{_CLI}.update:update", "Change name, owner, purpose, expiry or labels of keys."),
        "revoke": Place(f"{_CLI}.revoke:revoke", "Switch keys off for good."),
        "suspend": Place(f"{_CLI}.suspend:suspend", "Switch keys off for now."),
        "resume": Place(f"{_CLI}.resume:resume", "Switch suspended keys on again."),
        "rotate": Place(f"{_CLI}.rotate:rotate", "Replace a key by a successor."),
        "verify": Place(f"{_CLI}.verify:verify", "Say whether a raw key opens, and why not."),
        "serve": Place(f"{_CLI}.serve:serve", "Tell a proxy whether a request carries a good key."),
        "serve-api": Place(f"{_CLI}.serve_api:serve_api", "Administer keys over HTTP."),
        "login": Place(f"{_CLI}.login:login", "Keep your key for a server in the keyring."),
        "logout": Place(f"{_CLI}.login:logout", "Remove your key for a server from the keyring."),
        "config": Place(f"{_CLI}.config:config", "Show every setting and where it comes from."),
        "doctor": Place(f"{_CLI}.doctor:doctor", "Look for what is wrong, and say what to do."),
        "help": Place(f"{_CLI}.help:help_", "Explain a command or a topic."),
        "version": Place(f"{_CLI}.version:version", "Print the version."),
        "audit": Place(
            f"{_CLI}.audit.app:app", "Read the audit log and the usage log, and prove that the audit log is whole."
        ),
        "policy": Place(f"{_CLI}.policy:app", "Say what every key must be, and keep it in the database."),
        "db": Place(f"{_CLI}.db:app", "Look after the database: its schema, and what roles may do in it."),
        "completion": Place(f"{_CLI}.completion:completion", "Print or install what TAB needs in a shell."),
    }


app = App(
    cls=Program,
    help="Administer AlphaLens API keys: create, list, show, revoke, rotate and audit.",
    epilog=f"Exit codes: {', '.join(f'{status:d} {status.meaning}' for status in ExitStatus)}.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        channel.write([f"{PROGRAM} {__version__}\n"])
        raise typer.Exit


@app.callback(invoke_without_command=True)
@with_groups(given=ProgramOptions)
def options(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    *,
    given: ProgramOptions,
) -> None:
    """Administer AlphaLens API keys: create, list, show, revoke, rotate and audit."""
    if ctx.invoked_subcommand is None:
        tell_help(ctx)
    if not ctx.resilient_parsing:
        asked_at, machine = ctx.obj  # the entry put it there
        ctx.obj = Start(asked_at, given, machine=machine)


def command() -> Any:
    """Return the program as a command to call, with its options and commands below it."""
    return get_command(app)
