"""Profile and database, as a line above a question: what the answer is about to change."""

from alphalens_keyctl.database import parse_address
from alphalens_keyctl.errors import KeyctlError
from alphalens_keyctl.output.screen import Screen, cell
from alphalens_keyctl.settings import Origin, Settings


def whereabouts(settings: Settings, *, color: bool) -> str:
    """Return the line, without its newline and without any password, for the screen behind stderr.

    The line has the colour of the profile. Where the database, or the server, is not the one that the profile holds,
    the line says who names it.
    """
    source = settings.source("database_url" if settings.server is None else "server")
    parts = [f"Profile {settings.profile}"] if settings.profile is not None else []
    where = source_of(settings)
    parts.append(where if parts else where[0].upper() + where[1:])
    line = ", ".join(parts)
    if settings.profile is not None and source.origin is not Origin.PROFILE:
        line += f" (from {source.name or 'the default'})"
    style = f"bold {settings.color}" if settings.color is not None else ""
    return Screen.of_stderr(color=color).draw(cell(line, style)).rstrip("\n")


def source_of(settings: Settings) -> str:
    """Return where the keys are, without any password: "database …" or "server …"."""
    return f"database {_shown(settings.database_url)}" if settings.server is None else f"server {settings.server}"


def _shown(database_url: str) -> str:
    try:
        return parse_address(database_url).display
    except KeyctlError:
        return "that cannot be read"
