"""The options of the program, which stand before a command or after it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from alphalens_keyctl import settings
from alphalens_keyctl.cli.options.groups import OptionGroup


@dataclass(frozen=True)
class ProgramOptions(OptionGroup):
    """What every command hears; None where an option was not given. The settings look the environment up."""

    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            metavar="URL",
            show_default=False,
            help="A path, sqlite:///PATH or postgresql://USER@HOST/DATABASE. "
            f"Environment: {settings.DATABASE_VARIABLE}.",
        ),
    ] = None
    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            metavar="URL",
            show_default=False,
            help="Administer keys through 'serve-api' at https://HOST, with the key of 'login'. "
            f"Environment: {settings.SERVER_VARIABLE}.",
        ),
    ] = None
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            "--api-key-file",
            metavar="FILE",
            show_default=False,
            help="With --server: the file that holds your key. "
            f"Default: what {settings.API_KEY_VARIABLE} holds, else the key of 'login'.",
        ),
    ] = None
    insecure_plaintext: Annotated[
        bool,
        typer.Option("--insecure-plaintext", help="With --server: allow http:// to another machine, in clear."),
    ] = False
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", show_default=False, help="Read this file instead of config.toml."),
    ] = None
    actor: Annotated[
        str | None,
        typer.Option(
            "--actor",
            metavar="NAME",
            show_default=False,
            help="Who acts, for the audit log. Default: the CI run, else the system's user. "
            f"Environment: {settings.ACTOR_VARIABLE}.",
        ),
    ] = None
    profile: Annotated[
        str | None,
        typer.Option(
            "--profile",
            metavar="PROFILE",
            show_default=False,
            help=f"Use the settings of this profile in config.toml. Environment: {settings.PROFILE_VARIABLE}.",
        ),
    ] = None
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only results and errors.")] = False
    no_color: Annotated[bool, typer.Option("--no-color", help="Print without colour.")] = False
    # Read by the entry, which also serves errors that come before the options are parsed.
    debug: Annotated[bool, typer.Option("--debug", help="Print a traceback with an error.")] = False
