"""`config`: show every setting and where it comes from."""

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.arguments import JsonOption


def config(ctx: typer.Context, json: JsonOption = False) -> None:
    """Show every setting, its value, and where the value comes from. No password is shown, nothing is opened.

    Option, environment, profile, top of config.toml, default: the first that sets a value wins. The profile that
    --profile names wins over the environment too.

    Examples:

        alphalens-keyctl config
        alphalens-keyctl --profile prod config --json
    """
    run = runs.of(ctx)
    from alphalens_keyctl.cli import show_config

    show_config.show_config(run, json=json)
