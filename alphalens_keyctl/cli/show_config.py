"""What `config` does: name each setting, its value and its source."""

from alphalens_keyctl.address import parse_address
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.config_file import CHECK_NAMES, NAMES
from alphalens_keyctl.errors import KeyctlError
from alphalens_keyctl.output import channel, configuration, documents
from alphalens_keyctl.output.configuration import Setting, Value


def show_config(run: Run, *, json: bool) -> None:
    """Show every setting. Raises `KeyctlError` when the result cannot be written."""
    settings = _settings(run)
    if json:
        channel.write([documents.json_document(configuration.document(settings))])
    else:
        channel.write([configuration.table(settings, run.screen())])


def _settings(run: Run) -> list[Setting]:
    chosen = run.settings
    config_file = None if chosen.config_file is None else str(chosen.config_file)
    values: dict[str, Value] = {"config_file": config_file, "profile": chosen.profile}
    values |= {name: getattr(chosen, name) for name in NAMES if name != "check"}
    values |= {f"check.{name}": getattr(chosen.check, name) for name in CHECK_NAMES}
    values["actor"] = run.act.actor
    values["api_key_file"] = None if chosen.api_key_file is None else str(chosen.api_key_file)
    for name in ("database_url", "usage_database_url"):
        values[name] = _without_password(getattr(chosen, name))
    return [Setting(name, value, chosen.source(name)) for name, value in values.items()]


def _without_password(url: str | None) -> str | None:
    try:
        return None if url is None else parse_address(url).display
    except KeyctlError as error:
        return f"cannot be read: {error.message}"
