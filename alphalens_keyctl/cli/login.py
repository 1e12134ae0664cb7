"""`login` and `logout`: the key for a server, kept in the system's keyring."""

import typer

from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options import standard_input


def login(ctx: typer.Context) -> None:
    """Keep your key for a server in the system's keyring, where every command with --server finds it.

    Reads the raw key from stdin, and asks the server whose key it is before it is kept. Where there is no keyring,
    --api-key-file names a file.

    Examples:
      alphalens-keyctl --server https://keys.example login < admin.key
    """
    run = runs.of(ctx)
    from alphalens_keyctl.cli import own_key

    own_key.login(run, standard_input.read_line)


def logout(ctx: typer.Context) -> None:
    """Remove your key for a server from the system's keyring. The key itself stays as it is.

    Examples:
      alphalens-keyctl --server https://keys.example logout
    """
    run = runs.of(ctx)
    from alphalens_keyctl.cli import own_key

    own_key.logout(run)
