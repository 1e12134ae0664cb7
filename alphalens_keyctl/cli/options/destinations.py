"""The options of `create` and `rotate` that name the destinations of a new raw key."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from alphalens_keyctl.cli.options.groups import OptionGroup, Panel

ENV_VARIABLE: Final = "ALPHALENS_API_KEY"
PIPE_LIMIT: Final = 60.0  # seconds: enough for a secret store over a slow network, and a CI job can wait for it


@dataclass(frozen=True)
class Destinations(OptionGroup):
    """Where a new raw key goes, beside stdout or with `no_print` instead of it."""

    panel = Panel.DELIVERY

    keyring: Annotated[bool, typer.Option("--keyring", help="Keep the raw key in the system's keyring.")] = False
    key_file: Annotated[
        list[Path] | None,
        typer.Option(
            "--key-file", metavar="PATH", show_default=False, help="Write the raw key to this file, mode 0600."
        ),
    ] = None
    env_file: Annotated[
        list[Path] | None,
        typer.Option(
            "--env-file", metavar="PATH", show_default=False, help="Set a variable in this file to the raw key."
        ),
    ] = None
    env_var: Annotated[str, typer.Option("--env-var", metavar="NAME", help="The variable that --env-file sets.")] = (
        ENV_VARIABLE
    )
    pipe_to: Annotated[
        list[str] | None,
        typer.Option(
            "--pipe-to",
            metavar="CMD",
            show_default=False,
            help="Run CMD, without a shell, with the raw key on its stdin.",
        ),
    ] = None
    pipe_newline: Annotated[
        bool, typer.Option("--pipe-newline/--no-pipe-newline", help="Let a newline follow the raw key on CMD's stdin.")
    ] = True
    pipe_timeout: Annotated[
        float,
        typer.Option(
            "--pipe-timeout", metavar="SECONDS", min=0.1, max=3600, help="How long each command may take, up to 3600."
        ),
    ] = PIPE_LIMIT
    no_print: Annotated[bool, typer.Option("--no-print", help="Do not write the raw key to stdout.")] = False
