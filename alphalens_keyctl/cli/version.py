"""`version`: print the version, as `--version` does."""

from alphalens_keyctl import __version__
from alphalens_keyctl.output import channel
from alphalens_keyctl.settings import PROGRAM


def version() -> None:
    """Print the version.

    Examples:
      alphalens-keyctl version
    """
    channel.write([f"{PROGRAM} {__version__}\n"])
