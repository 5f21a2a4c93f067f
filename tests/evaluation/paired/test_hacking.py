"""A planted exploit is caught, its clean twin is not, and false alarms stay below alpha at any number of checkpoints."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from marlstone.core.errors import UserError
from marlstone.evaluation.paired.hacking import hacked
from marlstone.stats.intervals import iqm

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
DRAWS: dict[str, Draw] = {
    "normal": lambda r, s: r.normal(size=s),
    "exponential": lambda r, s: r.exponential(size=s),
    "lognormal": lambda r, s: r.lognormal(size=s),
    "one_dead": lambda r, s: (r.uniform(size=s) < 0.8) + 0.05 * r.normal(size=s),
}


def rising(random: np.random.Generator, k: int, seeds: int, episodes: int) -> np.ndarray:
    """A proxy that is better at every checkpoint, beyond doubt: then the true metric alone decides."""
    return 10.0 * np.arange(k)[:, None, None] + random.normal(size=(k, seeds, episodes))


@pytest.mark.parametrize("k", [2, 10])
@pytest.mark.parametrize(("name", "alike"), [("normal", True), ("lognormal", False)])
def test_false_alarms_over_seeds(name: str, alike: bool, k: int) -> None:
    """Five seeds; the true metric varies and does not change. `alike`: all checkpoints do, else the first is constant."""
    random = np.random.default_rng(0)
    typical = float(iqm(DRAWS[name](random, (1_000_000,))))
    count = 0
    for _ in range(2000):
        true = DRAWS[name](random, (k, 5, 1)) - typical
        true[0] *= alike
        count += hacked(rising(random, k, 5, 2), true + 0.3 * random.normal(size=(k, 5, 2))).alarm
    print(f"{name}, {k} checkpoints, alike {alike}: {count / 2000:.1%} false alarms")
    assert count <= 0.05 * 2000


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("name", ["exponential", "one_dead"])
def test_false_alarms_over_episodes(name: str, bounded: bool) -> None:
    """One seed's ten checkpoints, 32 episodes each, none but the first like it in shape, all in their mean."""
    random = np.random.default_rng(1)
    draw = lambda size: np.minimum(DRAWS[name](random, size), 8.0)
    mean = float(draw((1_000_000,)).mean())
    bounds = ((-100.0, 100.0), (-8.0, 8.0)) if bounded else None
    count = 0
    for _ in range(2000):
        true = draw((10, 1, 32)) - mean
        true[0] = 0
        count += hacked(rising(random, 10, 1, 32), true, bounds=bounds).alarm
    print(f"{name}, bounds {bounded}: {count / 2000:.1%} false alarms")
    assert count <= 0.05 * 2000


def planted(seed: int, k: int, seeds: int, exploit: float, episodes: int = 32) -> Any:
    """Proxy and true metric; from the middle checkpoint on the exploit pays and costs."""
    random = np.random.default_rng(seed)
    found = np.linspace(0, 1, k)[:, None, None] >= 0.5
    proxy, true = 0.5 * random.normal(size=(2, k, 1, episodes)) + 0.3 * random.normal(size=(2, k, seeds, 1))
    return proxy + 3 * found, true - exploit * found


@pytest.mark.parametrize(("k", "seeds"), [(2, 5), (2, 10), (6, 5), (10, 10), (2, 1), (10, 3)])
def test_a_planted_exploit_is_caught_and_its_clean_twin_is_not(k: int, seeds: int) -> None:
    for seed in range(20):
        least = (0.0, 0.0) if seeds >= 5 else (1.0, 1.0)
        verdict = hacked(*planted(seed, k, seeds, 3.0), least=least)
        assert verdict.alarm and verdict.pair[0] < k / 2 <= verdict.pair[1] + 0.5
        assert verdict.proxy_change_ci95[0] > 0 > verdict.true_change_ci95[1]
        assert verdict.unit == ("seeds" if seeds >= 5 else "episodes")
        proxy, true = planted(seed, k, seeds, -3.0)
        assert not hacked(proxy, true, least=least).alarm


def test_changes_too_small_to_matter_are_no_alarm() -> None:
    """Few fixed policies are never quite alike, and enough episodes prove it."""
    random = np.random.default_rng(0)
    proxy, true = (random.normal(size=(2, 1, 2000)) + np.array([0.0, x])[:, None, None] for x in (0.2, -0.2))
    assert hacked(proxy, true).alarm
    assert not hacked(proxy, true, least=(0.5, 0.0)).alarm and not hacked(proxy, true, least=(0.0, 0.5)).alarm


def test_both_are_needed() -> None:
    proxy, true = planted(0, 2, 8, 3.0)
    assert hacked(proxy, true).alarm
    assert not hacked(0 * proxy, true).alarm and not hacked(-proxy, true).alarm and not hacked(proxy, 0 * true).alarm


def test_order_and_direction_count() -> None:
    proxy, true = planted(0, 4, 8, 3.0)
    assert not hacked(proxy[::-1], true[::-1]).alarm
    down, up = hacked(proxy, -true, "down"), hacked(proxy, true)
    assert down.alarm and down.pair == up.pair and not hacked(proxy, -true).alarm
    assert down.true_change_ci95 == pytest.approx((-up.true_change_ci95[1], -up.true_change_ci95[0]), abs=0.2)
    assert down.true_change_ci95[0] > 0


def test_units_of_measure_and_order_of_seeds_do_not() -> None:
    proxy, true = planted(3, 3, 7, 1.0)
    before, after = hacked(proxy, true), hacked(40 * proxy[:, ::-1] + 5, 0.1 * true[:, ::-1] - 1)
    assert (before.alarm, before.pair, before.unit) == (after.alarm, after.pair, after.unit)
    assert after.true_change == pytest.approx(0.1 * before.true_change)
    assert 40 * np.array(before.proxy_change_ci95) == pytest.approx(np.array(after.proxy_change_ci95), rel=0.1)


def test_more_checkpoints_ask_for_more_evidence() -> None:
    """The same pair among ten like its first: wider intervals, over as many pairs as there are."""
    proxy, true = planted(0, 2, 6, 1.0)
    width = lambda verdict: verdict.true_change_ci95[1] - verdict.true_change_ci95[0]
    alone = hacked(proxy, true)
    among = hacked(np.concatenate([proxy[:1].repeat(9, 0), proxy[1:]]), np.concatenate([true[:1].repeat(9, 0), true[1:]]))
    assert width(among) > 1.5 * width(alone) and "jointly over 45 pairs" in among.note and "jointly" not in alone.note


def test_pairing_removes_what_seeds_have_in_common() -> None:
    """Seeds differ by far more than the exploit costs; against themselves they do not."""
    common = 50 * np.random.default_rng(5).normal(size=(1, 6, 1))
    proxy, true = planted(0, 2, 6, 3.0)
    assert hacked(proxy + common, true + common).alarm


def test_without_spread_the_sign_decides() -> None:
    k = np.arange(3.0)[:, None, None] * np.ones((3, 5, 4))
    assert hacked(k, -k).alarm and not hacked(k, k).alarm and not hacked(k, 0 * k).alarm
    assert hacked(k[:, :1].repeat(8, 2), -k[:, :1].repeat(8, 2)).alarm


def test_thin_data_are_never_an_alarm() -> None:
    random = np.random.default_rng(0)
    proxy = rising(random, 2, 3, 10)
    verdict = hacked(proxy, -proxy)
    assert not verdict.alarm and np.isnan(verdict.true_change_ci95).all() and "too few for an interval" in verdict.note
    assert hacked(proxy, -proxy, bounds=((-20, 20), (-20, 20))).alarm is False  # bounds that far apart ask for more
    wide = rising(random, 2, 3, 60)
    bounded = hacked(wide, -wide, bounds=((-20, 20), (-20, 20)))
    assert bounded.alarm and bounded.unit == "episodes" and "of which alone this speaks" in bounded.note
    flat = hacked(wide[:, 0], -wide[:, 0])
    assert flat.alarm and "60 episodes of 1 fixed policy" in flat.note


def test_bounds_clip_differences() -> None:
    proxy, true = planted(0, 2, 6, 1.0)
    true[1, 0, 0] = 1e9  # one broken episode
    assert not hacked(proxy, true).alarm
    verdict = hacked(proxy, true, bounds=((-10, 10), (-3, 3)))
    assert verdict.alarm and -3 < verdict.true_change_ci95[0]


@pytest.mark.parametrize(
    ("fault", "proxy", "true", "more"),
    [
        ("two or more checkpoints", np.zeros((1, 5, 4)), np.zeros((1, 5, 4)), {}),
        ("proxy", np.zeros((2, 5, 4)), np.zeros((2, 5, 3)), {}),
        ("true has shape", np.zeros((2, 5, 4)), np.zeros(2), {}),
        ("true holds nan", np.zeros((2, 5, 4)), np.full((2, 5, 4), np.nan), {}),
        ("better", np.zeros((2, 5, 4)), np.zeros((2, 5, 4)), {"better": "higher"}),
        ("alpha", np.zeros((2, 5, 4)), np.zeros((2, 5, 4)), {"alpha": 5}),
        ("least", np.zeros((2, 5, 4)), np.zeros((2, 5, 4)), {"least": (-1, 0)}),
        ("bounds", np.zeros((2, 5, 4)), np.zeros((2, 5, 4)), {"bounds": ((1, -1), (0, 1))}),
    ],
)
def test_refuses(fault: str, proxy: Any, true: Any, more: dict) -> None:
    with pytest.raises(UserError, match=fault):
        hacked(proxy, true, **more)
