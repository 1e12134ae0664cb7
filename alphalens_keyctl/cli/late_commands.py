"""Commands by name, each loaded when it is asked for: `--help` and TAB need names and summaries alone."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, ClassVar, NamedTuple

import typer
from typer.main import get_command

from alphalens_keyctl.cli.commands import App, Group


class Place(NamedTuple):
    """Where a command is, and what it does: `found` is `MODULE:NAME` of the command's function, or of the `App` of a
    group of commands; `summary` is one sentence."""

    found: str
    summary: str


class LateCommands(Mapping[str, Any]):
    """The commands at some places. To look at the names loads none."""

    def __init__(self, places: Mapping[str, Place]) -> None:
        self._places = places
        self._loaded: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        place = self._places[name]
        if name not in self._loaded:
            self._loaded[name] = _load(name, place)
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class LateGroup(Group):
    """A group that loads a command when somebody calls it. A subclass names the `places` of its commands."""

    places: ClassVar[Mapping[str, Place]]

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"commands": LateCommands(self.places)})

    def summaries(self) -> Mapping[str, str]:
        """Return the names of the commands, and one sentence about each."""
        return {name: place.summary for name, place in self.places.items()}


def _load(name: str, place: Place) -> Any:
    module, _, attribute = place.found.partition(":")
    found = getattr(import_module(module), attribute)
    if isinstance(found, typer.Typer):
        group = get_command(found)
        group.name = name
        return group
    alone = App()  # Typer makes of an application's only command that command
    alone.command(name=name, short_help=place.summary)(found)
    return get_command(alone)
