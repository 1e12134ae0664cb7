"""`audit verify` and `audit prove` of a million events, each against a bare loop over the same rows."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.benchmarks import processes, seeding, table
from tests.benchmarks.scale import Scale

_AT_LEAST = 0.3
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
    commands = {
        "ours": command(str(path)),
        "bare": processes.python(_BARE, str(path)),
        "proof": (*processes.PROGRAM, "--database", str(path), "audit", "prove", str(scale.rows // 3)),
        "bare tree": processes.python(_BARE_TREE, str(path)),
    }
    costs = processes.in_turn({name: _runs(words, env) for name, words in commands.items()}, scale.rounds)
    speed, against = scale.rows / costs["ours"].seconds, scale.rows / costs["bare"].seconds
    return [
        table.rate(
            f"audit verify, {scale.rows:,} events", speed, against, "sqlite3 and SHA-256, bare", scale.goal(_AT_LEAST)
        ),
        table.memory("audit verify, peak memory", costs["ours"].peak, None),
        table.rate(
            f"audit prove, {scale.rows:,} events",
            scale.rows / costs["proof"].seconds,
            scale.rows / costs["bare tree"].seconds,
            "sqlite3 and SHA-256 twice, bare",
            scale.goal(_PROOF_AT_LEAST),
        ),
        table.memory("audit prove, peak memory", costs["proof"].peak, None),
    ]


def _runs(words: Sequence[str], env: Mapping[str, str]) -> Callable[[int], processes.Cost]:
    return lambda _round: processes.run(words, env)


def command(database: str) -> tuple[str, ...]:
    return (*processes.PROGRAM, "--database", database, "audit", "verify")
