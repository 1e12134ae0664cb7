"""`audit verify` of a million events, alone and with a million keys, and `audit prove`, against a bare loop over the
same rows."""

from pathlib import Path

from tests.benchmarks import processes, seeding, table
from tests.benchmarks.scale import Scale

_AT_LEAST = 0.4
_AT_LEAST_WITH_KEYS = 0.3
_PROOF_AT_LEAST = 0.5
# Reads what the chain covers and hashes it, row by row. It proves nothing: no form that tells one value from
# the next, no comparison, no link.
_BARE = """
import sqlite3, sys
from hashlib import sha256
rows = sqlite3.connect(sys.argv[1]).execute(
    "SELECT seq, at, actor, action, key_id, key_name, detail, previous_hash, hash FROM audit_event ORDER BY seq")
for seq, at, actor, action, key_id, key_name, detail, previous_hash, hash in rows:
    sha256(f"{seq}{at}{actor}{action}{key_id}{key_name}{detail}".encode() + previous_hash).digest()
"""

_BARE_WITH_KEYS = (
    _BARE
    + """
for row in sqlite3.connect(sys.argv[1]).execute("SELECT * FROM api_key"):
    sha256("".join(map(str, row)).encode()).digest()
"""
)
# Hashes as often as a tree has nodes, and makes none.
_BARE_TREE = """
import sqlite3, sys
from hashlib import sha256
for (hash,) in sqlite3.connect(sys.argv[1]).execute("SELECT hash FROM audit_event ORDER BY seq"):
    sha256(sha256(hash + hash).digest() + hash).digest()
"""


def rows(scale: Scale, folder: Path) -> list[table.Row]:
    env = processes.environment(folder)
    path = folder / "keys.db"
    seeding.sqlite(path, keys=0, events=scale.rows)
    ours, bare = command(str(path), "--log-only"), processes.python(_BARE, str(path))
    costs = processes.in_turn(
        {"ours": lambda _round: processes.run(ours, env), "bare": lambda _round: processes.run(bare, env)},
        scale.rounds,
    )
    prove = (*processes.PROGRAM, "--database", str(path), "audit", "prove", str(scale.rows // 3))
    bare_tree = processes.python(_BARE_TREE, str(path))
    proof = processes.in_turn(
        {"ours": lambda _round: processes.run(prove, env), "bare": lambda _round: processes.run(bare_tree, env)},
        scale.rounds,
    )
    with_keys = folder / "bound.db"
    seeding.sqlite(with_keys, keys=scale.rows, events=0)
    seeding.bind(with_keys)
    ours_too, bare_too = command(str(with_keys)), processes.python(_BARE_WITH_KEYS, str(with_keys))
    bound = processes.in_turn(
        {"ours": lambda _round: processes.run(ours_too, env), "bare": lambda _round: processes.run(bare_too, env)},
        scale.rounds,
    )
    speed, against = scale.rows / costs["ours"].seconds, scale.rows / costs["bare"].seconds
    return [
        table.rate(
            f"audit verify, {scale.rows:,} events", speed, against, "sqlite3 and SHA-256, bare", scale.goal(_AT_LEAST)
        ),
        table.memory("audit verify, peak memory", costs["ours"].peak, None),
        table.rate(
            f"audit verify, {scale.rows:,} events and as many keys",
            scale.rows / bound["ours"].seconds,
            scale.rows / bound["bare"].seconds,
            "sqlite3 and SHA-256, bare",
            scale.goal(_AT_LEAST_WITH_KEYS),
        ),
        table.memory("audit verify with keys, peak memory", bound["ours"].peak, None),
        table.rate(
            f"audit prove, {scale.rows:,} events",
            scale.rows / proof["ours"].seconds,
            scale.rows / proof["bare"].seconds,
            "sqlite3 and SHA-256 twice, bare",
            scale.goal(_PROOF_AT_LEAST),
        ),
        table.memory("audit prove, peak memory", proof["ours"].peak, None),
    ]


def command(database: str, *options: str) -> tuple[str, ...]:
    return (*processes.PROGRAM, "--database", database, "audit", "verify", *options)
