"""What `rotate --self` does: the key that a destination holds gives itself a successor over a server, and the
destination gets that successor. It needs nothing but the key."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from alphalens_keyctl.cli import deliver_key, server
from alphalens_keyctl.cli import run as runs
from alphalens_keyctl.cli.options.destinations import Destinations
from alphalens_keyctl.cli.rotate import DEADLINE, Asked
from alphalens_keyctl.cli.run import Run
from alphalens_keyctl.delivery import keyring
from alphalens_keyctl.errors import Code, KeyctlError
from alphalens_keyctl.keyformat import RawKey
from alphalens_keyctl.keys import issuance
from alphalens_keyctl.keys.issuance import Begun, Due, Rotated, RotationPlan
from alphalens_keyctl.keys.rotation import Retirement
from alphalens_keyctl.manager.over_http import OverHttp
from alphalens_keyctl.moments import parse_span, utc_now
from alphalens_keyctl.output import documents
from alphalens_keyctl.output.sentences import retirement
from alphalens_keyctl.values import Key

_NOTHING: Final = timedelta(0)


def rotate_self(run: Run, asked: Asked) -> None:
    """Rotate the key that the first of the destinations holds, or else the key that the settings name. The raw key is
    not printed. Raises `KeyctlError`."""
    _refuse(run, asked)
    destinations = deliver_key.handover(run, asked.destinations)
    current = _current(run, asked)
    retiring = Retirement(
        _NOTHING if asked.grace is None else asked.grace, asked.deadline or parse_span(DEADLINE, what="deadline")
    )
    plan = RotationPlan(
        run.asked_at,
        retiring,
        asked.expires_at,
        asked.same_lifetime,
        Due(asked.if_older_than, asked.if_expiring_within),
        asked.override,
    )
    with server.manager(run.settings, current) as manager:
        key = manager.caller()
        if key.is_unfinished:
            # A run that was killed has delivered the key, and the destination works. What is missing is the handover.
            done = _finished(manager, key, retiring, destinations.names)
        else:
            done = issuance.rotate(manager.steps, key.id, plan, destinations, lambda _rotated, _raw: ())
    _tell(run, done, asked, destinations.names, finished=key.is_unfinished)


def _refuse(run: Run, asked: Asked) -> None:
    """Raise `KeyctlError` (usage) for options that do not go together."""
    given = asked.destinations
    run.require_server("rotate --self")
    if asked.filters.given or len(asked.references) > (1 if given.keyring else 0):
        raise KeyctlError(
            Code.USAGE, "--self takes no KEY: the key is the one that is rotated", "With --keyring it takes its name."
        )
    if given.keyring and not (len(asked.references) == 1 and isinstance(asked.references[0], str)):
        raise KeyctlError(
            Code.USAGE,
            "--self --keyring needs the key's name, under which the keyring has it",
            "For example: rotate ci --self --keyring",
        )
    if asked.check is not None:
        # The trial would use the new key, and so end the old one, which is to take a failed rotation back.
        raise KeyctlError(Code.USAGE, "--check does not go with --self", "Try the new key out in the next step.")
    if asked.dry_run or asked.jsonl:
        raise KeyctlError(Code.USAGE, "--self goes with neither --dry-run nor --jsonl", "It has --json.")
    if not (given.key_file or given.env_file or given.keyring or given.pipe_to):
        raise KeyctlError(
            Code.USAGE,
            "--self needs a destination for the new key",
            "Add --key-file, --env-file, --keyring or --pipe-to.",
        )


def _current(run: Run, asked: Asked) -> RawKey:
    """The key to rotate: where a destination can be read, the one that is there."""
    given: Destinations = asked.destinations
    for file in deliver_key.files(given):
        return _known(file.current(), file.name)
    if given.keyring:
        name = str(asked.references[0])
        return _known(keyring.held(name), f"the keyring, under '{name}',")
    return server.own_key(run.settings, server.address(run.settings))


def _known(held: RawKey | None, where: str) -> RawKey:
    if held is None:
        raise KeyctlError(Code.INPUT_FAILED, f"{where} holds no key to rotate", "Put the first one there by 'create'.")
    return held


def _finished(manager: OverHttp, key: Key, retiring: Retirement, names: Sequence[str]) -> Rotated:
    manager.steps.hand_over_name(Begun(key, None), at=utc_now(), retirement=retiring, delivered_to=names)
    found = manager.details(key.id)
    previous = next((each for each in found.lineage if each.id == key.replaces), None)
    return Rotated(found.key, previous, None, tuple(names), retiring.grace_after_use)


def _tell(run: Run, done: Rotated, asked: Asked, names: Sequence[str], *, finished: bool) -> None:
    if asked.json:
        rotated = done.raw is not None or finished
        runs.report(documents.json_document(documents.rotated_object(done, shown=None) | {"rotated": rotated}))
        return
    if finished:
        run.note(f"Finished a rotation that was cut off: key '{done.key.name}' is {done.key.id} now.")
    elif done.raw is None:
        run.note(f"Nothing to do: key '{done.key.name}' ({done.key.id}) needs no rotation yet.")
        return
    else:
        run.note(f"Rotated key '{done.key.name}'; the new id is {done.key.id}.")
        run.note_delivery(names)
    if done.previous is not None:
        run.note(retirement(done.previous, run.act.at, grace_after_use=done.grace_after_use))
