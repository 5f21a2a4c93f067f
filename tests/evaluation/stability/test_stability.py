"""The rating sees what it should, and nothing else changes it: units, the order of seeds, a seed more that learned nothing."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from marlstone.core.errors import UserError
from marlstone.evaluation.stability.rating import ALIVE, CUTS, Stability, _shortfall, _spread, stability

ORDER = ["High", "Moderate", "Low"]
PER_RUN = ["within_run", "drawdown", "collapse", "rollout"]


def runs(seed: int, n: int = 5, spread: float = 0.02, noise: float = 0.02, level: float = 0.9, rollout: float = 0.1, k: int = 60) -> Any:
    """Steps, curves that rise within the first third and stay, and 32 final episodes a seed; chance is 0, the reference 1."""
    random = np.random.default_rng(seed)
    at = np.arange(1, k + 1) / k
    height = level + spread * random.normal(size=(n, 1))
    curves = height / (1 + np.exp((0.25 + 0.03 * random.normal(size=(n, 1)) - at) / 0.04)) + noise * random.normal(size=(n, k))
    return 1000.0 * np.arange(1, k + 1), curves, list(height + rollout * random.normal(size=(n, 32)))


def rate(steps: Any, curves: Any, final: Any, **more: Any) -> Stability:
    return stability(steps, curves, final, 0.0, 1.0, **more)


def kill(steps: Any, curves: Any, final: Any, seed: int = 0) -> Any:
    """The same, but this seed never learned."""
    flat = 0.01 * np.random.default_rng(9).normal(size=(2, curves.shape[1]))
    return steps, np.vstack([curves[:seed], flat[:1], curves[seed + 1 :]]), [*final[:seed], flat[1], *final[seed + 1 :]]


def same(a: Stability, b: Stability) -> None:
    assert (a.rating, a.off_seed, a.note) == (b.rating, b.off_seed, b.note) and a.axes.keys() == b.axes.keys()
    for name, axis in a.axes.items():
        assert (axis.value, *axis.ci95) == pytest.approx((b.axes[name].value, *b.axes[name].ci95), abs=1e-9, nan_ok=True), name
        assert axis.rating == b.axes[name].rating


@pytest.mark.parametrize("n", [5, 10])
def test_quiet_converged_runs_are_high(n: int) -> None:
    ratings = [rate(*runs(seed, n)).rating for seed in range(100)]
    assert ratings.count("High") >= 97


def test_without_any_noise_every_axis_is_zero() -> None:
    steps, curves, _ = runs(0)
    found = rate(steps, np.ones_like(curves), [np.ones(4)] * 5, edge_cases={"noise": np.zeros(5)}, cross_play=np.zeros(10))
    assert found.rating == "High" and list(found.axes) == list(CUTS) and found.off_seed is None
    for axis in found.axes.values():
        assert (axis.value, *axis.ci95) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("level", [0.4, 0.9])
def test_one_dead_seed_of_five_is_never_high(level: float) -> None:
    for seed in range(30):
        found = rate(*kill(*runs(seed, level=level), seed % 5))
        assert found.rating in ("Low", "Moderate") and (level < 0.5 or found.rating == "Low")
        assert found.off_seed == seed % 5 and f"never rose above chance: seeds {seed % 5}" in found.note
        assert found.axes["seed_cvar"].value > 0.7 * level


@pytest.mark.parametrize("struck", [1, 5])
def test_a_late_collapse_is_low(struck: int) -> None:
    """Of one seed in five, or of all, whether or not the final policies are fine."""
    for seed in range(30):
        steps, curves, final = runs(seed)
        curves[:struck, -8:] = 0.0
        curves[0, -4:] = np.nan  # it finished no more episodes: what came last counts
        found = rate(steps, curves, final)
        assert found.axes["collapse"].rating == found.rating == "Low" and "collapse" in found.note
        assert found.axes["collapse"].value == pytest.approx(0.9 * struck / 5, abs=0.1)


def test_a_collapse_that_recovers_is_a_drawdown() -> None:
    steps, curves, final = runs(0)
    curves[:, 36:42] = 0.1
    found = rate(steps, curves, final)
    assert found.axes["drawdown"].rating == "Low" and found.axes["collapse"].rating == "High"
    assert found.axes["drawdown"].value == pytest.approx(0.8, abs=0.1)


def test_axes_answer_what_they_are_named_after() -> None:
    quiet = rate(*runs(0))
    for name, found in {
        "within_run": rate(*runs(0, noise=0.15)),
        "rollout": rate(*runs(0, rollout=0.5)),
        "seed_iqr": rate(*runs(0, spread=0.3)),
        "seed_cvar": rate(*runs(0, spread=0.3)),
    }.items():
        assert found.axes[name].value > 3 * quiet.axes[name].value and found.axes[name].rating != "High", name
    assert rate(*runs(0, noise=0.15)).axes["within_run"].value == pytest.approx(1.35 * np.sqrt(2) * 0.15 * np.sqrt(40 / 60), rel=0.3)
    for power in (1, 2):  # neither a slope nor one that grows is noise
        rising = np.linspace(0, 1, 40) ** power * np.ones((5, 1))
        assert rate(np.arange(1, 41), rising, runs(0)[2]).axes["within_run"].value == pytest.approx(0, abs=1e-12)


def test_shifting_and_scaling_returns_with_chance_and_reference_changes_nothing() -> None:
    steps, curves, final = kill(*runs(3, n=7, spread=0.1))
    losses = {"a": np.linspace(0, 0.3, 7), "b": (0.1, (0.0, 0.4))}
    cross = np.random.default_rng(0).uniform(0, 0.3, (7, 7))
    moved = {"a": 40 * losses["a"], "b": (4.0, (0.0, 16.0))}  # type: ignore[operator]
    before = stability(steps, curves, final, 0.0, 1.0, losses, cross, cross)
    after = stability(7 * steps, 40 * curves - 9, [40 * f - 9 for f in final], -9.0, 31.0, moved, 40 * cross, cross)
    same(before, after)


def test_permuting_seeds_changes_nothing() -> None:
    steps, curves, final = kill(*runs(5, n=8, spread=0.1), 2)
    random = np.random.default_rng(1)
    loss, cross = random.uniform(0, 0.3, 8), random.uniform(0, 0.3, (8, 8))
    order = random.permutation(8)
    before = rate(steps, curves, final, edge_cases={"a": loss}, cross_play=cross)
    after = rate(steps, curves[order], [final[i] for i in order], edge_cases={"a": loss[order]}, cross_play=cross[np.ix_(order, order)])
    assert before.off_seed == 2 and after.off_seed == list(order).index(2)
    note = after.note.replace(f"seeds {list(order).index(2)}", "seeds 2")
    same(before, replace(after, off_seed=2, note=note))


def test_one_more_dead_seed_never_improves() -> None:
    """Nor changes what is measured of the living. Noisy, spread, weak and partly dead runs, 5 to 12 seeds."""
    random = np.random.default_rng(11)
    for trial in range(60):
        n = int(random.integers(5, 13))
        steps, curves, final = runs(
            trial, n, random.choice([0, 0.05, 0.2]), random.choice([0, 0.02, 0.1]), random.uniform(0.1, 1.2), random.choice([0, 0.3, 0.45])
        )
        final = [np.maximum(f, 0.0) for f in final]
        for seed in range(int(random.integers(0, n)) if random.random() < 0.4 else 0):
            curves[seed], final[seed] = 0.0, np.zeros(8)
        loss, cross = random.uniform(0, 0.5, n), random.uniform(0, 0.4, (n, n))
        before = rate(steps, curves, final, edge_cases={"a": loss}, cross_play=cross)
        worse = np.vstack([curves, np.zeros_like(curves[:1])]), [*final, np.zeros(8)]
        after = rate(steps, *worse, edge_cases={"a": np.append(loss, 0.0)}, cross_play=np.pad(cross, (0, 1)))
        assert ORDER.index(after.rating) >= ORDER.index(before.rating)
        for name in ("seed_iqr", "seed_cvar"):
            assert after.axes[name].ci95[1] >= before.axes[name].ci95[1] - 1e-9
        for name in (*PER_RUN, "edge_cases", "cross_play"):
            assert after.axes[name].value == pytest.approx(before.axes[name].value, nan_ok=True)


def test_where_all_are_dead_nothing_is_stable() -> None:
    steps, curves, final = runs(0)
    found = rate(steps, 0.01 * curves, [0.01 * f for f in final])
    assert found.rating == "Low" and found.axes["seed_cvar"].value == pytest.approx(1, abs=0.05)


def test_a_curve_may_begin_late_or_never() -> None:
    """NaN before a seed's first episode; gaps take the value before them."""
    steps, curves, final = runs(2, k=40)
    late = curves.copy()
    late[0, :6], late[1, 20], late[2, 0], late[4, -2:] = np.nan, np.nan, np.nan, np.nan
    found, whole = rate(steps, late, final), rate(steps, curves, final)
    assert found.rating == whole.rating == "High"
    for name, axis in found.axes.items():
        assert axis.value == pytest.approx(whole.axes[name].value, abs=0.01), name
    late[3] = np.nan
    assert rate(steps, late, final).rating == "High"
    assert np.isnan(rate(steps, np.full_like(curves, np.nan), final).axes["drawdown"].value)


def test_a_seed_without_a_finite_return_is_dead() -> None:
    steps, curves, final = runs(0)
    final[4] = np.full(3, np.nan)
    found = rate(steps, curves, final)
    assert found.rating == "Low" and found.off_seed == 4 and "counted as chance: seeds 4" in found.note


def test_below_five_seeds_nothing_is_rated_but_all_is_shown() -> None:
    found = rate(*runs(0, n=4), edge_cases={"a": np.zeros(4)})
    assert found.rating == "unrated" and "4 seeds, fewer than 5" in found.note
    assert {a.rating for a in found.axes.values()} == {"unrated"} and np.isfinite(found.axes["seed_iqr"].ci95).all()
    assert rate(*runs(0, n=1)).axes["seed_iqr"].value == 0.0


def test_what_was_not_measured_is_left_out_and_said() -> None:
    _, _, final = runs(0)
    found = rate([], np.zeros((5, 0)), final)
    assert found.rating == "High" and list(found.axes) == ["seed_iqr", "seed_cvar", "rollout"]
    assert "not measured: within_run, drawdown, collapse, edge_cases, cross_play" in found.note


def test_the_worst_edge_case_counts() -> None:
    found = rate(*runs(0), edge_cases={"noise": np.full(5, 0.1), "delay": np.full(5, 0.6), "death": (0.2, (0.1, 0.3))})
    assert found.axes["edge_cases"].note == "delay" and found.axes["edge_cases"].value == pytest.approx(0.6)
    assert found.rating == "Low" and "edge_cases" in found.note
    assert rate(*runs(0), edge_cases={"death": (0.2, (0.1, 0.7))}).axes["edge_cases"].rating == "Low"


def test_disagreement_is_shown_and_counts_only_by_cross_play() -> None:
    """Equal equilibria differ in actions."""
    steps, curves, final = runs(0)
    differ = rate(steps, curves, final, cross_play=np.zeros(10), disagreement=np.full(10, 0.69))
    assert differ.rating == "High" and differ.axes["disagreement"].value == pytest.approx(0.69)
    clash = rate(steps, curves, final, cross_play=np.full((5, 5), 0.8), disagreement=np.full(10, 0.69))
    assert clash.rating == clash.axes["cross_play"].rating == "Low"
    square = np.triu(np.ones((5, 5)), 1)
    square[square == 1] = np.arange(10) / 20
    square[np.tril_indices(5)] = np.nan
    assert rate(steps, curves, final, cross_play=np.full((5, 5), 0.1) + 9 * np.eye(5)).axes["cross_play"].value == pytest.approx(0.1)
    one, other = (rate(steps, curves, final, cross_play=x).axes["cross_play"] for x in (square, np.arange(10) / 20))
    assert one == other and one.value == pytest.approx(4.5 / 20) and one.ci95[0] < one.value < one.ci95[1]


def test_no_seed_is_off_among_its_like() -> None:
    assert all(rate(*runs(seed, spread=0.03)).off_seed is None for seed in range(30))
    _, curves, final = runs(0)
    final[2] = np.full(8, 5.0)
    assert rate(np.arange(1, 61), curves, final).off_seed is None  # above the others is not off


@pytest.mark.parametrize("n", [5, 10])
@pytest.mark.parametrize("axis", ["seed_iqr", "seed_cvar"])
def test_coverage_across_seeds(axis: str, n: int) -> None:
    """The intervals of the quartile range and of the worst quarter's shortfall hold the population's, nominal 95%; normal seeds."""
    random = np.random.default_rng(n)
    population = np.sort(1 + 0.1 * random.normal(size=1_000_000))
    quarters = population.reshape(4, -1)
    truth = quarters[3, 0] - quarters[1, 0] if axis == "seed_iqr" else quarters[1:3].mean() - quarters[0].mean()
    measure = {"seed_iqr": _spread, "seed_cvar": _shortfall}[axis]
    found = np.array([measure(row, row > ALIVE)[1] for row in 1 + 0.1 * random.normal(size=(2000, n))])
    covered = np.mean((found[:, 0] <= truth) & (truth <= found[:, 1]))
    print(f"{axis}, {n} seeds: coverage {covered:.1%}")
    assert covered >= 0.93


def test_refuses() -> None:
    steps, curves, final = runs(0)
    for fault, arguments in {
        "reference is 0": (steps, curves, final, 0.0, 0.0),
        "reference is nan": (steps, curves, final, 0.0, float("nan")),
        "final": (steps, curves, [], 0.0, 1.0),
        "curves": (steps, curves[:3], final, 0.0, 1.0),
        "rising": (steps[::-1], curves, final, 0.0, 1.0),
        "edge_cases": (steps, curves, final, 0.0, 1.0, {"x": np.zeros(3)}),
        "cross_play": (steps, curves, final, 0.0, 1.0, None, np.zeros(4)),
    }.items():
        with pytest.raises(UserError, match=fault):
            stability(*arguments)
