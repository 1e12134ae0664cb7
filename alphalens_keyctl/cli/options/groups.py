"""Groups of options: written once, as the fields of a dataclass, for every command that has them."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields
from enum import StrEnum
from typing import Any, ClassVar, Final, get_type_hints


class Panel(StrEnum):
    """A heading of `--help`, in the order in which the headings stand there."""

    WHICH_KEYS = "Which keys"
    NEW_VALUES = "New values"
    DELIVERY = "Delivery"
    SAFETY = "Safety"
    OUTPUT = "Output"


# Above all panels stand the options that only this command has.
OWN: Final = "Options"


class OptionGroup:
    """The base of a dataclass whose fields are options. `panel` is the heading of `--help` that they stand under."""

    panel: ClassVar[str] = OWN


def with_groups(**groups: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command the options of whole groups.

    Each keyword is the name of one of the command's parameters, and the dataclass of its group (an `OptionGroup`),
    whose fields are annotated as a command's parameters are. Typer sees the fields as options; the command gets an
    instance.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = {name: _options(group) for name, group in groups.items()}

        @functools.wraps(command)
        def with_options(**given: Any) -> None:
            values = {
                name: group(**{option: given.pop(option) for option in hints[name]}) for name, group in groups.items()
            }
            command(**given, **values)

        parameters = list(_parameters(command, groups, hints))
        # Typer reads what a command takes from these two.
        vars(with_options)["__signature__"] = inspect.Signature(parameters)
        with_options.__annotations__ = {each.name: each.annotation for each in parameters}
        return with_options

    return decorate


def _options(group: type[Any]) -> dict[str, Any]:
    """Return the annotations of a group's fields, each option under the group's panel."""
    hints = get_type_hints(group, include_extras=True)
    options = {field.name: hints[field.name] for field in fields(group)}
    for annotation in options.values():
        for option in annotation.__metadata__:
            option.rich_help_panel = option.rich_help_panel or group.panel
    return options


def _parameters(
    command: Callable[..., None], groups: dict[str, type[Any]], hints: dict[str, dict[str, Any]]
) -> "list[inspect.Parameter]":
    own = get_type_hints(command, include_extras=True)
    found: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name not in groups:
            found.append(parameter.replace(annotation=own[parameter.name], kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        group = groups[parameter.name]
        found += [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=getattr(group, name), annotation=hint)
            for name, hint in hints[parameter.name].items()
        ]
    return found
