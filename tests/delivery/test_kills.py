"""Promises 2 and 3 when `rotate` with two destinations is killed at a random instant; a thousand of these are run
by `python -m tests.support.kills --number 1000`."""

import random
from pathlib import Path

import pytest

from tests.support.commands import Keyctl
from tests.support.deliveries import DeliveryJudge
from tests.support.kills import WHEN, kill


@pytest.mark.parametrize("seed", range(2))
def test_a_rotation_killed_at_any_instant_harms_no_destination_and_can_be_run_again(
    keyctl: Keyctl, tmp_path: Path, seed: int
) -> None:
    assert keyctl.database_url is not None
    judge = DeliveryJudge(keyctl.database_url)
    came = kill(keyctl, judge, tmp_path, 4, random.Random(seed))
    judge.close()
    assert came["violations"] == 0, came
    assert sum(came[when] for when in WHEN.values()) == 4, came
