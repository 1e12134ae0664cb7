"""Promise 7, as the topic `audit-log` puts it: every kind of attack is tried, and shows where the topic says so.

`python -m tests.support.attacks` tries all of them."""

import re
from pathlib import Path
from typing import Final

from alphalens_keyctl.database import Database
from tests.support import attacks
from tests.support.attacked_log import Found, History
from tests.support.attacks import KINDS
from tests.support.readme import DOCUMENTS
from tests.support.tools import require_tool

# A row of the topic's table: a kind, what was done, and what is said of it.
_ROW: Final = re.compile(r"^\| `([a-z-]+)` \| [^|]+ \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
# Coprime with the number of an event's columns, so that each of them is tried.
_STRIDE: Final = 7


def test_every_attack_shows_or_does_not_as_the_topic_says(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    require_tool("ssh-keygen", "openssh-client")
    history = History(database, database_url, tmp_path)
    topic = {kind: cells for kind, *cells in _ROW.findall(DOCUMENTS["audit-log"])}
    assert list(topic) == [kind.name for kind in KINDS]
    for outcome in attacks.run(history, stride=_STRIDE):
        assert not outcome.wrong
        for said, where in zip(topic[outcome.kind], Found._fields, strict=True):
            shows = {getattr(each, where) for each in outcome.shows}
            word = "-" if shows == {None} else "no" if shows == {False} else "yes"
            # What shows at times only has to say when.
            assert said.startswith("yes, ") if len(shows) > 1 else said == word, (outcome.kind, where)
