"""The application: its commands, and the options that stand before a command."""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from alphalens_keyctl import __version__, settings
from alphalens_keyctl.cli import (
    completion,
    create,
    db,
    doctor,
    policy,
    resume,
    revoke,
    rotate,
    serve,
    show,
    suspend,
    update,
    verify,
)
from alphalens_keyctl.cli import config as config_
from alphalens_keyctl.cli import list as list_
from alphalens_keyctl.cli.audit.app import app as audit
from alphalens_keyctl.cli.run import Start
from alphalens_keyctl.errors import Code, ExitStatus, KeyctlError
from alphalens_keyctl.output import channel
from alphalens_keyctl.settings import PROGRAM, Given


class Commands(TyperGroup):
    """The commands, without what Typer would do on its own account."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command. Typer would end without a word on Ctrl-C; here that is an error like any other."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            notes = " ".join(getattr(interrupt, "__notes__", []))
            raise KeyctlError(Code.INTERRUPTED, "interrupted", notes) from interrupt


app = typer.Typer(
    cls=Commands,
    help="Administer AlphaLens API keys: create, list, show, revoke, rotate and audit.",
    epilog=f"Exit codes: {', '.join(f'{status:d} {status.meaning}' for status in ExitStatus)}.",
    add_completion=False,  # Typer's script for zsh evaluates what is completed; ours are in `completions/`
    pretty_exceptions_enable=False,
    # Rich's boxes cut the names of options at 40 columns, and colour a pipe under FORCE_COLOR.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        channel.write([f"{PROGRAM} {__version__}\n"])
        raise typer.Exit


@app.callback(invoke_without_command=True)
def options(
    ctx: typer.Context,
    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            metavar="URL",
            show_default=False,
            help=f"A path, sqlite:///PATH or postgresql://USER@HOST/DATABASE. [env var: {settings.DATABASE_VARIABLE}]",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", show_default=False, help="Read this file instead of config.toml."),
    ] = None,
    actor: Annotated[
        str | None,
        typer.Option(
            "--actor",
            metavar="NAME",
            show_default=False,
            help="Who acts, for the audit log. Default: the CI run, else the system's user."
            f" [env var: {settings.ACTOR_VARIABLE}]",
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            metavar="PROFILE",
            show_default=False,
            help=f"Use the settings of this profile in config.toml. [env var: {settings.PROFILE_VARIABLE}]",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only results and errors.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="Print without colour.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Print a traceback with an error.")
    ] = False,  # read by the entry, which also serves errors that come before this
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Administer AlphaLens API keys: create, list, show, revoke, rotate and audit."""
    if ctx.invoked_subcommand is None:
        channel.note(ctx.get_help())
        raise typer.Exit(ExitStatus.USAGE)
    if ctx.resilient_parsing:
        return
    asked_at, machine = ctx.obj  # the entry put it there
    assert isinstance(asked_at, datetime)  # noqa: S101  # for the types
    given = Given(database, actor, config, profile=profile)
    ctx.obj = Start(asked_at, given, quiet=quiet, no_color=no_color, machine=machine)


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
app.command(name="config", short_help="Show every setting and where it comes from.")(config_.config)
app.command(name="doctor", short_help="Look for what is wrong, and say what to do.")(doctor.doctor)
app.add_typer(audit, name="audit")
app.add_typer(policy.app, name="policy")
app.add_typer(db.app, name="db")
app.command(name="completion", short_help="Print or install what TAB needs in a shell.")(completion.completion)
