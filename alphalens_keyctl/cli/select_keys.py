"""The filters of `list`, `revoke`, `suspend`, `resume` and `rotate` as a `Selection`."""

from collections.abc import Sequence

from alphalens_keyctl.cli.options.filters import Filters
from alphalens_keyctl.keys import written_filters
from alphalens_keyctl.keys.selection import Selection


def selection(filters: Filters, *, final: bool = False, containing: Sequence[str] = ()) -> Selection:
    """Return what the options select, as `written_filters.selection` does."""
    return written_filters.selection(filters, final=final, containing=containing)
