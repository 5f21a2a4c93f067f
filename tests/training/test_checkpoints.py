"""Which policies a run keeps: all of a short one, evenly spaced ones of a long one; and what the clock asks for."""

import time
from itertools import pairwise
from pathlib import Path

import pytest

from marlstone.config import RunConfig, load
from marlstone.core.errors import UserError
from marlstone.runs.checkpoint import step_of
from marlstone.runs.directory import RunDirectory
from marlstone.training.checkpoints import POLICIES, Checkpoints, thinned
from marlstone.training.clock import Clock

EVERY = 640


def path(step: int) -> Path:
    return Path(f"step-{step:012d}")


def lived(count: int, stops: tuple[int, ...] = (), total: int | None = None) -> list[int]:
    """Steps of the policies left after `count` checkpoints of the schedule, and of those that stops made in between."""
    total, left = EVERY * count if total is None else total, list[Path]()
    for step in sorted((*range(EVERY, EVERY * count + 1, EVERY), *stops)):
        left.append(path(step))
        gone = thinned(left, EVERY, total)
        left = [p for p in left if p not in gone]
    return [step_of(p) for p in left]


def test_a_short_run_keeps_all() -> None:
    assert lived(POLICIES) == [EVERY * k for k in range(1, POLICIES + 1)]


@pytest.mark.parametrize("count", [33, 40, 100, 1000])
def test_a_long_run_keeps_evenly_spaced_ones_the_quarters_and_the_newest(count: int) -> None:
    left = lived(count)
    quarters = [EVERY * -(-count * k // 4) for k in (1, 2, 3)]
    assert set(quarters) <= set(left) and left[-1] == EVERY * count
    regular = [step for step in left[:-1] if step not in quarters]
    span = min(b - a for a, b in pairwise(regular))
    assert all(step % span == 0 for step in regular) and POLICIES / 2 - 4 <= len(regular) <= POLICIES
    missing = set(range(span, EVERY * count + 1, span)) - set(left)
    assert not missing


def test_what_is_kept_hangs_on_the_steps_done_alone() -> None:
    """A run that was stopped four times in between keeps what one that was not keeps, once it is long enough to be thinned."""
    assert lived(100, stops=(100, 700, 20_001, 63_999)) == lived(100)


def checkpoints(minutes: float | None) -> Checkpoints:
    return Checkpoints(RunDirectory(Path("/nowhere")), Clock(), every=4, total=10, per_update=8, minutes=minutes)


def test_the_schedule_depends_on_updates_and_lateness_on_time() -> None:
    assert [k for k in range(1, 11) if checkpoints(None).due(k)] == [4, 8, 10]
    slow = checkpoints(2.0)
    assert not slow.late()
    slow.at = time.monotonic() - 121
    assert slow.late()
    never = checkpoints(None)
    never.at = 0.0
    assert not never.late()


def test_minutes_are_a_setting() -> None:
    assert RunConfig(env="any").checkpoint_minutes == 10
    assert load(None, {"env": "any", "checkpoint_minutes": "none"}).checkpoint_minutes is None
    with pytest.raises(UserError, match=r"checkpoint_minutes is 0\.0: give a positive number of minutes, or none"):
        load(None, {"env": "any", "checkpoint_minutes": "0"})
