"""What a command about one key costs does not depend on how many keys and events there are.

PostgreSQL alone, which counts the rows that it reads, those of its own functions too. `tests/keys/test_query_plans.py`
has the plans of what the program sends, on both databases.
"""

import json
from contextlib import closing
from pathlib import Path
from typing import Final

from tests.support.commands import Keyctl
from tests.support.databases import on_postgresql
from tests.support.fleets import write
from tests.support.judge import Judge

pytestmark = on_postgresql

KEYS: Final = 600
# Of a table of `KEYS` or more; a command reads its own key and events several times.
FEW: Final = 100
COMMANDS: Final = (
    ("create", "one-more"),
    ("verify",),
    ("show", "k7"),
    ("update", "k7", "--set-purpose", "billing", "--yes"),
    ("suspend", "k7", "--yes"),
    ("resume", "k7", "--yes"),
    ("rotate", "k7", "--grace", "1h"),
    ("revoke", "k7", "--yes"),
    ("list", "--name", "k7"),
    ("list", "--limit", "5"),
    ("audit", "--key", "k7"),
    ("audit", "--limit", "5", "--json"),
    ("audit", "--action", "key.rotate"),
    ("audit", "--after", "500", "--limit", "5", "--json"),
    ("audit", "show", "7"),
    ("audit", "usage", "--key", "k7"),
)
READ: Final = "SELECT relname, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables"


def test_what_is_asked_or_changed_of_one_key_reads_few_rows_of_any_table(keyctl: Keyctl, tmp_path: Path) -> None:
    names = "\n".join(f"k{number}" for number in range(KEYS))
    fleet = keyctl.ok("create", "--from", write(tmp_path, f"name\n{names}\n"))
    raw: str = json.loads(fleet.stdout.splitlines()[-1])["raw_key"]
    with closing(Judge(str(keyctl.database_url))) as judging:
        before = rows_read(judging)
        for command in COMMANDS:
            keyctl.ok(*command, stdin=raw.encode())
            after = rows_read(judging)
            assert [table for table, rows in after.items() if rows - before[table] > FEW] == [], command
            before = after


def rows_read(judging: Judge) -> dict[str, int]:
    """How many rows of each table were ever read. A session has told of its own when it is gone."""
    judging.wait_until_alone()
    with judging.database.reading() as connection:
        return {str(table): int(rows) for table, rows in connection.exec_driver_sql(READ)}
