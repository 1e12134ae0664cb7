"""Words → what stands at the cursor, read off the one tree of commands."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import typer


class Cursor(NamedTuple):
    """What may stand at the cursor, where the word `word` has begun.

    `commands` are the subcommands that may follow, by their names, with a sentence about each, and `options` the
    options, by how they are written.
    `value_of` is the option or argument whose value the word is; `behind` is what of the word stands before the value:
    `--status=`. `command` are the words of the command, without the program's name. `given` are the values of options
    and arguments so far, by the names of their parameters. With `only_values` a `--` stands before, and a word that
    begins with `-` is no option.
    """

    word: str
    commands: Mapping[str, str]
    options: Mapping[str, Any]
    value_of: Any | None
    behind: str
    command: tuple[str, ...]
    given: Mapping[str, Sequence[str]]
    only_values: bool

    @property
    def start(self) -> str:
        """How the value at the cursor begins."""
        return self.word[len(self.behind) :]


class _Walk:
    """The way through the tree, word by word."""

    def __init__(self, root: Any) -> None:
        self._contexts: list[Any] = []
        self._enter(root, "")
        self.given: dict[str, list[str]] = {}
        self.only_values = False
        self._awaits: Any | None = None  # the option whose value is the next word
        self._arguments = 0  # words that were values of arguments of this command

    @property
    def command(self) -> tuple[str, ...]:
        return tuple(context.info_name for context in self._contexts[1:])

    def step(self, word: str) -> None:
        """Take a whole word."""
        if self._awaits is not None:
            self._take(self._awaits, word)
            self._awaits = None
        elif word == "--" and not self.only_values:
            self.only_values = True
        elif self._is_option(word):
            self._step_option(word)
        elif word in self._commands():
            self._enter(self._contexts[-1].command.commands[word], word)
            self._arguments = 0
        elif (argument := self._argument()) is not None:
            self._take(argument, word)
            self._arguments += 1

    def end(self, word: str) -> Cursor:
        """What stands at the cursor, where `word` has begun."""
        value_of, behind = self._awaits, ""
        commands: Mapping[str, str] = {}
        options: dict[str, Any] = {}
        if value_of is None and self._is_option(word):
            name, equals, _ = word.partition("=")
            if equals and (option := self._options().get(name)) is not None and _takes_value(option):
                value_of, behind = option, name + equals
            else:
                options = self._offered_options(word)
        elif value_of is None:
            commands, value_of = self._commands(), self._argument()
            if not word and not commands and not self.only_values:
                options = self._offered_options(word)
        return Cursor(word, commands, options, value_of, behind, self.command, self.given, self.only_values)

    def _enter(self, command: Any, name: str) -> None:
        parent = self._contexts[-1] if self._contexts else None
        self._contexts.append(typer.Context(command, parent=parent, info_name=name, **command.context_settings))

    def _is_option(self, word: str) -> bool:
        return word.startswith("-") and not self.only_values

    def _step_option(self, word: str) -> None:
        options = self._options()
        name, equals, value = word.partition("=")
        option = options.get(name)
        if option is None and not word.startswith("--"):  # short ones may stand together, the last with its value
            option, name, value = _last_of_cluster(word, options)
            equals = value
        if option is None:
            return
        if not _takes_value(option):
            self._take(option, name)
        elif equals:
            self._take(option, value)
        else:
            self._awaits = option

    def _take(self, parameter: Any, value: str) -> None:
        self.given.setdefault(parameter.name, []).append(value)

    def _commands(self) -> Mapping[str, str]:
        command = self._contexts[-1].command
        if self._arguments or self.only_values or not hasattr(command, "summaries"):
            return {}
        summaries: Mapping[str, str] = command.summaries()
        return summaries

    def _parameters(self) -> Iterator[Any]:
        """The parameters of the command, then those of the commands around it, which it takes too."""
        for context in reversed(self._contexts):
            yield from context.command.get_params(context)

    def _options(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for parameter in self._parameters():
            if parameter.param_type_name == "option" and not parameter.hidden:
                for name in (*parameter.opts, *parameter.secondary_opts):
                    found.setdefault(name, parameter)
        return found

    def _offered_options(self, word: str) -> dict[str, Any]:
        """The options of the command that were not given yet. Those that it hears and its help leaves out, which are
        the program's, only to whoever has begun to type one."""
        context = self._contexts[-1]
        own = [each for each in context.command.get_params(context) if not each.hidden or len(word) > len("--")]
        heard = {name for each in own for name in (*each.opts, *each.secondary_opts)}
        return {
            name: option
            for name, option in self._options().items()
            if name in heard and (option.name not in self.given or option.multiple)
        }

    def _argument(self) -> Any | None:
        """The argument that the next word is a value of; None where the command takes no more."""
        context = self._contexts[-1]
        arguments = [each for each in context.command.get_params(context) if each.param_type_name == "argument"]
        if arguments and arguments[-1].nargs == -1:
            return arguments[min(self._arguments, len(arguments) - 1)]
        return arguments[self._arguments] if self._arguments < len(arguments) else None


def find(root: Any, words: Sequence[str]) -> Cursor:
    """What stands at the cursor. `words` are the program's name and what follows it, the last the word at the
    cursor."""
    walk = _Walk(root)
    for word in words[1:-1]:
        walk.step(word)
    return walk.end(words[-1])


def _takes_value(option: Any) -> bool:
    return not (option.is_flag or option.count)


def _last_of_cluster(word: str, options: Mapping[str, Any]) -> tuple[Any | None, str, str]:
    """The option of `-qy` or `-n5` that may take a value, how it is written, and what follows it in the word."""
    for place, letter in enumerate(word[1:], 2):
        option = options.get(f"-{letter}")
        if option is None:
            return None, "", ""
        if _takes_value(option):
            return option, f"-{letter}", word[place:]
    return options.get(f"-{word[-1]}"), f"-{word[-1]}", ""
