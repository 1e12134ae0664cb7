"""Promise 13: nobody sees, changes or grants beyond what they hold; a table of who may do what to whose key, and what a
team's member, an auditor and a key that was rotated out try all the same."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import pytest

from alphalens_keyctl.database import Database
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey, generate
from alphalens_keyctl.keys import issuance
from alphalens_keyctl.keys.bulk_file import Line
from alphalens_keyctl.keys.bulk_issuance import Handout
from alphalens_keyctl.keys.changes import Change, RevocationChange, Targets, UpdateChange
from alphalens_keyctl.keys.issuance import Due, RotationPlan
from alphalens_keyctl.keys.lifecycle import Draft
from alphalens_keyctl.keys.policy import RULES
from alphalens_keyctl.keys.revocation import Revocation
from alphalens_keyctl.keys.rotation import Retirement
from alphalens_keyctl.keys.selection import Selection, Sort
from alphalens_keyctl.keys.update import Update
from alphalens_keyctl.logs import usage
from alphalens_keyctl.logs.audit import LogFilter
from alphalens_keyctl.logs.usage_rows import UsageFilter
from alphalens_keyctl.manager.block import Block
from alphalens_keyctl.manager.over_database import OverDatabase
from alphalens_keyctl.models import Key
from alphalens_keyctl.moments import parse_period, utc_now
from alphalens_keyctl.settings import Thresholds
from tests.support.callers import DAY, DEAD, OTHER, ROLES, TEAM, House, shown_to_nobody
from tests.support.databases import mostly_on_sqlite
from tests.support.key_rows import change, put
from tests.support.usage_rows import record, usage_row


@pytest.fixture
def house(database: Database) -> House:
    return House(database)


def forbidden(do: Callable[[], object]) -> KeyctlError:
    with pytest.raises(KeyctlError) as raised:
        do()
    assert raised.value.code is Code.FORBIDDEN, raised.value.message
    assert raised.value.hint, "it says which right is missing"
    return raised.value


def revoke(way: OverDatabase, key_id: str, how: Revocation = Revocation.REVOKE) -> object:
    return way.change(RevocationChange(how), Targets([key_id]))


def update(way: OverDatabase, key_id: str, new: Update) -> object:
    return way.change(UpdateChange(new), Targets([key_id]))


# What is done to a key, by the words of the table.
VERBS: Final[dict[str, Callable[[House, OverDatabase, Key], object]]] = {
    "find": lambda _house, way, key: way.find(key.id),
    "find by name": lambda _house, way, key: way.find(key.name),
    "find by start": lambda _house, way, key: way.find(key.id[:8]),
    "details": lambda _house, way, key: way.details(key.id),
    "verify": lambda _house, way, key: way.require_verifying(key, recorded=False),
    "record": lambda _house, way, key: way.require_verifying(key, recorded=True),
    "documents": lambda _house, way, key: list(way.documents_of([key])),
    "log ids": lambda _house, way, key: way.key_ids(key.name),
    "used": lambda _house, way, key: way.used_since([key.id], utc_now() - DAY),
    "standing": lambda _house, way, key: way.steps.standing(key.id),
    "try rotate": lambda _house, way, key: _raise_what_stops(way.to_rotate([key.id], None, plan())),
    "rotate": lambda house, way, key: house.rotate(way, key.id),
    "revoke": lambda _house, way, key: revoke(way, key.id),
    "revoke by name": lambda _house, way, key: revoke(way, key.name),
    "try revoke": lambda _house, way, key: way.preview(RevocationChange(Revocation.REVOKE), Targets([key.id])),
    "suspend": lambda _house, way, key: revoke(way, key.id, Revocation.SUSPEND),
    "purpose": lambda _house, way, key: update(way, key.id, Update(fields={"purpose": "mine"})),
    "name": lambda _house, way, key: update(way, key.id, Update(name=f"new-{key.name}")),
    "label": lambda _house, way, key: update(way, key.id, Update(labels={"seen": "yes"})),
    "narrow": lambda _house, way, key: update(way, key.id, Update(added={"allow_from": ("10.0.0.0/8",)})),
}
READS: Final = (
    "find",
    "find by name",
    "find by start",
    "details",
    "verify",
    "documents",
    "log ids",
    "used",
    "standing",
)
ITSELF: Final = {*READS, "try rotate", "rotate", "revoke", "revoke by name", "try revoke"}
TARGETS: Final = ("itself", "own", "other", "nobody's")
OWNERS: Final = {"own": TEAM, "other": OTHER, "nobody's": None}
# Role → what it may do to itself, to keys of its owner, to others' and to nobody's.
ALL: Final = frozenset(VERBS)
MAY: Final = {
    "admin": (ALL, ALL, ALL, ALL),
    "team": (ALL, ALL, frozenset(), frozenset()),
    "team of nobody": (frozenset(ITSELF), frozenset(), frozenset(), frozenset()),
    "audit": (frozenset(ITSELF), frozenset(READS), frozenset(READS), frozenset(READS)),
    "plain": (frozenset(ITSELF), frozenset(), frozenset(), frozenset()),
    "unrestricted": (frozenset(ITSELF), frozenset(), frozenset(), frozenset()),
    **dict.fromkeys(DEAD, (frozenset(), frozenset(), frozenset(), frozenset())),
}


def plan() -> RotationPlan:
    return RotationPlan(utc_now(), Retirement(DAY))


def _raise_what_stops(found: object) -> None:
    if (error := getattr(found, "stopped_by", None)) is not None:
        raise error


@pytest.mark.parametrize("role", mostly_on_sqlite(MAY, on_both=("team", "team of nobody", "audit", "revoked")))
def test_who_may_do_what_to_whose_key(house: House, role: str) -> None:
    """Promise 13, promise 6: what is refused changes nothing and leaves no event."""
    cells = 0
    for target, allowed in zip(TARGETS, MAY[role], strict=True):
        caller = key = None
        for verb, do in VERBS.items():
            if caller is None or key is None:  # the last one was changed
                caller = house.caller(role)
                key = caller if target == "itself" else house.key(OWNERS[target])
                before, way, events = house.now(key.id), house.as_caller(caller.id), house.events()
            if verb in allowed:
                do(house, way, key)
                caller = None if verb not in READS else caller
            else:
                forbidden(lambda: do(house, way, key))  # noqa: B023  # called at once
                assert (house.now(key.id), house.events()) == (before, events), (role, verb, target)
            cells += 1
    assert cells == 80


PERIOD: Final = parse_period("2025", now=utc_now())
# What concerns no one key.
GENERAL: Final[dict[str, Callable[[House, OverDatabase], object]]] = {
    "head": lambda _house, way: way.head(),
    "rooted head": lambda _house, way: way.rooted_head(),
    "prove": lambda _house, way: way.prove(1, None),
    "verify": lambda _house, way: way.verify_log(None),
    "report": lambda _house, way: way.report(PERIOD, RULES, Thresholds()),
    "report entries": lambda _house, way: reported(way),
    "policy": lambda _house, way: way.policy(),
    "set policy": lambda _house, way: way.set_policy({"name_pattern": "*"}, reason=None),
    "outside policy": lambda _house, way: way.outside_policy(),
    "prune": lambda _house, way: way.prune_usage(utc_now() - DAY, dry_run=False),
    "try prune": lambda _house, way: way.prune_usage(utc_now() - DAY, dry_run=True),
    "create own": lambda house, way: house.create(way, Draft(fresh(), TEAM, scopes=("prices:read",))),
    "create": lambda house, way: house.create(way, Draft(fresh(), scopes=("prices:read",))),
    "create other": lambda house, way: house.create(way, Draft(fresh(), OTHER, scopes=("prices:read",))),
    "create more": lambda house, way: house.create(way, Draft(fresh(), TEAM, scopes=("billing:write",))),
    "create admin": lambda house, way: house.create(way, Draft(fresh(), TEAM, scopes=("keyctl:admin",))),
    "create unheld": lambda house, way: house.create(way, Draft(fresh(), TEAM, override="no policy for me")),
    "take in": lambda _house, way: way.create_each([Line(1, Draft(fresh(), TEAM))], Handout(show=lambda _made: [])),
    "try take in": lambda _house, way: way.try_create_each([Line(1, Draft(fresh(), TEAM))]),
    "list": lambda _house, way: listed(way),
    "count": lambda _house, way: way.count(Selection()),
    "events": lambda _house, way: logged(way),
    "count events": lambda _house, way: way.count_events(LogFilter()),
    "uses": lambda _house, way: used(way),
    "check": lambda _house, way: checked(way),
}
OF_EVERYBODY: Final = frozenset({"list", "count", "events", "count events", "uses", "check"})
GENERALLY: Final = {
    "admin": frozenset(GENERAL),
    "team": OF_EVERYBODY | {"policy", "create own", "create", "take in", "try take in"},
    "team of nobody": OF_EVERYBODY,
    "audit": OF_EVERYBODY
    | {"head", "rooted head", "prove", "verify", "report", "report entries", "policy", "outside policy"},
    "plain": OF_EVERYBODY,
    "unrestricted": OF_EVERYBODY,
    **dict.fromkeys(DEAD, frozenset[str]()),
}


def fresh() -> str:
    return f"new-{generate().id}"


def listed(way: OverDatabase, wanted: Selection = Selection(final=True)) -> set[str]:  # noqa: B008  # a tuple
    with way.keys(wanted, sort=Sort.NAME, limit=None) as keys:
        return {key.id for key in keys}


def logged(way: OverDatabase, wanted: LogFilter = LogFilter()) -> set[str | None]:  # noqa: B008  # a tuple
    with way.events(wanted, limit=None) as events:
        return {event.key_id for event in events}


def used(way: OverDatabase, wanted: UsageFilter = UsageFilter()) -> set[str | None]:  # noqa: B008  # a tuple
    with way.uses(wanted, limit=None) as uses:
        return {use.key_id for use in uses}


def reported(way: OverDatabase) -> int:
    with way.report_entries(PERIOD) as entries:
        return len(list(entries))


def checked(way: OverDatabase) -> set[str]:
    with way.findings(RULES, Thresholds()) as findings:
        return {finding.key_id for finding in findings}


@pytest.mark.parametrize("role", mostly_on_sqlite(GENERALLY, on_both=("team", "audit", "expired")))
def test_who_may_do_what_that_is_about_no_one_key(house: House, role: str) -> None:
    house.create(house.root, Draft(fresh(), OTHER))  # an event to be proven
    caller = house.caller(role)
    way = house.as_caller(caller.id)
    for verb, do in GENERAL.items():
        events = house.events()
        if verb in GENERALLY[role]:
            do(house, way)
        else:
            forbidden(lambda: do(house, way))  # noqa: B023  # called at once
            assert house.events() == events, (role, verb)
    assert len(GENERAL) == 25


@pytest.mark.parametrize("role", mostly_on_sqlite(ROLES, on_both=("team", "audit", "plain")))
def test_lists_and_logs_hold_what_the_caller_may_see_and_nothing_else(house: House, role: str) -> None:
    caller = house.caller(role)
    way = house.as_caller(caller.id)
    keys = {owner: house.key(owner).id for owner in (TEAM, OTHER, None)}
    for key_id in (*keys.values(), caller.id):
        update(house.root, key_id, Update(fields={"purpose": "x"}))
    record(house.database, [usage_row(utc_now(), key_id) for key_id in (*keys.values(), caller.id)])
    record(house.database, [usage_row(utc_now(), None, "unknown")])
    everything = {*keys.values(), caller.id}
    visible = {
        "admin": everything, "audit": everything, "team": {keys[TEAM], caller.id},
    }.get(role, {caller.id})  # fmt: skip
    whole = role in ("admin", "audit")
    assert listed(way) == visible
    assert way.count(Selection()) == len(visible)
    assert listed(way, Selection(owner=OTHER)) == visible & {keys[OTHER]}
    assert logged(way) == visible
    assert way.count_events(LogFilter()) == len(visible)
    assert logged(way, LogFilter(key_ids=(keys[OTHER],))) == visible & {keys[OTHER]}
    assert used(way) == (visible | {None} if whole else visible)
    assert used(way, UsageFilter(key_ids=(keys[OTHER],))) == visible & {keys[OTHER]}
    span = usage.divide(utc_now() - DAY, utc_now() + DAY)
    assert way.usage_summary(UsageFilter(), span, most_keys=9).uses == len(visible)
    assert checked(way) == visible
    with way.documents(Selection(), sort=Sort.NAME, limit=None) as documents:
        assert {document.id for document in documents} == visible


# --- what a team's member tries ------------------------------------------------------------------------------------


def test_a_member_makes_keys_of_the_own_team_with_the_own_scopes(house: House) -> None:
    member = house.caller("team")
    made = house.create(house.as_caller(member.id), Draft("billing")).key
    assert (made.owner, made.scopes) == (TEAM, ("prices:read", "reports:*"))
    narrow = house.create(house.as_caller(member.id), Draft("narrow", scopes=("reports:daily",))).key
    assert narrow.scopes == ("reports:daily",)
    other = house.create(house.as_caller(member.id), Draft("deputy", scopes=("keyctl:team",))).key
    assert other.scopes == ("keyctl:team",), "who holds the team may share it"
    bare = house.key(TEAM, ("keyctl:team",))
    forbidden(lambda: house.create(house.as_caller(bare.id), Draft("nothing to pass on")))


def test_a_member_takes_in_a_file_of_the_own_team_and_no_line_of_another(house: House) -> None:
    way, other = house.as_caller(house.caller("team").id), house.key(OTHER, name="secret-plan")
    shown = Handout(show=lambda _made: [])
    (made,) = way.create_each([Line(1, Draft("billing"))], shown)
    now = house.now(made.key.id)
    assert (now.owner, now.scopes, now.status) == (TEAM, ("prices:read", "reports:*"), "active")
    mine, events = Line(1, Draft(fresh())), house.events()
    for draft in (Draft(fresh(), OTHER), Draft(fresh(), scopes=("keyctl:admin",)), Draft(fresh(), override="mine")):
        lines = [mine, Line(2, draft)]
        for do in (lambda: way.create_each(lines, shown), lambda: way.try_create_each(lines)):  # noqa: B023
            assert forbidden(do).message.startswith("line 2: ")
    for name in (other.name, other.id[:7]):
        with pytest.raises(KeyctlError) as raised:
            way.create_each([mine, Line(2, Draft(name))], shown)
        assert raised.value.code is Code.NAME_TAKEN
        assert other.id not in f"{raised.value.message} {raised.value.hint}"
    assert house.events() == events, "all or none"


def test_a_member_takes_in_no_name_of_which_a_dead_delivery_left_another_owners_key(house: House) -> None:
    """Promises 2 and 13: the new key would end the one that was left."""
    with house.root.steps.begin_create(Draft("left", OTHER), if_missing=False) as begun:
        house.root.steps.begin_delivering(begun, ["vault"], limit=0.0)
    way = house.as_caller(house.caller("team").id)
    for lines in ([Line(1, Draft("left"))], [Line(1, Draft(fresh())), Line(2, Draft("left"))]):
        forbidden(lambda: way.create_each(lines, Handout(show=lambda _made: [])))  # noqa: B023  # called at once
    assert house.now(begun.key.id).status == "delivering"


@pytest.mark.parametrize("how", ["revoked", "narrowed"])
def test_a_member_who_loses_the_right_while_commands_run_activates_nothing(house: House, how: str) -> None:
    member = house.caller("team")
    way = house.as_caller(member.id)

    def command(_key: Key, _raw: RawKey) -> None:
        if how == "revoked":
            revoke(house.root, member.id)
        else:
            update(house.root, member.id, Update(removed={"scopes": ("keyctl:team",)}))

    names = [fresh(), fresh()]
    lines = [Line(number, Draft(name)) for number, name in enumerate(names, 1)]
    forbidden(lambda: way.create_each(lines, Handout(pipe=command, destinations=("vault",), limit=1.0)))
    assert [house.now(name).status for name in names] == ["revoked", "revoked"]


GREEDY: Final = (
    Update(added={"scopes": ("billing:write",)}),
    Update(added={"scopes": ("prices:*",)}),
    Update(added={"scopes": ("keyctl:admin",)}),
    Update(added={"scopes": ("keyctl:audit",)}),
    Update(fields={"scopes": None}),
    Update(fields={"owner": OTHER}),
    Update(fields={"owner": None}),
    Update(fields={"purpose": "x"}, override="the policy is for others"),
)


@pytest.mark.parametrize("new", mostly_on_sqlite(GREEDY, on_both=GREEDY[:2]), ids=str)
def test_no_member_widens_a_key_or_gives_it_away_the_own_key_neither(house: House, new: Update) -> None:
    member = house.caller("team")
    way = house.as_caller(member.id)
    for key in (member, house.key(), house.key(scopes=None)):
        forbidden(lambda: update(way, key.id, new))  # noqa: B023  # called at once
        forbidden(lambda: way.change(UpdateChange(new), Targets(wanted=Selection(), most=9)))
        assert house.now(key.id) == key


def test_no_member_gets_the_raw_key_of_more_than_the_own_key_may_do(house: House) -> None:
    """Whoever rotates a key holds the raw key of its scopes."""
    way = house.as_caller(house.caller("team").id)
    for scopes in (None, ("billing:write",), ("prices:*",), ("prices:read", "keyctl:admin")):
        forbidden(lambda: house.rotate(way, house.key(scopes=scopes).id))  # noqa: B023  # called at once


def test_no_member_stops_an_administrator_of_the_same_owner(house: House) -> None:
    way, admin = house.as_caller(house.caller("team").id), house.caller("admin")
    for verb in ("rotate", "revoke", "revoke by name", "suspend", "purpose", "name"):
        forbidden(lambda: VERBS[verb](house, way, admin))  # noqa: B023  # called at once
    forbidden(lambda: way.change(RevocationChange(Revocation.REVOKE), Targets(wanted=Selection(), most=9)))
    assert house.now(admin.id).status == "active"


def test_filters_reach_nobody_elses_keys(house: House) -> None:
    way = house.as_caller(house.caller("team").id)
    mine, others = house.key(name="our-1"), [house.key(OTHER, name="our-2"), house.key(None, name="our-3")]
    for wanted in (Selection(name_glob="our-*"), Selection(owner=OTHER), Selection(containing=("our",))):
        for how in (Revocation.SUSPEND, Revocation.RESUME):
            outcome = way.change(RevocationChange(how), Targets(wanted=wanted, most=9))
            assert {*outcome.changed, *outcome.unchanged} <= {mine.id}
        assert {key.id for key in way.to_rotate([], wanted, plan()).keys} <= {mine.id}
    assert [house.now(key.id) for key in others] == others
    # All of the team's keys are all that there are for the team's member.
    with pytest.raises(KeyctlError) as raised:
        way.change(RevocationChange(Revocation.SUSPEND), Targets(wanted=Selection()))
    assert raised.value.code is Code.TOO_MANY


def test_a_name_that_somebody_else_has_says_nothing_of_its_key(house: House) -> None:
    way, other, mine = house.as_caller(house.caller("team").id), house.key(OTHER, name="secret-plan"), house.key()
    taken: list[Callable[[], object]] = [
        lambda: house.create(way, Draft("secret-plan")),
        lambda: house.create(way, Draft(other.id[:7])),
        lambda: update(way, mine.id, Update(name="SECRET-plan")),
    ]
    for do in taken:
        with pytest.raises(KeyctlError) as raised:
            do()
        assert raised.value.code is Code.NAME_TAKEN
        assert other.id not in f"{raised.value.message} {raised.value.hint}"
    for reference in ("secret-plan", other.id, other.id[:6]):
        assert other.id not in forbidden(lambda: way.find(reference)).message.replace(reference, "")  # noqa: B023
    shown = issuance.create(way.steps, Draft(mine.name), Block(), shown_to_nobody, if_missing=True)
    assert shown.key.id == mine.id
    with pytest.raises(KeyctlError):
        issuance.create(way.steps, Draft("secret-plan"), Block(), shown_to_nobody, if_missing=True)


def test_a_lineage_that_changed_hands_shows_each_owner_its_part(house: House) -> None:
    """Through `replaces` and `replaced_by` nobody comes to another's key."""
    old = house.key(OTHER, name="moved")
    new = house.rotate(house.root, old.id).key
    update(house.root, new.id, Update(fields={"owner": TEAM}))
    way = house.as_caller(house.caller("team").id)
    assert [key.id for key in way.details("moved").lineage] == [new.id]
    forbidden(lambda: revoke(way, "moved"))  # its name means the other's key too
    forbidden(lambda: way.find(old.id))
    forbidden(lambda: way.abort("moved"))
    assert {house.now(old.id).status, house.now(new.id).status} == {"retiring", "active"}
    outcome = way.change(RevocationChange(Revocation.REVOKE), Targets([new.id]))
    assert list(outcome.still_open() or ()) == [], "of another's key nobody hears"


def test_two_members_at_once_keep_to_their_own(house: House) -> None:
    ways = [house.as_caller(house.key(owner, ROLES["team"].scopes).id) for owner in (TEAM, OTHER)]
    keys = [[house.key(owner).id for _ in range(4)] for owner in (TEAM, OTHER)]
    refused: list[KeyctlError] = []

    def work(mine: int) -> None:
        for own, other in zip(keys[mine], keys[1 - mine], strict=True):
            try:
                revoke(ways[mine], other)
            except KeyctlError as error:
                refused.append(error)
            house.rotate(ways[mine], own)

    workers = [threading.Thread(target=work, args=(mine,)) for mine in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [error.code for error in refused] == [Code.FORBIDDEN] * 8
    assert {house.now(key_id).status for each in keys for key_id in each} == {"retiring"}


# --- races: what a caller was let in for is over -------------------------------------------------------------------


@pytest.mark.parametrize("how", ["revoked", "narrowed", "moved"])
def test_what_a_caller_loses_while_a_change_waits_for_the_writer_is_lost(house: House, how: str) -> None:
    """Promises 5 and 13: the rights are read in the transaction that changes."""
    member, key = house.caller("team"), house.key()
    way, raised = house.as_caller(member.id), []

    def late() -> None:
        try:
            revoke(way, key.id)
        except KeyctlError as error:
            raised.append(error)

    losses: dict[str, Change] = {
        "revoked": RevocationChange(Revocation.REVOKE),
        "narrowed": UpdateChange(Update(removed={"scopes": ("keyctl:team",)})),
        "moved": UpdateChange(Update(fields={"owner": OTHER})),
    }
    waiting = threading.Thread(target=late)
    with house.database.writing() as tx:
        waiting.start()
        chosen = losses[how].divided(tx, [member.id], utc_now(), named=True).changed
        losses[how].apply(tx, house.database.attempts, chosen, house.root._access.act.now(), lambda _done: None)
    waiting.join()
    assert [error.code for error in raised] == [Code.FORBIDDEN]
    assert house.now(key.id).status == "active"


def test_a_key_that_changes_hands_while_its_revocation_waits_is_not_reached(house: House) -> None:
    key = house.key()
    way, raised = house.as_caller(house.caller("team").id), []

    def late() -> None:
        try:
            revoke(way, key.id)
        except KeyctlError as error:
            raised.append(error)

    waiting = threading.Thread(target=late)
    with house.database.writing() as tx:
        waiting.start()
        given = UpdateChange(Update(fields={"owner": OTHER}))
        given.apply(tx, house.database.attempts, [key.id], house.root._access.act.now(), lambda _done: None)
    waiting.join()
    assert [error.code for error in raised] == [Code.FORBIDDEN]
    assert house.now(key.id).status == "active"


# --- a key for itself ----------------------------------------------------------------------------------------------


def test_a_key_that_was_rotated_out_does_not_reach_its_successor(house: House) -> None:
    """A key is rotated because it leaked: whoever has it must get neither the new raw key nor the new key revoked."""
    old = house.caller("plain")
    way = house.as_caller(old.id)
    new = house.rotate(way, old.id).key
    assert way.find(new.id).id == new.id, "an answer that was lost can be looked up"
    for verb in ("rotate", "revoke", "try revoke", "suspend", "purpose"):
        forbidden(lambda: VERBS[verb](house, way, new))  # noqa: B023  # called at once
    later = house.rotate(house.as_caller(new.id), new.id).key
    forbidden(lambda: way.find(later.id))
    revoke(way, old.id)
    assert [house.now(each).status for each in (old.id, new.id, later.id)] == ["revoked", "retiring", "active"]


def test_a_key_rotates_itself_again_where_the_first_delivery_died(house: House) -> None:
    """Promise 2: the successor of a dead attempt is followed by the next one, which is the caller's own as well."""
    old = house.caller("plain")
    way = house.as_caller(old.id)
    with way.steps.begin_rotation(old.id, plan()) as begun:
        way.steps.begin_delivering(begun, ["key-file"], limit=1.0)
    done = house.rotate(way, old.id)
    assert done.previous is not None
    assert [house.now(each).status for each in (old.id, begun.key.id, done.key.id)] == [
        "retiring",
        "retiring",
        "active",
    ]


def test_a_key_gives_itself_no_longer_life(house: House) -> None:
    key = house.caller("plain")
    change(house.database, key.id, expires_at=key.created_at + 30 * DAY, activated_at=key.created_at)
    way = house.as_caller(key.id)
    for expires_at in (None, utc_now() + 31 * DAY):
        greedy = plan()._replace(same_lifetime=False, expires_at=expires_at)
        forbidden(lambda: issuance.rotate(way.steps, key.id, greedy, Block(), shown_to_nobody))  # noqa: B023
    forbidden(lambda: issuance.rotate(way.steps, key.id, plan()._replace(override="no"), Block(), shown_to_nobody))
    new = issuance.rotate(way.steps, key.id, plan(), Block(), shown_to_nobody).key
    assert new.expires_at is not None
    assert abs(new.expires_at - new.created_at - 30 * DAY) < timedelta(minutes=1)


def test_a_key_that_is_not_due_is_left_alone_and_the_next_step_asks_for_rights_again(house: House) -> None:
    key = house.caller("plain")
    way = house.as_caller(key.id)
    lazy = plan()._replace(due=Due(older_than=DAY))
    assert issuance.rotate(way.steps, key.id, lazy, Block(), shown_to_nobody).raw is None
    with way.steps.begin_rotation(key.id, plan()) as begun:
        revoke(house.root, key.id)
        for step in (
            lambda: way.steps.begin_delivering(begun, ["vault"], limit=1.0),
            lambda: way.steps.hand_over_name(begun, at=utc_now(), retirement=Retirement(DAY), delivered_to=[]),
            lambda: way.steps.discard(begun.key.id, reason="mine"),
        ):
            forbidden(step)
    assert house.now(begun.key.id).status == "pending"


def test_whoever_sees_every_key_finds_what_whoever_opens_the_database_finds(house: House) -> None:
    """Their own key, read beside, is not taken for one that was asked for: not the old key of a rotated name either."""
    admin = house.key(TEAM, ("keyctl:admin",), name="admin")
    current = house.rotate(house.root, admin.id).key
    alone = house.key(OTHER, None, name="alone")
    house.key(OTHER, None, name=alone.id[:6])
    lease = utc_now() + DAY
    put(house.database, "alone", replaces=alone.id, activated_at=None, delivering_to="vault", lease_until=lease)
    for caller in (admin.id, current.id):
        way = house.as_caller(caller)
        for reference in (
            "admin",
            "ADMIN",
            admin.id,
            current.id[:8],
            "alone",
            alone.id,
            alone.id[:6],
            "nobody",
            "x" * 12,
        ):
            assert found(way, reference) == found(house.root, reference), (caller, reference)
    assert house.as_caller(admin.id).find("admin").id == current.id
    assert len(house.as_caller(admin.id).details(alone.id).lineage) == 2


def found(way: OverDatabase, reference: str) -> list[str]:
    """The ids of the key that KEY means and of its lineage, or why it means none."""
    try:
        return [key.id for key in (way.find(reference), *way.details(reference).lineage)]
    except KeyctlError as error:
        return [error.message]
