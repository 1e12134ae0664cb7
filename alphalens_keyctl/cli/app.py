"""The application: its commands, and the options that stand before a command."""

import sys
from typing import Annotated

import typer

from alphalens_keyctl import __version__
from alphalens_keyctl.cli import (
    completion,
    create,
    db,
    doctor,
    help_page,
    login,
    policy,
    resume,
    revoke,
    rotate,
    serve,
    serve_api,
    show,
    suspend,
    update,
    verify,
    version,
)
from alphalens_keyctl.cli import config as config_
from alphalens_keyctl.cli import help as help_
from alphalens_keyctl.cli import list as list_
from alphalens_keyctl.cli.audit.app import app as audit
from alphalens_keyctl.cli.commands import App
from alphalens_keyctl.cli.options.groups import with_groups
from alphalens_keyctl.cli.options.program import ProgramOptions
from alphalens_keyctl.cli.run import Start
from alphalens_keyctl.errors import ExitStatus
from alphalens_keyctl.output import channel, pages
from alphalens_keyctl.settings import PROGRAM

app = App(
    help="Administer AlphaLens API keys: create, list, show, revoke, rotate and audit.",
    epilog=f"Exit codes: {', '.join(f'{status:d} {status.meaning}' for status in ExitStatus)}.",
    add_completion=False,  # Typer's script for zsh evaluates what is completed; ours are in `completions/`
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
        channel.note_drawn(pages.drawn(help_page.of(ctx.command, ctx), pages.Paper.of(sys.stderr)))
        raise typer.Exit(ExitStatus.USAGE)
    if not ctx.resilient_parsing:
        asked_at, machine = ctx.obj  # the entry put it there
        ctx.obj = Start(asked_at, given, machine=machine)


app.command(name="create", short_help="Create a key and show it once.")(create.create)
app.command(name="list", short_help="List keys.")(list_.list_)
app.command(name="show", short_help="Show everything about one key.")(show.show)
app.command(name="update", short_help="Change name, owner, purpose, expiry or labels of keys.")(update.update)
app.command(name="revoke", short_help="Switch keys off for good.")(revoke.revoke)
app.command(name="suspend", short_help="Switch keys off for now.")(suspend.suspend)
app.command(name="resume", short_help="Switch suspended keys on again.")(resume.resume)
app.command(name="rotate", short_help="Replace a key by a successor.")(rotate.rotate)
app.command(name="verify", short_help="Say whether a raw key opens, and why not.")(verify.verify)
app.command(name="serve", short_help="Tell a proxy whether a request carries a good key.")(serve.serve)
app.command(name="serve-api", short_help="Administer keys over HTTP.")(serve_api.serve_api)
app.command(name="login", short_help="Keep your key for a server in the keyring.")(login.login)
app.command(name="logout", short_help="Remove your key for a server from the keyring.")(login.logout)
app.command(name="config", short_help="Show every setting and where it comes from.")(config_.config)
app.command(name="doctor", short_help="Look for what is wrong, and say what to do.")(doctor.doctor)
app.command(name="help", short_help="Explain a command or a topic.")(help_.help_)
app.command(name="version", short_help="Print the version.")(version.version)
app.add_typer(audit, name="audit")
app.add_typer(policy.app, name="policy")
app.add_typer(db.app, name="db")
app.command(name="completion", short_help="Print or install what TAB needs in a shell.")(completion.completion)
