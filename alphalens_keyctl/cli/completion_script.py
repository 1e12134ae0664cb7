"""The script for a shell, and where that shell looks for it."""

import os
import shlex
import stat
import subprocess
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Final

from alphalens_keyctl.cli.completion import Shell
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.output import channel
from alphalens_keyctl.settings import PROGRAM

_FILES: Final = {
    Shell.BASH: f"{PROGRAM}.bash",
    Shell.ZSH: f"_{PROGRAM}",
    Shell.FISH: f"{PROGRAM}.fish",
    Shell.POWERSHELL: f"{PROGRAM}.ps1",
}
# Where the wheel puts them, seen from a `share` folder.
_SYSTEM: Final = {
    Shell.BASH: f"bash-completion/completions/{PROGRAM}",
    Shell.ZSH: f"zsh/site-functions/_{PROGRAM}",
    Shell.FISH: f"fish/vendor_completions.d/{PROGRAM}.fish",
}
# What answers whether a shell completes the program $1, or will at its first TAB.
_ASKED: Final = {
    # What bash-completion calls at the first TAB, under the names that it had over the years.
    Shell.BASH: 'complete -p "$1" || declare -F _comp_load || declare -F _completion_loader',
    Shell.ZSH: "(( $+functions[compdef] && ( $+_comps[$1] || $+functions[_$1] ) ))",
}
_LIMIT: Final = 5.0  # seconds that a user's set-up of the shell may take (promise 11)
# Every script begins with it, in zsh behind the line that compinit wants: a file without it is somebody else's.
_MARK: Final = f"# {PROGRAM}: completion for ".encode()
_LARGEST: Final = 1 << 20  # bytes


def print_script(shell: Shell) -> None:
    """Write the script to stdout."""
    channel.write([script(shell)])


def install(shell: Shell, *, quiet: bool) -> None:
    """Put the script into the folder of this user where the shell looks, and say what is left to do.

    Safe to repeat: a script of this program gives way to the one of this version. Raises `KeyctlError`: conflict, for
    any other file in its place; output_failed.
    """
    path, content = destination(shell), script(shell).encode()
    try:
        there = _read(path)
        if there != content:
            _write(path, content)
    except OSError as error:
        raise KeyctlError(
            Code.OUTPUT_FAILED,
            f"{path} cannot be written: {error.strerror}",
            f"Write the script elsewhere: {PROGRAM} completion {shell} > FILE",
        ) from error
    if not quiet:
        channel.note(f"{'Already there' if there == content else 'Installed'}: {path}")
        channel.note(next_step(shell, path))


def script(shell: Shell) -> str:
    """Return the script for a shell. An installed package holds the scripts; in a clone they stand beside it."""
    inside = resources.files("alphalens_keyctl") / "completions" / _FILES[shell]
    beside = Path(__file__).parents[2] / "completions" / _FILES[shell]
    return (inside if inside.is_file() else beside).read_text("utf-8")


def destination(shell: Shell) -> Path:
    """Return the file in which a shell finds the script for this user. Raises `KeyctlError` (configuration_invalid)
    where the user has no home."""
    if shell is Shell.BASH:
        own = os.environ.get("BASH_COMPLETION_USER_DIR")
        return (Path(own) if own else _data_folder() / "bash-completion") / "completions" / PROGRAM
    if shell is Shell.ZSH:
        return _data_folder() / "zsh" / "site-functions" / _FILES[shell]
    if shell is Shell.FISH:
        return _configuration_folder() / "fish" / "completions" / _FILES[shell]
    return _configuration_folder() / "powershell" / _FILES[shell]


def places(shell: Shell) -> list[Path]:
    """Return the files in which a shell looks for the script: this user's, if there is a home, then the system's."""
    found = []
    with suppress(KeyctlError):
        found.append(destination(shell))
    if (installed := _SYSTEM.get(shell)) is not None:
        found += [Path("/usr/local/share") / installed, Path("/usr/share") / installed]
    return found


def is_loaded(shell: Shell) -> bool:
    """Return whether a new shell of this user loads the script that is installed for it. The shell itself is asked,
    with the user's own set-up; one that cannot be asked counts as one that does."""
    asked = _ASKED.get(shell)
    if asked is None:
        return True
    try:
        done = subprocess.run(  # noqa: S603  # our own text, in the shell that the user works in
            [shell.value, "-ic", asked, shell.value, PROGRAM],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_LIMIT,
            check=False,
            start_new_session=True,  # an interactive shell would take the terminal
        )
    except (OSError, subprocess.TimeoutExpired):
        return True
    return done.returncode == 0


def _data_folder() -> Path:
    return _folder("XDG_DATA_HOME") or _home() / ".local" / "share"


def _configuration_folder() -> Path:
    return _folder("XDG_CONFIG_HOME") or _home() / ".config"


def _folder(variable: str) -> Path | None:
    """The folder that a variable names. A relative one is void (XDG Base Directory Specification)."""
    named = Path(os.environ.get(variable, ""))
    return named if named.is_absolute() else None


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        raise KeyctlError(Code.CONFIGURATION, "there is no home folder to install into", "Set HOME.") from None


def _read(path: Path) -> bytes | None:
    """Return the script at the path, or None where there is nothing. Raises `KeyctlError` (conflict) for anything but a
    script of this program, which is left alone."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    if stat.S_ISREG(found.st_mode):
        with path.open("rb") as file:
            there = file.read(_LARGEST)
        if _MARK in there[: len(_MARK) * 4]:
            return there
    raise KeyctlError(
        Code.CONFLICT,
        f"{path} is not a script of {PROGRAM}; it is left as it is",
        "Move it away and run the command again.",
    )


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A shell that starts meanwhile reads the old script or the new one, never half of one.
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with aside.open("xb") as file:
            file.write(content)
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def next_step(shell: Shell, path: Path) -> str:
    """Say what is left to do until a shell loads the script at `path`."""
    quoted = shlex.quote(str(path))
    if shell is Shell.BASH:
        return (
            "A new bash loads it if the package bash-completion is set up. Otherwise add this line to ~/.bashrc:\n"
            f"  source {quoted}"
        )
    if shell is Shell.ZSH:
        return (
            "Add these lines to ~/.zshrc, the first before compinit runs, and start a new zsh:\n"
            f"  fpath=({shlex.quote(str(path.parent))} $fpath)\n"
            "  autoload -Uz compinit && compinit"
        )
    if shell is Shell.FISH:
        return "fish loads it at the next TAB: nothing is left to do."
    in_powershell = str(path).replace("'", "''")
    return f"Add this line to the file that $PROFILE names, and start a new PowerShell:\n  . '{in_powershell}'"
