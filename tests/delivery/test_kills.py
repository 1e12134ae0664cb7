"""Promises 2 and 3 when `rotate` with two destinations is killed at a random instant; a thousand of these are run
by `python -m tests.support.kills --number 1000`."""

import random
from pathlib import Path

from tests.support.commands import Keyctl
from tests.support.deliveries import DeliveryJudge
from tests.support.kills import WHEN, kill

# A command on PostgreSQL costs twice as much.
KILLS = {"sqlite": 8, "postgresql": 4}


def test_a_rotation_killed_at_any_instant_harms_no_destination_and_can_be_run_again(
    keyctl: Keyctl, tmp_path: Path
) -> None:
    assert keyctl.database_url is not None
    judge = DeliveryJudge(keyctl.database_url)
    number = KILLS[judge.kind]
    came = kill(keyctl, judge, tmp_path, number, random.Random(number), timed=2)
    judge.close()
    assert came["violations"] == 0, came
    assert sum(came[when] for when in WHEN.values()) == number, came
