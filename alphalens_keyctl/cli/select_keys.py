"""The filters of `list`, `revoke`, `suspend`, `resume`, `update` and `rotate` as a `Selection`."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import cast

from alphalens_keyctl.cli.options.filters import Filters
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.keys.selection import Selection
from alphalens_keyctl.manager import values
from alphalens_keyctl.manager.backend import Backend


def selection(filters: Filters, *, final: bool = False, containing: Sequence[str] = ()) -> Selection:
    """Return what the filters select; with `final` also revoked and retired keys.

    Each of `containing` is a text that the name, the id or the owner of a key must contain. Raises `KeyctlError`
    (usage, invalid_input).
    """
    # The filters of Python have the names of the options.
    given = {name: value for name, value in asdict(filters).items() if value is not None}
    return values.selection(cast("values.Filters", {**given, "final": final, "containing": containing}))


def note_unknown_owner(run: Run, manager: Backend, wanted: Selection) -> None:
    """Where no key was found since no key has the wanted owner, name owners that may be meant."""
    if wanted.owner is None:
        return
    like = manager.owners_like(wanted.owner)
    if like:
        run.note(f"No key has the owner '{wanted.owner}'; owners like it: {', '.join(like)}.")
