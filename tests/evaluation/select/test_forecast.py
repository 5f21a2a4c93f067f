"""How long a selection takes is told before it begins, and falls as it should: with cores, with what is over, with less asked."""

import re

import pytest

from marlstone.core.records import replace
from marlstone.evaluation.check_env import random_play_speed
from marlstone.evaluation.select.forecast import Speed, expected, seconds, stages, words
from marlstone.evaluation.select.question import DEFAULTS, Budget, Question

ASKED = Question("slow.py:make_env", Budget(steps=1_000_000), DEFAULTS)
STEPS, TRIES = dict.fromkeys((c.name for c in DEFAULTS), 1_000_000), {c.name: len(c.tries) for c in DEFAULTS}
SLOW = dict.fromkeys(STEPS, Speed(300.0, True))


def hours(line: str) -> float:
    amount, unit = re.search(r"about ([\d.]+) (days|h|min|s)", line).groups()  # type: ignore[union-attr]
    return float(amount) * {"days": 24, "h": 1, "min": 1 / 60, "s": 1 / 3600}[unit]


def test_every_step_is_counted() -> None:
    """Seven candidates of five seeds, 1e6 steps each, at 600 steps/s on two cores: 16 hours for training alone."""
    parts = {p.name: p for p in stages(ASKED, STEPS, TRIES, 100)}
    assert sum(parts["training"].steps.values()) == 35e6 and sum(parts["tuning"].steps.values()) == 7 * 0.1e6 * 2 * 2
    assert sum(parts["fresh seeds and a soak"].steps.values()) == pytest.approx(5e6 + 3 * 2e6)
    assert seconds(list(parts.values()), dict.fromkeys(STEPS, 300.0), 2)["training"] / 3600 == pytest.approx(16.2, abs=0.1)
    without = stages(replace(ASKED, tuning=0.0, soak=0, confirm=False), STEPS, TRIES, 100)
    assert set(seconds(without, dict.fromkeys(STEPS, 300.0), 2)) == {"training", "stress"}


def test_the_line_says_the_time_its_parts_and_what_is_shorter() -> None:
    line, shorter = expected(ASKED, STEPS, TRIES, SLOW, 100, 2)
    assert 20 < hours(line) < 30 and "training 16 h" in line and "as measured" in line and "on 2 cores" in line
    assert "--quick" in shorter and "--seeds 3" in shorter and hours(shorter) < 5 and "--fleet ray" in shorter
    (four,) = [hours(x) for x in expected(ASKED, STEPS, TRIES, SLOW, 100, 4)[:1]]
    assert four == pytest.approx(hours(line) / 2, rel=0.1)
    (guessed, *_) = expected(ASKED, STEPS, TRIES, dict.fromkeys(STEPS, Speed.guessed(1e9)), 100, 2)
    assert hours(guessed) < 1 and "guessed" in guessed


def test_what_is_over_is_not_waited_for() -> None:
    whole, *_ = expected(ASKED, STEPS, TRIES, SLOW, 100, 2)
    (later,) = expected(ASKED, STEPS, TRIES, SLOW, 100, 2, ("tuning", "training"))
    assert "left" in later and "training" not in later.partition("(")[2].partition(")")[0] and hours(later) < hours(whole) / 2
    (resumed,) = expected(ASKED, STEPS, TRIES, SLOW, 100, 2, (), tuple(STEPS)[:6])
    assert "left" in resumed and hours(later) < hours(resumed) < hours(whole)
    small = dict.fromkeys(STEPS, 1000)
    assert len(expected(ASKED, small, TRIES, dict.fromkeys(STEPS, Speed(1e5)), 5, 16)) == 1  # a minute needs no advice


@pytest.mark.parametrize(
    ("amount", "said"), [(0.2, "1 s"), (59, "59 s"), (90, "1.5 min"), (3600, "1 h"), (58000, "16 h"), (4e5, "4.6 days")]
)
def test_two_figures_are_enough(amount: float, said: str) -> None:
    assert words(amount) == said


def test_a_simulator_is_timed_by_playing_in_it() -> None:
    assert random_play_speed("tests/envs/couriers.py:make", 0.05) > 10
