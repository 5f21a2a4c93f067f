"""A noise ceiling is what a perfect claim reaches; calibration sees through noise; and what is made of both is said in one sentence."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from marlstone.evaluation.credit.findings import Measured, Told
from marlstone.evaluation.credit.reliability import (
    across_halves,
    calibration,
    ceiling_of_means,
    noise_ceiling,
    quarters,
    spearman,
    standard_error,
)
from marlstone.evaluation.credit.summary import summary

S, A = 400, 3
AGENTS = ["a", "b", "c"]


def measured(noise: float, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """True worth `[s a]` and `k` noisy measurements of it, `[s a k]`."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(S, A))
    return true, true[..., None] + noise * rng.normal(size=(S, A, k))


@pytest.mark.parametrize("noise", [0.3, 1.0, 3.0])
def test_the_ceiling_is_what_the_truth_itself_would_reach(noise: float) -> None:
    """On average over seeds, with few continuations or many."""
    for k in (2, 8):
        pairs = [
            (spearman(true.ravel(), worth.mean(-1).ravel()), noise_ceiling(worth))
            for true, worth in (measured(noise, k, s) for s in range(20))
        ]
        reached, ceiling = np.mean(pairs, 0)
        assert ceiling == pytest.approx(reached, abs=0.03), (noise, k)


def test_noise_alone_has_a_low_ceiling_and_no_noise_has_none() -> None:
    assert noise_ceiling(np.repeat(measured(0, 1, 0)[1], 4, -1)) == pytest.approx(1.0)
    alone = [noise_ceiling(np.random.default_rng(s).normal(size=(S, A, 8))) for s in range(20)]
    assert np.mean(alone) < 0.25
    assert np.isnan(noise_ceiling(measured(1, 1, 0)[1])) and np.isnan(noise_ceiling(np.zeros((S, A, 4))))


def test_the_standard_error_is_relative_to_how_much_decisions_differ() -> None:
    for noise, k in ((1.0, 4), (2.0, 16), (0.1, 2)):
        found = np.mean([standard_error(measured(noise, k, s)[1]) for s in range(10)])
        assert found == pytest.approx(noise / k**0.5, rel=0.05)
    assert standard_error(np.ones((S, A, 4))) == 0 and np.isnan(standard_error(np.ones((S, A, 1))))
    assert standard_error(np.random.default_rng(0).normal(size=(8, 1, 2)) * [[[1, -1]]]) > 0.5


def test_agents_ranked_by_means_have_a_ceiling_of_their_own() -> None:
    rng = np.random.default_rng(0)
    apart = np.arange(6.0) + rng.normal(size=(64, 6))
    assert ceiling_of_means(apart) == pytest.approx(1.0, abs=0.05)
    assert np.isnan(ceiling_of_means(apart[:1]))


@pytest.mark.parametrize("noise", [0.3, 2.0])
def test_claims_that_share_their_plays_luck_reach_no_more_than_the_truth_does(noise: float) -> None:
    """A claim that is right of every play reaches the halves' own agreement; one that knows only each play's luck reaches nothing."""
    right, lucky = [], []
    for s in range(20):
        true, worth = measured(noise, 4, s)
        right.append(across_halves(worth, worth))
        lucky.append(across_halves(worth - true[..., None], worth))
        assert across_halves(true[..., None].repeat(4, -1), worth) > right[-1]
    assert np.mean(right) == pytest.approx(1 / (1 + noise**2 / 2), abs=0.04) and abs(np.mean(lucky)) < 0.02
    assert np.isnan(across_halves(worth[..., :1], worth[..., :1]))


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_calibration_is_not_moved_by_noise_in_what_was_measured(noise: float) -> None:
    found = []
    for s in range(20):
        claimed, worth = measured(noise, 1, s)
        found.append(calibration(claimed.ravel(), 0.3 + 2 * claimed.ravel() + (worth[..., 0] - claimed).ravel()))
    assert np.mean([c.slope for c in found]) == pytest.approx(2.0, abs=0.05)
    assert np.mean([c.bias for c in found]) == pytest.approx(0.3, abs=0.05)
    assert np.isnan(calibration(np.ones(9), np.arange(9.0)).slope)


def test_quarters_part_decisions_by_their_time() -> None:
    time = np.random.default_rng(0).integers(0, 9, 101)
    masks = quarters(time)
    assert (np.sum(masks, 0) == 1).all() and max(map(sum, masks)) - min(map(sum, masks)) <= 1
    assert all(time[a].max() <= time[b].min() for a, b in itertools.pairwise(masks))


# ---- in one sentence
def seeds(claim: Any, noise: float = 0.1, k: int = 4) -> list[Told]:
    """Five seeds of a method whose claims are `claim(true)`, whose agents are worth .1, .2 and .3 a decision on average."""
    out = []
    for s in range(5):
        true, worth = measured(noise, k, s)
        true, worth = true + np.array([0.1, 0.2, 0.3]), worth + np.array([0.1, 0.2, 0.3])[:, None]
        claimed, mean = claim(true, np.random.default_rng(100 + s)), worth.mean(-1)
        how = Measured(worth, worth, np.arange(S), np.full((S, A), 0.5))
        out.append(Told(claimed.mean(0), mean.mean(0), claimed, mean, 1.0, 1.0, None, how))
    return out


def judged(told: list[Told], claims: str | None = "worth") -> dict[str, Any]:
    return summary(told, AGENTS, claims)


def test_right_claims_are_called_right() -> None:
    record = judged(seeds(lambda true, rng: true))
    assert record["judgement"].startswith("right here: its claims order decisions by ")
    assert record["noise_ceiling"] > 0.95 and record["calibration_slope"] == pytest.approx(1, abs=0.05)
    assert record["share_of_ceiling"] == pytest.approx(1, abs=0.03) and record["continuations"] == 4
    assert all(q["rank_correlation"] > 0.95 and q["error"] < 0.2 for q in record["by_quarter"])


def test_right_claims_are_right_also_where_the_truth_is_noisy() -> None:
    record = judged(seeds(lambda true, rng: true, noise=2.0))
    assert record["decision_rank_correlation"] < 0.8 and record["share_of_ceiling"] == pytest.approx(1, abs=0.1)
    assert record["judgement"].startswith("right here")


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        (lambda true, rng: rng.normal(size=true.shape), "do not order decisions by what they were worth"),
        (lambda true, rng: 9 * true, "a claim of 1 of a's was worth 0.1"),
        (lambda true, rng: true + np.array([1.7, 0, 0]), "it says 1.8 of a, who was worth"),
    ],
    ids=["order", "scale", "sum"],
)
def test_what_is_wrong_is_named(claim: Any, words: str) -> None:
    said = judged(seeds(claim))["judgement"]
    assert said.startswith("wrong here: ") and words in said, said


def test_where_the_truth_does_not_agree_with_itself_nothing_is_said_of_claims() -> None:
    record = judged(seeds(lambda true, rng: true, noise=40.0, k=2))
    assert record["judgement"].startswith("cannot be told here") and "--continuations" in record["judgement"]
    assert record["share_of_ceiling"] is None or record["noise_ceiling"] < 0.3


def test_claims_are_compared_with_the_return_that_methods_learn_from() -> None:
    """Where an action changes only how soon all of the return comes, that is what a claim is right or wrong about."""
    told = seeds(lambda true, rng: true)
    told = [replace(t, measured=replace(t.measured, worth=0 * t.measured.worth), true=0 * t.true, true_discounted=t.true) for t in told]
    record = judged(told)
    assert record["judgement"].startswith("right here") and record["decision_rank_correlation"] > 0.95
    assert record["undiscounted_rank_correlation"] is None and record["noise_ceiling"] > 0.95
    assert record["worth_anything"] == 1 and record["decisions_worth_anything"] == [S * A] * 5
    assert record["truth"] == dict.fromkeys(AGENTS, 0) and record["truth_discounted"] == pytest.approx(record["contributions"], abs=0.02)
    assert record["dummies"] == AGENTS, "who is worth nothing is told in units of the team's return"
    other = [replace(t, measured=replace(t.measured, worth=-t.measured.discounted)) for t in told]
    assert judged(other)["undiscounted_rank_correlation"] < -0.95 < 0.95 < judged(other)["decision_rank_correlation"]


@pytest.mark.parametrize(("few", "said"), [(19, "only 95 of 6000 decisions changed the return"), (25, "right here")])
def test_where_hardly_any_decision_changed_the_return_no_order_is_told(few: int, said: str) -> None:
    """Ties agree with themselves perfectly: a ceiling of 1 over one or two decisions would say nothing."""

    def solved(t: Told) -> Told:
        worth = np.where(np.arange(S * A).reshape(S, A, 1) < few, t.measured.discounted, 0)  # type: ignore[union-attr]
        each = worth.mean(-1)
        return replace(t, claimed_each=each, true_each=each, measured=replace(t.measured, worth=worth, discounted=worth))  # type: ignore[type-var]

    record = judged([solved(t) for t in seeds(lambda true, rng: true)])
    assert said in record["judgement"], record["judgement"]
    assert record["worth_anything"] == pytest.approx(few / (S * A)) and record["decisions"] == S * A
    assert (record["share_of_ceiling"] is None) == (few < 20) and record["noise_ceiling"] > 0.9


def test_an_agent_without_any_effect_has_no_calibration_to_be_wrong_in() -> None:
    """What is left in the last bits of a difference of returns is no effect."""

    def without(t: Told) -> Told:
        worth = t.measured.discounted * [[[1], [1], [0]]] + [[[0], [0], [1e-8]]]  # type: ignore[union-attr]
        claimed = t.claimed_each.copy()
        claimed[:, 2] *= 1e-4
        return replace(t, claimed_each=claimed, true_each=worth.mean(-1), measured=replace(t.measured, worth=worth, discounted=worth))  # type: ignore[type-var]

    told = [replace(x, claimed=x.claimed_each.mean(0), true=x.true_each.mean(0)) for x in map(without, seeds(lambda true, rng: true))]
    record = judged(told)
    assert record["agents_without_effect"] == ["c"] and record["judgement"].startswith("right here"), record["judgement"]
    assert record["worth_anything"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        (lambda worth, rng: worth, "right here: its claims order episodes' shares by 100%"),
        (lambda worth, rng: rng.normal(size=worth.shape), "its claims do not order episodes' shares by their truth"),
        (lambda worth, rng: 9 * worth, "a claim of 1 of a's was worth 0.11"),
    ],
    ids=["right", "order", "scale"],
)
def test_shares_are_judged_by_plays_of_the_same_beginnings(claim: Any, words: str) -> None:
    def share(t: Told, rng: Any) -> Told:
        assert t.measured is not None
        each = claim(t.measured.worth, rng)
        how = Measured(t.measured.worth, t.measured.worth, claimed=each)
        return replace(t, claimed=each.mean((0, -1)), claimed_each=each.mean(-1), efficiency_error=0.0, measured=how)

    record = judged([share(t, np.random.default_rng(s)) for s, t in enumerate(seeds(lambda true, rng: true, noise=1.0))], "shares")
    assert words in record["judgement"], record["judgement"]
    assert 0.55 < record["noise_ceiling"] < 0.75 and record["by_quarter"] is record["defaults_untried"] is None
    assert record["agents_noise_ceiling"] is not None


def test_single_measurements_have_no_ceiling() -> None:
    told = seeds(lambda true, rng: true)
    assert judged([replace(t, measured=None) for t in told])["judgement"] == ""
    assert judged(seeds(lambda true, rng: true, k=1))["judgement"] == ""
