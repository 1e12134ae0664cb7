"""What requests say: the fields of their bodies and queries. A field that there is not is refused by its name."""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from alphalens_keyctl.keys.selection import Sort
from alphalens_keyctl.vocabulary import LARGEST_NUMBER

DEFAULT_LEASE: Final = 60
LONGEST_LEASE: Final = 3600
DEFAULT_PAGE: Final = 100
LARGEST_PAGE: Final = 1000
# Keys that one request may name.
_MOST: Final = 1000

_Text = Annotated[str, Field(max_length=1000)]
_Texts = Annotated[list[_Text], Field(max_length=_MOST)]
_Lease = Annotated[float, Field(ge=1, le=LONGEST_LEASE, allow_inf_nan=False)]
_Id = Annotated[str, Field(min_length=12, max_length=12)]
_Seq = Annotated[int, Field(ge=0, le=LARGEST_NUMBER)]
_Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Count = Annotated[int, Field(ge=1, le=10**9)]


def _dashed(name: str) -> str:
    return name.replace("_", "-")


class Body(BaseModel):
    """A JSON object. Its values have the types of JSON, none is turned into another."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Filters(BaseModel):
    """The filters of `list`, by the names of its options."""

    model_config = ConfigDict(extra="forbid", alias_generator=_dashed)

    status: _Texts = Field(default_factory=list, examples=[["active", "suspended"]])
    name: _Text | None = Field(default=None, examples=["team-*"])
    owner: _Text | None = None
    no_owner: bool = False
    label: _Texts = Field(default_factory=list, examples=[["team=billing", "!ephemeral"]])
    unused_for: _Text | None = Field(default=None, examples=["90d"])
    never_used: bool = False
    expired: bool = False
    expires_within: _Text | None = Field(default=None, examples=["14d"])
    never_expires: bool = False
    older_than: _Text | None = Field(default=None, examples=["1y"])
    suspended_for: _Text | None = Field(default=None, examples=["30d"])
    scope: _Texts = Field(default_factory=list, examples=[["prices:read"]])
    text: _Texts = Field(default_factory=list)
    all: bool = False


class CountQuery(Filters):
    """Which keys to count."""


class ListQuery(Filters):
    """Which keys to list, in which order, and how many at once."""

    sort: Sort = Sort.CREATED
    limit: int | None = Field(default=None, ge=1, le=10**9, description="A page has 100 by default, and 1000 at most.")
    page: Annotated[str, Field(max_length=2000)] | None = Field(default=None, description="From the header Link.")


class DraftBody(Body):
    """What a new key is to be."""

    name: _Text = Field(examples=["billing"])
    owner: _Text | None = None
    purpose: _Text | None = None
    labels: dict[_Text, _Text] = Field(default_factory=dict, examples=[{"team": "billing"}])
    expires_at: _Text | None = Field(default=None, examples=["2027-01-31T00:00:00Z"])
    expires: _Text | None = Field(default=None, examples=["90d"])
    scopes: _Texts | None = Field(default=None, examples=[["prices:read"]])
    allow_from: _Texts | None = Field(default=None, examples=[["10.0.0.0/8"]])
    override: _Text | None = None


class CreateBody(DraftBody):
    """A new key."""

    if_missing: bool = False
    activate: bool = False
    lease: _Lease = DEFAULT_LEASE


class RotateBody(Body):
    """How to rotate a key."""

    expires: _Text | None = Field(default=None, examples=["90d"])
    same_lifetime: bool | None = None
    older_than: _Text | None = None
    expiring_within: _Text | None = None
    override: _Text | None = None
    asked_ago: Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False)] = 0.0
    activate: bool = False
    grace: _Text | None = Field(default=None, examples=["24h"])
    until_used: _Text | None = Field(default=None, examples=["30d"])
    lease: _Lease = DEFAULT_LEASE


class DigestReference(Body):
    """A raw key, of which only the digest is sent."""

    id: Annotated[str, Field(min_length=12, max_length=12)]
    sha256: Annotated[str, Field(min_length=64, max_length=64)]


class LineBody(DraftBody):
    """One of many new keys, and the number that errors give it."""

    line: Annotated[int, Field(ge=0, le=10**9)] = 0


class CreateManyBody(Body):
    """New keys; who is about to hold them; or whether they are only tried."""

    keys: Annotated[list[LineBody], Field(min_length=1, max_length=_MOST)]
    to: Annotated[list[_Text], Field(max_length=20)] = Field(default_factory=list)
    lease: _Lease = DEFAULT_LEASE
    dry_run: bool = False


class TheseBody(Body):
    """Keys by their ids, as they were answered."""

    keys: Annotated[list[_Id], Field(min_length=1, max_length=50_000)]


class RenewBody(TheseBody):
    """The same, and how many seconds their lease lasts from now."""

    lease: _Lease = DEFAULT_LEASE


class ActivateManyBody(TheseBody):
    """The same, and where they were delivered to."""

    delivered_to: Annotated[list[_Text], Field(max_length=20)] = Field(default_factory=list)
    at: _Text | None = Field(default=None, examples=["2026-11-26T09:00:00Z"])


class HeldBody(DigestReference):
    """A destination, and the raw key that it holds now."""

    destination: _Text


class DeliverBody(Body):
    """Which destinations are about to hold the key, what they hold now, and how long the delivery takes at most, in
    seconds."""

    to: Annotated[list[_Text], Field(min_length=1, max_length=20)]
    held: Annotated[list[HeldBody], Field(max_length=20)] = Field(default_factory=list)
    limit: Annotated[float, Field(ge=0, le=LONGEST_LEASE, allow_inf_nan=False)] = DEFAULT_LEASE


class ActivateBody(Body):
    """Where the key was delivered to, and when its predecessor ends: `grace` after the activation; with `deadline`,
    `grace` after the first use, and `deadline` after the activation at the latest. Spans are as `24h`, or seconds."""

    delivered_to: Annotated[list[_Text], Field(max_length=20)] = Field(default_factory=list)
    at: _Text | None = Field(default=None, examples=["2026-11-26T09:00:00Z"])
    grace: _Text | Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    deadline: _Text | Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class DiscardBody(Body):
    """Why the key is given up."""

    reason: Literal["delivery_failed", "abandoned", "aborted", "check_failed"] = "delivery_failed"


class TakeBackBody(Body):
    """The destinations that may hold the key, and why its rotation is taken back."""

    destinations: _Text | None = None
    reason: Literal["check_failed", "aborted"] = "check_failed"


class ReasonBody(Body):
    """Why."""

    reason: _Text | None = Field(default=None, examples=["leaked in a build log"])


class FindBody(Body):
    """KEY, of one key."""

    key: _Text | DigestReference


class VerifyBody(Body):
    """A raw key; what the request would need, and where it would come from; and whether this counts as a use."""

    raw_key: Annotated[str, Field(max_length=200)] = Field(examples=["alk_…"])
    scope: _Texts = Field(default_factory=list, examples=[["prices:read"]])
    address: _Text | None = Field(default=None, examples=["10.1.2.3"])
    record: bool = False


class ListChange(Body):
    """Texts to add and to take away."""

    add: _Texts = Field(default_factory=list)
    remove: _Texts = Field(default_factory=list)


class NewValues(Body):
    """New values. A field that is left out stays as it is; null takes its value away, and from `labels` a label."""

    name: _Text | None = None
    owner: _Text | None = None
    purpose: _Text | None = None
    expires_at: _Text | None = None
    expires: _Text | None = Field(default=None, examples=["90d"])
    labels: dict[_Text, _Text | None] = Field(default_factory=dict)
    scopes: ListChange | None = None
    allow_from: ListChange | None = None


class PatchBody(NewValues):
    """New values for one key, and why."""

    override: _Text | None = None
    reason: _Text | None = None


class ManyBody(Body):
    """Which keys to change, by KEY or by filter, and what guards the change. The names are those of the options."""

    keys: Annotated[list[_Text | DigestReference], Field(max_length=_MOST)] = Field(default_factory=list)
    filters: Filters | None = None
    reason: _Text | None = None
    dry_run: bool = False
    max: _Count | None = None
    in_use: bool = False
    only: Annotated[list[_Text], Field(max_length=100_000)] | None = None


class ManyUpdateBody(ManyBody):
    """The same, with the new values."""

    set: NewValues
    override: _Text | None = None


class ToRotateBody(Body):
    """Which keys to look at, and when one is due."""

    keys: Annotated[list[_Text | DigestReference], Field(max_length=_MOST)] = Field(default_factory=list)
    filters: Filters | None = None
    older_than: _Text | None = None
    expiring_within: _Text | None = None
    expires: _Text | None = None
    same_lifetime: bool | None = None
    override: _Text | None = None


class LogQuery(BaseModel):
    """Which events."""

    model_config = ConfigDict(extra="forbid")

    key: _Text | None = None
    actor: _Text | None = None
    action: _Text | None = Field(default=None, examples=["key.revoke"])
    since: _Text | None = Field(default=None, examples=["24h"])
    until: _Text | None = None
    after: _Seq | None = None
    before: _Seq | None = None


class EventsQuery(LogQuery):
    """Which events, and how many at once. A page has the latest of them, oldest first; with `after` the next ones
    behind that event; with `reverse` newest first."""

    reverse: bool = False
    limit: int | None = Field(default=None, ge=1, le=10**9)
    page: Annotated[str, Field(max_length=2000)] | None = None


class VerifyLogQuery(BaseModel):
    """The head that the log has to extend, as it was saved; and whether to leave the keys out."""

    model_config = ConfigDict(extra="forbid", alias_generator=_dashed)

    seq: _Seq | None = None
    hash: _Hash | None = None
    root: _Hash | None = None
    log_only: bool = False


class TreeQuery(BaseModel):
    """Over how many events the tree is."""

    model_config = ConfigDict(extra="forbid")

    size: _Seq


class ProofQuery(BaseModel):
    """Over how many events the tree of the proof is; by default over all."""

    model_config = ConfigDict(extra="forbid")

    size: _Seq | None = None


class NewEventsQuery(LogQuery):
    """Which events behind a place: the number of the last event that was read, and its hash."""

    place: _Seq
    hash: Annotated[str, Field(min_length=64, max_length=64, pattern="^[0-9a-f]*$")]


class UsageQuery(BaseModel):
    """Which rows of the usage log."""

    model_config = ConfigDict(extra="forbid")

    key: _Text | None = None
    outcome: _Text | None = Field(default=None, examples=["revoked"])
    since: _Text | None = None
    until: _Text | None = None
    limit: int | None = Field(default=None, ge=1, le=10**9)


class UsesQuery(UsageQuery):
    """Which rows, and behind which id to go on: `limit` is then a number of the next rows."""

    after: _Seq | None = None


class SummaryQuery(UsageQuery):
    """Which uses to sum up; `limit` is a number of keys."""


class PruneBody(Body):
    """Before when rows are removed, an instant or a span as `90d`; or whether they are only counted."""

    before: _Text = Field(examples=["90d"])
    dry_run: bool = False


class CheckQuery(BaseModel):
    """Which rules to check, and of which keys where not of all."""

    model_config = ConfigDict(extra="forbid")

    rule: _Texts = Field(default_factory=list)
    key: _Texts = Field(default_factory=list)


class ReportQuery(BaseModel):
    """The period to report on, and the rules to check where not all of them."""

    model_config = ConfigDict(extra="forbid")

    period: _Text = Field(examples=["2026-Q3"])
    rule: _Texts = Field(default_factory=list)


class OwnersQuery(BaseModel):
    """The owner that was asked for."""

    model_config = ConfigDict(extra="forbid")

    like: _Text


class PolicyBody(Body):
    """The fields of the stored policy to set; null takes one away."""

    max_lifetime: _Text | None = Field(default=None, examples=["365d"])
    require: _Texts | None = Field(default=None, examples=[["owner", "purpose"]])
    name_pattern: _Text | None = None
    reason: _Text | None = None


Json = dict[str, Any]
