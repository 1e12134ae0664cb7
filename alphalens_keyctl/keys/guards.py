"""What guards a change of many keys. Standard library alone: the help of each option that guards says these numbers."""

from datetime import timedelta
from typing import Final

# Keys that one change may reach when filters select them, unless its maker allows more: a mistyped filter in a crontab
# must not stop a whole fleet.
MOST_BY_FILTER: Final = 100
# A key used this recently is in use: filters do not stop it unless that was allowed.
IN_USE: Final = timedelta(hours=1)
