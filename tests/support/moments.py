"""Times as the tests reckon with them."""

from datetime import datetime, timedelta
from typing import Final

DAY: Final = timedelta(days=1)


def start_of_minute(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)


def moment(written: str) -> datetime:
    """A time of a JSON document."""
    return datetime.fromisoformat(written)
