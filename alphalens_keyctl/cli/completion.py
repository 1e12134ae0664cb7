"""`completion SHELL`: print or install the script that makes TAB complete in a shell."""

from enum import StrEnum
from typing import Annotated

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.text import one_of


class Shell(StrEnum):
    """A shell that there is a script for."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"
    POWERSHELL = "powershell"


def completion(
    ctx: typer.Context,
    shell: Annotated[str, typer.Argument(metavar="SHELL", show_default=False, help=f"One of {', '.join(Shell)}.")],
    install: Annotated[
        bool, typer.Option("--install", help="Put the script where the shell looks, and say what is left to do.")
    ] = False,
) -> None:
    """Print the script that makes TAB complete commands, options, names and ids of keys, and other values.

    For one session of bash: source <(alphalens-keyctl completion bash). With --install the script stays, for this
    user. Without a database TAB completes commands and options, and says nothing.

    Examples:
      alphalens-keyctl completion bash --install
      alphalens-keyctl completion zsh > _alphalens-keyctl
    """
    wanted = one_of(Shell, shell, "script for the shell")
    from alphalens_keyctl.cli import completion_script

    if install:
        completion_script.install(wanted, quiet=runs.start_of(ctx).options.quiet)
    else:
        completion_script.print_script(wanted)
