"""Attacks of somebody who owns the database, on the audit log and on what it binds, and what shows of each: by the log
alone, with a head that was kept elsewhere, with a head that was signed.

    python -m tests.support.attacks [--stride N] [--only KIND] [--database-url URL]

How one is made, and undone: `tests.support.attacked_log`. The topic `audit-log` has a row for each kind.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain, combinations
from pathlib import Path
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection

from alphalens_keyctl.database import Database, Limits, Writing, parse_address
from alphalens_keyctl.errors import KeyctlError
from alphalens_keyctl.evidence import checkpoint, saved
from alphalens_keyctl.logs import audit, bound_rows, merkle_tree, proof
from alphalens_keyctl.logs.audit import BreakKind, Head
from alphalens_keyctl.models import Action, event_table, key_table, policy_table
from alphalens_keyctl.moments import utc_now
from alphalens_keyctl.output import documents, evidence
from alphalens_keyctl.provenance import Act, origin
from tests.support.attacked_log import (
    BY_HEAD,
    GHOST,
    NEVER,
    Found,
    History,
    OnDatabase,
    OnDocument,
    Row,
    Try,
    hashed,
    numbered,
    put_rows,
    rechained,
    with_another,
)

# --- the kinds --------------------------------------------------------------------------------------------------------


class Kind(NamedTuple):
    """A kind of attack, by its name in the topic. `unlike` says that no two of its tries are of one sort, so that a
    stride leaves none of them out."""

    name: str
    tries: Callable[[History], Iterator[Try]]
    unlike: bool = False


def _on_events(history: History, what: str, events: Iterable[Row], **more: Any) -> OnDatabase:
    return OnDatabase(history, what, put_rows(event_table, events), **{"head": history.head} | more)


def _on_keys(history: History, what: str, keys: Iterable[Row], **more: Any) -> OnDatabase:
    return OnDatabase(history, what, put_rows(key_table, keys), **{"head": history.head} | more)


def _on_schema(history: History, what: str, *statements: str, **more: Any) -> OnDatabase:
    def do(tx: Connection) -> None:
        for statement in statements:
            tx.exec_driver_sql(statement.replace("%", "%%"))

    return OnDatabase(history, what, do, **{"head": history.head} | more)


_CHAIN: Final = frozenset({BreakKind.MISSING, BreakKind.ALTERED, BreakKind.UNLINKED})
_HEAD: Final = frozenset({BreakKind.TRUNCATED, BreakKind.REWRITTEN})
_ROW: Final = frozenset({BreakKind.ALTERED_KEY, BreakKind.UNKNOWN_KEY, BreakKind.MISSING_KEY})


def _edited_event(history: History) -> Iterator[Try]:
    for at, row in enumerate(history.events):
        for column in row:
            changed = with_another(row, column, history.keys) if column != "seq" else row | {"seq": 1000 + row["seq"]}
            log = [*history.events[:at], changed, *history.events[at + 1 :]]
            yield _on_events(history, f"{column} of event {row['seq']}", log, breaks=_CHAIN)


def _removed_event(history: History) -> Iterator[Try]:
    for at in range(len(history.events) - 1):
        log = history.events[:at] + history.events[at + 1 :]
        yield _on_events(history, f"event {at + 1}", log, breaks=_CHAIN)
        yield _on_events(history, f"event {at + 1}, the rest moved up", numbered(log), breaks=_CHAIN)


def _inserted_event(history: History) -> Iterator[Try]:
    for at, row in enumerate(history.events):
        before, behind = history.events[:at], history.events[at:]
        forged = hashed(row | {"actor": "eve"})
        fitted = [forged, behind[0] | {"previous_hash": forged["hash"]}, *behind[1:]]
        yield _on_events(history, f"one before event {at + 1}", numbered([*before, *fitted]), breaks=_CHAIN)
    far = hashed(history.events[-1] | {"seq": len(history.events) + 3, "previous_hash": history.head.hash})
    yield _on_events(history, "one far off", [*history.events, far], breaks=_CHAIN)


def _moved_event(history: History) -> Iterator[Try]:
    for one, other in combinations(range(len(history.events)), 2):
        log = list(history.events)
        log[one], log[other] = log[other], log[one]
        yield _on_events(history, f"events {one + 1} and {other + 1}", numbered(log), breaks=_CHAIN)


def _refitted_event(history: History) -> Iterator[Try]:
    for at, row in enumerate(history.events[:-1]):
        log = [*history.events[:at], hashed(row | {"actor": "eve"}), *history.events[at + 1 :]]
        yield _on_events(history, f"event {at + 1}", log, breaks=_CHAIN)


def _edited_row(history: History) -> Iterator[Try]:
    for at, key in enumerate(history.keys):
        others = [*history.keys[:at], *history.keys[at + 1 :]]
        for column in bound_rows.BOUND:
            changed = with_another(key, column, history.keys)
            yield _on_keys(history, f"{column} of key {at + 1}", [*others, changed], breaks=_ROW)
        emptied = [column for column in bound_rows.BOUND if key[column] is not None and key_table.c[column].nullable]
        for column in emptied:
            yield _on_keys(history, f"no {column} of key {at + 1}", [*others, key | {column: None}], breaks=_ROW)
    for one, other in combinations(history.keys, 2):
        digests = {one["id"]: other["digest"], other["id"]: one["digest"]}
        swapped = [key | {"digest": digests.get(key["id"], key["digest"])} for key in history.keys]
        yield _on_keys(history, f"the digests of {one['id']} and {other['id']}", swapped, breaks=_ROW)


def _made_row(history: History) -> Iterator[Try]:
    for at, key in enumerate(history.keys):
        others = [*history.keys[:at], *history.keys[at + 1 :]]
        ghost = key | {"id": GHOST, "name": "ghost", "name_folded": "ghost", "replaces": None}
        yield _on_keys(history, f"a copy of key {at + 1}", [*history.keys, ghost], breaks=_ROW)
        yield _on_keys(history, f"another id of key {at + 1}", [*others, key | {"id": GHOST}], breaks=_ROW)
        yield _on_keys(history, f"key {at + 1} gone", others, breaks=_ROW)
    yield _on_keys(history, "every key gone", [], breaks=_ROW)


def _older_row(history: History) -> Iterator[Try]:
    """A row as it was, with all events, and without those about the key since."""
    now = {key["id"]: key for key in history.keys}
    for number, moment in enumerate(history.moments[:-1], 1):
        for key in moment.keys:
            if all(key[column] == now[key["id"]][column] for column in bound_rows.BOUND):
                continue
            rows = [*(row for row in history.keys if row["id"] != key["id"]), key]
            yield _on_keys(history, f"a key as of step {number}", rows, breaks=_ROW)
            told = [
                event for event in history.events if event["seq"] <= moment.head.seq or event["key_id"] != key["id"]
            ]
            do = _all(put_rows(key_table, rows), put_rows(event_table, told))
            yield OnDatabase(history, f"a key and its events as of step {number}", do, history.head, breaks=_CHAIN)


def _all(*each: Callable[[Connection], None]) -> Callable[[Connection], None]:
    def do(tx: Connection) -> None:
        for one in each:
            one(tx)

    return do


def _forged_status(history: History) -> Iterator[Try]:
    """The status by which a verifier judges is derived by the database; who owns it can have it derived otherwise."""
    derived = "revoked_at IS NOT NULL THEN 'revoked'"
    for status in ("active", "suspended"):
        if history.database.one_writer:
            here, there = (said.replace("'", "''") for said in (derived, derived.replace("revoked'", f"{status}'")))
            other = f"replace(sql, '{here}', '{there}')"
            yield _on_schema(
                history,
                f"revoked keys derived as {status}",
                "PRAGMA writable_schema = ON",
                f"UPDATE sqlite_master SET sql = {other} WHERE name = 'api_key'",
                "PRAGMA writable_schema = RESET",
                "UPDATE api_key SET revoked_by = revoked_by",
                "REINDEX",
                breaks=_ROW,
            )
        else:
            yield _on_schema(
                history,
                f"revoked keys made {status}",
                "ALTER TABLE api_key ALTER COLUMN status DROP EXPRESSION",
                f"UPDATE api_key SET status = '{status}' WHERE status = 'revoked'",
                breaks=_ROW,
            )


def _edited_policy(history: History) -> Iterator[Try]:
    breaks = frozenset({BreakKind.ALTERED_POLICY})
    for what, statement in (
        ("gone", "DELETE FROM key_policy"),
        ("asks for no owner", "UPDATE key_policy SET required = ''"),
        ("asks for more", "UPDATE key_policy SET required = 'owner,purpose'"),
        ("allows a longer life", "UPDATE key_policy SET max_lifetime = 99999999"),
        ("allows any life", "UPDATE key_policy SET max_lifetime = NULL"),
        ("asks for a name", "UPDATE key_policy SET name_pattern = 'x*'"),
    ):
        yield _on_schema(history, f"a policy that {what}", statement, breaks=breaks)


_INDEX: Final = frozenset({BreakKind.INDEX, BreakKind.DAMAGED})


def _hidden_row(history: History) -> Iterator[Try]:
    """Indexes by which rows are not found."""
    sparing = "CREATE INDEX audit_event_key ON audit_event (key_id, seq) WHERE action <> 'key.revoke'"
    for name in ("audit_event_key", "audit_event_action", "audit_event_at", "api_key_name", "api_key_status"):
        yield _on_schema(history, f"no {name}", f"DROP INDEX {name}", breaks=_INDEX)
    yield _on_schema(history, "an index that spares revocations", "DROP INDEX audit_event_key", sparing, breaks=_INDEX)
    if history.database.one_writer:
        yield _on_schema(
            history,
            "the same, which no longer says so",
            "DROP INDEX audit_event_key",
            sparing,
            "PRAGMA writable_schema = ON",
            "UPDATE sqlite_master SET sql = 'CREATE INDEX audit_event_key ON audit_event (key_id, seq)'"
            " WHERE name = 'audit_event_key'",
            "PRAGMA writable_schema = RESET",
            breaks=_INDEX,
        )
        yield _on_schema(history, "a label that no filter finds", "DELETE FROM api_key_label", breaks=_INDEX)
        yield _on_schema(
            history,
            "a label that a key does not have",
            "INSERT INTO api_key_label SELECT 'x', 'y', id FROM api_key LIMIT 1",
            breaks=_INDEX,
        )
    else:
        not_valid = "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'audit_event_key'::regclass"
        yield _on_schema(history, "an index that is not valid", not_valid, breaks=_INDEX)


def _cut_tail(history: History) -> Iterator[Try]:
    for kept in range(len(history.events)):
        cut = history.events[kept:]
        bound = any(event["key_id"] or event["action"] == Action.SET_POLICY.value for event in cut)
        shows, breaks = Found(bound, True, True), _ROW | _HEAD | {BreakKind.ALTERED_POLICY}
        yield _on_events(history, f"all behind event {kept}", history.events[:kept], shows=shows, breaks=breaks)


def _older_backup(history: History) -> Iterator[Try]:
    for number, moment in enumerate(history.moments[:-1], 1):
        do = _all(
            put_rows(event_table, moment.events),
            put_rows(key_table, moment.keys),
            put_rows(policy_table, moment.policy),
        )
        yield OnDatabase(history, f"all tables as of step {number}", do, history.head, BY_HEAD, _HEAD)


def _rewritten_log(history: History) -> Iterator[Try]:
    for at, row in enumerate(history.events):
        log = rechained([*history.events[:at], row | {"actor": "eve"}, *history.events[at + 1 :]])
        heads = [moment.head for moment in history.moments]
        later, earlier = heads[-1], [head for head in heads if head.seq <= at]
        yield _on_events(history, f"from event {at + 1} on", log, shows=BY_HEAD, breaks=_HEAD)
        longer = rechained([*log, log[-1]])  # which is about no key
        yield _on_events(history, f"from event {at + 1} on, and longer", longer, shows=BY_HEAD, breaks=_HEAD | _ROW)
        rooted = later._replace(hash=b"")
        yield _on_events(history, "the same, by the root", log, head=rooted, shows=BY_HEAD, breaks=_HEAD)
        if earlier:
            said = f"from event {at + 1} on, by the head at event {earlier[-1].seq}"
            yield _on_events(history, said, log, head=earlier[-1], shows=NEVER)


def _other_history(history: History) -> Iterator[Try]:
    """A head of another log of the same length: what stands here is not the log of that head."""
    log = rechained(row | {"actor": "eve"} for row in history.events)
    for moment in history.moments:
        seq = moment.head.seq
        other = Head(seq, log[seq - 1]["hash"], moment.head.at, merkle_tree.root([[row["hash"] for row in log[:seq]]]))
        for what, head in (
            ("a head", other),
            ("a hash", other._replace(root=None)),
            ("a root", moment.head._replace(root=other.root)),
            ("a checkpoint", other._replace(hash=b"")),
        ):
            said = f"{what} of another log at event {seq}"
            yield OnDatabase(history, said, lambda _tx: None, head, BY_HEAD, _HEAD)


def _forged_head(history: History) -> Iterator[Try]:
    for at, row in enumerate(history.events):
        log = rechained([*history.events[:at], row | {"actor": "eve"}, *history.events[at + 1 :]])
        shows = Found(False, False, True)
        yield _on_events(history, f"the log from event {at + 1} on, and the head", log, head=None, shows=shows)


def _forged_event(history: History) -> Iterator[Try]:
    """What the program does, by its own hand."""
    act = Act(utc_now(), "ann", origin(host="h", os_user="ann", ci=None, claims={}))
    for key in history.keys:

        def do(tx: Writing, key: Row = key) -> None:
            tx.execute(key_table.update().where(key_table.c.id == key["id"]).values(owner="mallory"))
            audit.append(tx, act, Action.UPDATE, key_id=key["id"], key_name=key["name"], owner="mallory")

        yield OnDatabase(history, f"a change of {key['id']} and its event", do, history.head, NEVER)


def _unbound_value(history: History) -> Iterator[Try]:
    """What no event binds."""
    at = "'2026-01-01 00:00:00.000000'"
    for what, statement in (
        ("the uses of keys", f"UPDATE api_key SET last_used_at = {at}, use_count = 5, first_used_at = {at}"),
        ("leases", f"UPDATE api_key SET lease_until = {at}"),
        ("the usage log", f"INSERT INTO usage_event (id, at, outcome, count) VALUES (1, {at}, 'unknown', 1)"),
        ("triggers taken away", "SELECT 1"),
    ):
        yield _on_schema(history, what, statement, shows=NEVER)


def _altered_proof(history: History) -> Iterator[Try]:
    with history.database.reading() as connection:
        made = [proof.prove(connection, seq) for seq in (1, len(history.events))]
    for each, root in made:
        document = documents.json_document(evidence.proof_object(each)).encode()
        for place, bit in ((place, bit) for place in range(len(document)) for bit in range(8)):
            altered = bytearray(document)
            altered[place] ^= 1 << bit
            if not _says_the_same(bytes(altered), document):
                holds = _holding(bytes(altered), each.tree_size, root)
                yield OnDocument(f"bit {bit} of byte {place}", holds, Found(None, True, True))


def _says_the_same(altered: bytes, document: bytes) -> bool:
    """Whether the bit only made another white space of a space between two values."""
    try:
        return bool(json.loads(altered) == json.loads(document))
    except (ValueError, UnicodeDecodeError):
        return False


def _holding(document: bytes, size: int, root: bytes) -> Callable[[], bool]:
    def holds() -> bool:
        try:
            return proof.flaw(saved.parse_proof(document), size, root) is None
        except KeyctlError:
            return False

    return holds


def _false_signature(history: History) -> Iterator[Try]:
    shows, head = Found(None, None, True), history.head
    other = history.moments[0].head
    good = history.ann.sign(checkpoint.text(checkpoint.of(head)))
    assert history.is_signed(head, good)
    for what, of, signature in (
        ("of another key", head, history.eve.sign(checkpoint.text(checkpoint.of(head)))),
        ("over another head", head, history.ann.sign(checkpoint.text(checkpoint.of(other)))),
        ("moved to another head", other, good),
        ("for another namespace", head, history.ann.sign_for("git", checkpoint.text(checkpoint.of(head)))),
        ("that is missing", head, None),
        ("that is none", head, "no signature"),
        ("cut short", head, good[: len(good) // 2]),
    ):
        yield OnDocument(f"a signature {what}", partial(history.is_signed, of, signature), shows)


KINDS: Final = (
    Kind("edited-event", _edited_event),
    Kind("removed-event", _removed_event),
    Kind("inserted-event", _inserted_event),
    Kind("moved-event", _moved_event),
    Kind("refitted-event", _refitted_event),
    Kind("edited-row", _edited_row),
    Kind("made-row", _made_row),
    Kind("older-row", _older_row),
    Kind("forged-status", _forged_status, unlike=True),
    Kind("edited-policy", _edited_policy, unlike=True),
    Kind("hidden-row", _hidden_row, unlike=True),
    Kind("cut-tail", _cut_tail),
    Kind("older-backup", _older_backup),
    Kind("rewritten-log", _rewritten_log),
    Kind("other-history", _other_history),
    Kind("forged-head", _forged_head),
    Kind("forged-event", _forged_event),
    Kind("unbound-value", _unbound_value, unlike=True),
    Kind("altered-proof", _altered_proof),
    Kind("false-signature", _false_signature, unlike=True),
)


# --- all of it --------------------------------------------------------------------------------------------------------


class Outcome(NamedTuple):
    """What came of a kind: what has to show of each of its attacks, what was found of those that were tried, and of
    which another thing was found."""

    kind: str
    shows: list[Found]
    found: list[Found]
    wrong: list[str]

    def said(self, where: str) -> str:
        """`found of tried` by `alone`, `kept` or `signed`; a dash where there is nothing to look at."""
        seen = [getattr(found, where) for found in self.found]
        looked = [each for each in seen if each is not None]
        return f"{sum(looked)} of {len(looked)}" if looked else "-"


def run(history: History, *, stride: int = 1, only: str | None = None) -> Iterator[Outcome]:
    """Try every `stride`-th attack of each kind, the first of each among them."""
    for kind in KINDS:
        if only in (None, kind.name):
            outcome = Outcome(kind.name, [], [], [])
            for at, each in enumerate(kind.tries(history)):
                outcome.shows.append(each.shows)
                if kind.unlike or at % stride == 0:
                    found = each.found()
                    outcome.found.append(found)
                    if found != each.shows:
                        outcome.wrong.append(f"{kind.name}, {each.what}: {found}, and has to be {each.shows}")
            yield outcome


@contextmanager
def history_on(database_url: str | None) -> Iterator[History]:
    """A history in a database: the one given, made empty, or a SQLite file."""
    folder = Path(tempfile.mkdtemp(prefix="keyctl-attacks-"))
    url = database_url or f"sqlite:///{folder / 'keys.db'}"
    database = Database.connect(parse_address(url), Limits())
    try:
        database.upgrade()
        yield History(database, url, folder)
    finally:
        database.close()
        shutil.rmtree(folder)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.attacks", description=__doc__)
    parser.add_argument("--stride", type=int, default=1, help="try every so many-th attack of a kind")
    parser.add_argument("--only", choices=[kind.name for kind in KINDS], help="this kind alone")
    parser.add_argument("--database-url", help="an empty PostgreSQL database; by default a SQLite file of its own")
    options = parser.parse_args()
    with history_on(options.database_url) as history:
        outcomes = list(run(history, stride=options.stride, only=options.only))
    print("| attack | tries | found by the log alone | with a kept head | with a signed head |\n|---|---|---|---|---|")
    for each in outcomes:
        cells = [each.kind, str(len(each.found)), *(each.said(where) for where in Found._fields)]
        print(f"| {' | '.join(cells)} |")
    wrong = list(chain.from_iterable(each.wrong for each in outcomes))
    print(f"{sum(len(each.found) for each in outcomes)} tries, otherwise than said: {len(wrong)}", *wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
