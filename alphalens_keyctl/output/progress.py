"""A progress bar on stderr, for terminals."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_PATIENCE: Final = 1.0  # seconds that a job may take without a bar: about how long a person waits undisturbed


@contextmanager
def shown(what: str, total: int, *, color: bool) -> Iterator[Callable[[int], None]]:
    """Show a bar of `total` steps while the block lasts, once the block has lasted a second.

    Yields the function to call with the number of steps done.
    """
    console = Console(file=sys.stderr, no_color=not color, markup=False, highlight=False, emoji=False)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, transient=True)
    task = progress.add_task(what, total=total)
    began = time.monotonic()
    drawn = False

    def tell(done: int) -> None:
        nonlocal drawn
        progress.update(task, completed=done)
        if not drawn and time.monotonic() - began > _PATIENCE:
            drawn = True
            progress.start()

    try:
        yield tell
    finally:
        if drawn:
            progress.stop()
