"""Which keys a rotation of several is for, and what would stop it."""

from collections.abc import Sequence

from alphalens_keyctl.errors import KeyctlError
from alphalens_keyctl.keys import changes, issuance, lookup, selection
from alphalens_keyctl.keys.issuance import RotationPlan
from alphalens_keyctl.keys.lookup import Reference
from alphalens_keyctl.keys.selection import Selection, Sort
from alphalens_keyctl.manager.access import Reading
from alphalens_keyctl.manager.backend import Rotatable
from alphalens_keyctl.manager.rights import Deed
from alphalens_keyctl.models import Key, Status


def found(reading: Reading, references: Sequence[Reference], wanted: Selection | None, plan: RotationPlan) -> Rotatable:
    """The keys that are named, or that the filters select, or of the named keys those that fit, as
    `Backend.to_rotate` says."""
    keys = _meant(reading, references, wanted)
    connection, rights, act = reading
    due = [key for key in keys if plan.due.applies(key, act.at)]
    ids = {key.id for key in due}
    stopped_by = None
    try:
        rights.require(Deed.ROTATE, due)
        rights.require_keeping_policy(plan.override)
        issuance.refuse_forbidden(connection, due, plan, now=act.at)
    except KeyctlError as error:
        stopped_by = error
    return Rotatable(keys, due, [key for key in keys if key.id not in ids], stopped_by)


def _meant(reading: Reading, references: Sequence[Reference], wanted: Selection | None) -> list[Key]:
    connection, rights, act = reading
    named = [lookup.find(connection, each, now=act.at, within=rights.sight) for each in references]
    if wanted is None:
        if not references:
            raise changes.which_keys("rotate")
        return list({key.id: key for key in named}.values())
    if not (wanted.statuses or wanted.expired):
        wanted = wanted._replace(statuses=(Status.ACTIVE,))
    within = wanted._replace(within=rights.sight)
    fitting = selection.read(connection, within, sort=Sort.NAME, limit=None, now=act.at)
    if not references:
        return fitting
    ids = {key.id for key in named}
    left = [key for key in fitting if key.id in ids]
    changes.refuse_left_out([[key] for key in named], {key.id for key in left}, wanted, settable=True)
    return left
