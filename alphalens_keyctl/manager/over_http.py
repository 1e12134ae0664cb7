"""The way to the keys over HTTP: each method is a request or two to a server of the HTTP API, which asks there what its
caller may do."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from alphalens_keyctl.database.changes import Changes, Unannounced
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keys.changes import Change, RevocationChange, Targets, UpdateChange
from alphalens_keyctl.keys.issuance import Created, RotationPlan
from alphalens_keyctl.keys.lookup import Reference
from alphalens_keyctl.keys.rotation import Aborted
from alphalens_keyctl.keys.selection import KeyDocument, Place, Selection, Sort
from alphalens_keyctl.keys.stored_policy import StoredPolicy
from alphalens_keyctl.logs.audit import Head, LogFilter, Verdict
from alphalens_keyctl.logs.usage import Buckets, Seen, Summary
from alphalens_keyctl.logs.usage_rows import UsageFilter
from alphalens_keyctl.manager import http_documents as documents
from alphalens_keyctl.manager import http_evidence
from alphalens_keyctl.manager import http_requests as requests
from alphalens_keyctl.manager.backend import Details, Progress, Rotatable, untold
from alphalens_keyctl.manager.http_exchange import Query, Server
from alphalens_keyctl.manager.http_outcome import HttpOutcome
from alphalens_keyctl.manager.http_steps import HttpSteps, understood
from alphalens_keyctl.moments import Period, shortest_span
from alphalens_keyctl.output.documents import key_object
from alphalens_keyctl.settings import PROGRAM, Thresholds
from alphalens_keyctl.values import Event, Key, Use
from alphalens_keyctl.verification.judgement import Verification
from alphalens_keyctl.vocabulary import Reason

if TYPE_CHECKING:  # for speed: most commands need neither
    from alphalens_keyctl.keys.bulk_file import Line
    from alphalens_keyctl.keys.bulk_issuance import Handout
    from alphalens_keyctl.keys.policy import Finding, Rule
    from alphalens_keyctl.logs.proof import Proof
    from alphalens_keyctl.logs.recorded import Recorded
    from alphalens_keyctl.logs.report import Entry, Report

# What a KEY may hold that stands in a path as it is, whatever stands in front of the server.
_PLAIN: Final = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z._ -]*")

# Seconds after which a server is asked again whether there are new events.
_LOOK_AGAIN: Final = 1.0

_Value = TypeVar("_Value")


class OverHttp:
    """`Backend` over a server of the HTTP API, within the rights of the key that the server is asked with."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.steps = HttpSteps(server)
        # The KEY that a tuple of ids was asked by: a name may have had more keys than a URL has room for.
        self._asked_by: dict[tuple[str, ...], str] = {}
        self._lately: dict[str, tuple[int, int]] = {}

    # One key.

    def caller(self) -> Key:
        """The key that the server lets this caller in by."""
        return self._read(documents.key, self._server.get("/v1/self"))

    def find(self, reference: Reference) -> Key:
        return self._read(documents.key, self._server.ask("/v1/keys:find", {"key": requests.reference(reference)}))

    def details(self, reference: Reference) -> Details:
        return self._read(documents.details, self._server.get(requests.path("keys", self._in_path(reference))))

    def verify(
        self, presented: bytes, *, scope: Sequence[str] | None, address: str | None, record: bool
    ) -> Verification:
        """Whether a raw key opens, as `KeyVerifier.verify` answers; with `record` that counts as a use."""
        body = requests.verification(presented, scope=scope, address=address, record=record)
        ask = self._server.post("/v1/verify", body).document if record else self._server.ask("/v1/verify", body)
        return self._read(documents.verification, ask)

    def abort(self, reference: Reference) -> tuple[Aborted, list[str]]:
        answer = self._server.post(requests.path("keys", self._in_path(reference), "abort"))
        return self._read(documents.aborted, answer.document)

    # Many keys.

    def create_each(self, lines: "Sequence[Line]", handout: "Handout", *, progress: Progress = untold) -> list[Created]:
        from alphalens_keyctl.keys import bulk_issuance
        from alphalens_keyctl.manager.http_bulk_steps import HttpBulkSteps

        with progress(len(lines)) as tell:
            return bulk_issuance.take_in(HttpBulkSteps(self._server), lines, handout, tell=tell)

    def try_create_each(self, lines: "Sequence[Line]") -> None:
        from alphalens_keyctl.manager.http_bulk_steps import HttpBulkSteps

        HttpBulkSteps(self._server).try_begin(lines)

    @contextmanager
    def keys(self, wanted: Selection, *, sort: Sort, limit: int | None) -> Iterator[Iterator[Key]]:
        with self._rows("/v1/keys", _listed(wanted, sort, limit), documents.key) as found:
            yield found

    @contextmanager
    def documents(self, wanted: Selection, *, sort: Sort, limit: int | None) -> Iterator[Iterator[KeyDocument]]:
        with self._rows("/v1/keys", _listed(wanted, sort, limit), documents.key_document) as found:
            yield found

    def page(self, wanted: Selection, *, sort: Sort, after: Place | None, limit: int) -> list[KeyDocument]:
        raise only_database("a page of keys")

    def documents_of(self, keys: Sequence[Key]) -> Iterator[KeyDocument]:
        return (documents.key_document(key_object(key)) for key in keys)

    def count(self, wanted: Selection) -> int:
        return self._count("/v1/keys:count", requests.query(requests.filters(wanted)))

    def owners_like(self, owner: str) -> list[str]:
        return self._read(lambda found: [*found["owners"]], self._server.get("/v1/owners", [("like", owner)]))

    def to_rotate(self, references: Sequence[Reference], wanted: Selection | None, plan: RotationPlan) -> Rotatable:
        body = {"keys": list(map(requests.reference, references)), **requests.rotation(plan)}
        if wanted is not None:
            body["filters"] = requests.filters(wanted)
        return self._read(_rotatable, self._server.ask("/v1/keys:to-rotate", body))

    def preview(self, change: Change, targets: Targets) -> HttpOutcome:
        body = {**_changing(change, targets), "dry_run": True}
        outcome = self._read(HttpOutcome, self._server.ask(f"/v1/keys:{change.verb}", body))
        self._lately.update(outcome.lately)
        return outcome

    def change(
        self, change: Change, targets: Targets, *, only: frozenset[str] | None = None, progress: Progress = untold
    ) -> HttpOutcome:
        body = {**_changing(change, targets), "only": None if only is None else sorted(only)}
        return self._read(HttpOutcome, self._server.post(f"/v1/keys:{change.verb}", body).document)

    def used_since(self, key_ids: Sequence[str], since: datetime) -> Mapping[str, tuple[int, int]]:
        for key_id in key_ids:
            if key_id not in self._lately:
                query = [("key", key_id), ("outcome", Reason.OK.value), ("since", requests.instant(since) or "")]
                found = self._read(documents.summary, self._server.get("/v1/usage/summary", query))
                self._lately[key_id] = (found.uses, found.addresses_total)
        return {key_id: self._lately[key_id] for key_id in key_ids if self._lately[key_id][0]}

    def seen(self, reference: Reference, since: datetime) -> tuple[Key, list[Seen]]:
        key, lineage, _used, _old_use = self.details(reference)
        uses: dict[str | None, int] = {}
        for member in lineage:
            wanted = UsageFilter(key_ids=(member.id,), outcome=Reason.OK, since=since)
            with self.uses(wanted, limit=None) as rows:
                for row in rows:
                    uses[row.client_ip] = uses.get(row.client_ip, 0) + 1
        return key, [Seen(ip, uses[ip]) for ip in sorted(uses, key=lambda ip: (-uses[ip], ip or ""))]

    # The logs.

    @contextmanager
    def events(self, wanted: LogFilter, *, limit: int | None, reverse: bool = False) -> Iterator[Iterator[Event]]:
        query = [*self._logged(wanted), *_limited(limit), *([("reverse", "true")] if reverse else [])]
        with self._rows("/v1/events", query, documents.event) as found:
            yield found

    def event(self, seq: int) -> "Recorded":
        return self._read(documents.recorded, self._server.get(f"/v1/events/{seq}"))

    def last_event(self) -> Head:
        return self._read(documents.head, self._server.get("/v1/events/last"))

    def new_events(self, place: Head, wanted: LogFilter) -> tuple[Sequence[Event], Head]:
        behind = [("place", str(place.seq)), ("hash", place.hash.hex())]
        return self._read(documents.new_events, self._server.get("/v1/events/new", [*behind, *self._logged(wanted)]))

    @contextmanager
    def changes(self) -> Iterator[Changes]:
        yield Unannounced(_LOOK_AGAIN)

    def count_events(self, wanted: LogFilter) -> int:
        return self._count("/v1/events:count", self._logged(wanted))

    def head(self) -> Head:
        return http_evidence.head(self._server)

    def rooted_head(self, head: Head | None = None) -> Head:
        return http_evidence.rooted_head(self._server, head or self.head())

    def prove(self, seq: int, size: int | None) -> "tuple[Proof, bytes]":
        return http_evidence.prove(self._server, seq, size)

    def verify_log(self, saved: Head | None, *, log_only: bool = False) -> Verdict:
        return http_evidence.verify_log(self._server, saved, log_only=log_only)

    def report(self, period: Period, rules: "Sequence[Rule]", limits: Thresholds) -> "Report":
        query = [("period", period.name), *(("rule", rule.id) for rule in rules)]
        return self._read(documents.report, self._server.get("/v1/report", query))

    @contextmanager
    def report_entries(self, period: Period) -> "Iterator[Iterator[Entry]]":
        with self._rows("/v1/report", [("period", period.name)], documents.entry) as found:
            yield found

    @contextmanager
    def uses(self, wanted: UsageFilter, *, limit: int | None) -> Iterator[Iterator[Use]]:
        with self._rows("/v1/usage", [*self._used(wanted), *_limited(limit)], documents.use) as found:
            yield found

    def usage_summary(self, wanted: UsageFilter, buckets: Buckets, *, most_keys: int) -> Summary:
        # The same span gives the same steps there.
        spanned = wanted._replace(since=buckets.since, until=buckets.until)
        query = [*self._used(spanned), *_limited(most_keys)]
        return self._read(documents.summary, self._server.get("/v1/usage/summary", query))

    def key_ids(self, reference: Reference) -> tuple[str, ...]:
        asked = self._by_id(reference)
        ids = tuple(self._read(_ids, self._server.get(requests.path("key-ids", asked))))
        self._asked_by[ids] = asked
        return ids

    def prune_usage(self, before: datetime, *, dry_run: bool) -> int:
        body = {"before": requests.instant(before), "dry_run": dry_run}
        path = "/v1/usage:prune"
        document = self._server.ask(path, body) if dry_run else self._server.post(path, body).document
        return self._read(lambda found: int(found["pruned"]), document)

    # The policy.

    @contextmanager
    def findings(
        self, rules: "Sequence[Rule]", limits: Thresholds, references: Sequence[Reference] = ()
    ) -> "Iterator[Iterator[Finding]]":
        query = [("rule", rule.id) for rule in rules] + [("key", self._by_id(each)) for each in references]
        with self._server.lines("/v1/check", query) as found:
            yield (each for some in found for each in self._read(list, self._read(documents.findings, some)))

    def policy(self) -> StoredPolicy:
        return self._read(documents.policy, self._server.get("/v1/policy"))

    def set_policy(self, changes: Mapping[str, Any], *, reason: str | None) -> StoredPolicy:
        said = dict(changes)
        if (longest := said.get("max_lifetime")) is not None:
            said["max_lifetime"] = shortest_span(longest)
        if "require" in said:
            said["require"] = list(said["require"])
        return self._read(documents.policy, self._server.put("/v1/policy", {**said, "reason": reason}))

    def outside_policy(self) -> int:
        return self._count("/v1/policy/outside", [])

    def close(self) -> None:
        self._server.close()

    def _in_path(self, reference: Reference) -> str:
        """A KEY that can stand in a path: the id of a key that is meant by anything else."""
        if isinstance(reference, str) and _PLAIN.fullmatch(reference):
            return reference
        return self.find(reference).id

    def _by_id(self, reference: Reference) -> str:
        """A KEY that can stand in a URL: of a raw key the id."""
        return reference if isinstance(reference, str) else self.find(reference).id

    def _logged(self, wanted: LogFilter) -> Query:
        said = {
            "key": self._key_of(wanted.key_ids), "actor": wanted.actor,
            "action": None if wanted.action is None else wanted.action.value,
            "since": requests.instant(wanted.since), "until": requests.instant(wanted.until),
            "after": wanted.after_seq, "before": wanted.before_seq,
        }  # fmt: skip
        return requests.query(said)

    def _used(self, wanted: UsageFilter) -> Query:
        said = {
            "key": self._key_of(wanted.key_ids),
            "outcome": None if wanted.outcome is None else wanted.outcome.value,
            "since": requests.instant(wanted.since), "until": requests.instant(wanted.until),
            "after": None if wanted.after_id is None else f"{wanted.after_id}",
        }  # fmt: skip
        return requests.query(said)

    def _key_of(self, ids: tuple[str, ...] | None) -> str | None:
        if ids is None:
            return None
        return ids[0] if len(ids) == 1 else self._asked_by[ids]

    def _count(self, path: str, query: Query) -> int:
        return self._read(lambda found: int(found["count"]), self._server.get(path, query))

    @contextmanager
    def _rows(self, path: str, query: Query, value: Callable[[Any], _Value]) -> Iterator[Iterator[_Value]]:
        with self._server.lines(path, query) as found:
            yield (row for some in found for row in self._read(lambda some: list(map(value, some)), some))

    def _read(self, value: Callable[[Any], _Value], document: Any) -> _Value:
        with understood(self._server):
            return value(document)


def only_database(what: str) -> KeyctlError:
    """The error for what is done in the database alone."""
    return KeyctlError(
        Code.USAGE,
        f"{what} works on the database itself, not over a server",
        f"Run it where the database is: {PROGRAM} --database URL …",
    )


def _changing(change: Change, targets: Targets) -> dict[str, Any]:
    assert isinstance(change, RevocationChange | UpdateChange)  # noqa: S101  # there are no others
    body = requests.targets(targets, change.reason)
    if isinstance(change, UpdateChange):
        body |= {"set": requests.new_values(change.new), "override": change.new.override}
    return body


def _rotatable(document: Mapping[str, Any]) -> Rotatable:
    keys, ids = documents.keys(document["keys"]), set(document["due"])
    stopped_by = documents.error(document["stopped_by"])
    return Rotatable(
        keys, [key for key in keys if key.id in ids], [key for key in keys if key.id not in ids], stopped_by
    )


def _listed(wanted: Selection, sort: Sort, limit: int | None) -> Query:
    return [*requests.query(requests.filters(wanted)), ("sort", sort.value), *_limited(limit)]


def _limited(limit: int | None) -> Query:
    return [] if limit is None else [("limit", str(limit))]


def _ids(document: Mapping[str, Any]) -> list[str]:
    ids: list[str] = [*document["ids"]]
    return ids
