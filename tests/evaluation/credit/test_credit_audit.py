"""The audit believes a method that says the truth, disbelieves its negative, and finds who is worth nothing and who does harm."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Ctde, Decentralized, Mlp
from marlstone.core.records import replace
from marlstone.credit import Attention, Counterfactual, Credit, Individual, Shaping, Team
from marlstone.envs.make import make
from marlstone.envs.proving import Redundant
from marlstone.envs.proving.symbols import SymbolState
from marlstone.envs.vectorized import Vectorized
from marlstone.evaluation.credit.audit import Auditor
from marlstone.evaluation.credit.findings import Told
from marlstone.evaluation.credit.summary import summary
from marlstone.learners import PolicyGradient
from tests.batches import begun, quick

pytestmark = pytest.mark.usefixtures("compiled_once")
GAME = Redundant(rows=3)
AGENTS = ["heavy", "light", "idle", "saboteur"]
WORTH = np.array([0.6, 0.3, 0.0, -0.2])


# ---- methods that know the game
@dataclass(frozen=True)
class Truthful(Team):
    kind: ClassVar[str] = "truthful"

    def _state(self, trajectory: Any) -> SymbolState:
        return SymbolState(trajectory.logp[:, 0], trajectory.step.obs[0]["symbol"][:-1].argmax(-1))

    def _action(self, trajectory: Any) -> Any:
        """Credit is shown actions encoded."""
        return tuple(a.argmax(-1) for a in trajectory.action)

    def contribution(self, p: Any, views: Any, trajectory: Any) -> Any:
        return jax.vmap(GAME.contribution)(self._state(trajectory), self._action(trajectory))


@dataclass(frozen=True)
class Fair(Truthful):
    kind: ClassVar[str] = "fair"
    claims: ClassVar[Any] = "shares"

    def contribution(self, p: Any, views: Any, trajectory: Any) -> Any:
        return jax.vmap(GAME.shapley)(self._state(trajectory), self._action(trajectory))


def audited(credit: Any) -> Told:
    algorithm = Algorithm(GAME.spec, Decentralized(Mlp((4,))), credit, PolicyGradient())
    train = quick(algorithm.init)(jax.random.key(0))
    return Auditor(Vectorized(GAME, 32), algorithm, 15, 64, 64).seed(train, jax.random.key(1))


def test_a_method_that_says_the_truth_is_believed() -> None:
    told = audited(Truthful())
    np.testing.assert_allclose(told.claimed_each, told.true_each, atol=1e-5)
    record = summary([told], list(GAME.spec.agents), "worth")
    assert [record[f"{k}rank_correlation"] for k in ("", "decision_")] == pytest.approx([1.0, 1.0])
    assert record["contributions"] == pytest.approx(record["truth"], abs=1e-4) and record["efficiency_error"] is None
    liar = replace(told, claimed=-told.claimed, claimed_each=-told.claimed_each)
    record = summary([liar], list(GAME.spec.agents), "worth")
    assert [record[f"{k}rank_correlation"] for k in ("", "decision_")] == pytest.approx([-1.0, -1.0])


def test_worth_is_discounted_from_the_decision_on() -> None:
    """By the learner's gamma, to the step where its reward comes: of `delayed`, the episode's last."""
    game = make("proving:delayed?rows=4")
    algorithm = Algorithm(game.spec, Decentralized(Mlp((4,))), Team(), PolicyGradient(gamma=0.5))
    told = Auditor(Vectorized(game, 8), algorithm, 10, 32, act="mode").seed(begun(algorithm), jax.random.key(1))
    assert told.measured is not None and told.measured.time is not None and told.true_discounted is not None
    waited = (0.5 ** (3 - told.measured.time))[:, None, None]
    np.testing.assert_allclose(told.measured.discounted, waited * told.measured.worth, atol=1e-6)
    np.testing.assert_array_equal(told.true_each, told.measured.discounted.mean(-1))
    np.testing.assert_allclose(told.true_discounted, 4 * told.true_each.mean(0), rtol=1e-5)
    np.testing.assert_allclose(told.true, 4 * told.measured.worth.mean((0, -1)), rtol=1e-5)
    assert np.abs(told.true - told.true_discounted).max() > 0.01 and told.changed.all()


def test_shares_that_sum_to_the_return_miss_it_by_nothing() -> None:
    """Twins may be told apart by contribution, never by fair shares; claims are of the very plays whose coalitions are measured."""
    told = audited(Fair())
    assert told.efficiency_error == pytest.approx(0, abs=1e-5) and told.measured is not None and told.measured.claimed is not None
    np.testing.assert_allclose(told.measured.claimed, told.measured.worth, atol=1e-5)
    np.testing.assert_allclose(told.claimed_each.sum(0) / len(told.claimed_each), told.claimed, rtol=1e-5)
    assert told.claimed.sum() == pytest.approx(told.team_return, abs=1e-5)
    halved = replace(told, efficiency_error=0.5)
    record = summary([told, halved], list(GAME.spec.agents), "shares")
    assert record["efficiency_error"] == pytest.approx(0.25)
    assert record["truth_discounted"] == record["truth"], "shares are of the undiscounted return"
    assert record["share_of_ceiling"] == pytest.approx(1) and 0 < record["noise_ceiling"] < 1
    assert record["calibration_slope"] == pytest.approx(1, abs=1e-3) and record["by_quarter"] is None
    assert list(record["slopes"].values()) == pytest.approx([1.0] * GAME.spec.n, abs=1e-3)
    strange = replace(told, claimed_each=np.roll(told.claimed_each, 1, 0))
    assert max(summary([strange], list(GAME.spec.agents), "shares")["slopes"].values()) < 0.8, "claims of other episodes"


# ---- what is made of it
def seeds(count: int, claimed: np.ndarray = WORTH, spread: float = 0.002, loose: int | None = None) -> list[Told]:
    """Seeds whose truths scatter by `spread` of the return, one agent's by a hundred times that."""
    rng, out = np.random.default_rng(0), []
    for _ in range(count):
        noise = spread * rng.normal(size=(2, 4))
        noise[1, loose] *= 1 if loose is None else 100
        each = WORTH * rng.uniform(0.5, 2, (20, 4))
        out.append(Told(claimed + noise[0], WORTH + noise[1], each * np.sign(claimed @ WORTH), each, 1.0, 1.25, None))
    return out


def test_the_idle_and_the_harmful_are_found() -> None:
    record = summary(seeds(5), AGENTS, "worth")
    assert record["dummies"] == ["idle"] and record["saboteurs"] == ["saboteur"]
    assert record["rank_correlation"] == pytest.approx(1.0) and record["decision_rank_correlation"] == pytest.approx(1.0)
    low, high = record["dummy_ci95"]
    assert -0.01 < low < high < 0.01 and record["claims"] == "worth"
    for name in ("contributions", "truth"):
        assert list(record[name]) == AGENTS
        assert all(record[f"{name}_ci95"][a][0] <= record[name][a] <= record[f"{name}_ci95"][a][1] for a in AGENTS)
    assert record["gap"] == pytest.approx(0.25) and record["optimized"] == pytest.approx(record["team_return"] + 0.25)
    wrong = summary(seeds(5, -WORTH), AGENTS, "worth")
    assert wrong["rank_correlation"] == pytest.approx(-1.0) and wrong["saboteurs"] == ["saboteur"], "harm is a matter of truth"


def test_a_wide_interval_about_zero_is_not_nothing() -> None:
    assert summary(seeds(5, loose=2), AGENTS, None)["dummies"] == []
    assert summary(seeds(1), AGENTS, None)["dummies"] == [], "one seed has no interval"


def test_what_is_said_of_the_idle_is_told_in_parts_of_the_return() -> None:
    claimed = WORTH + np.array([0, 0, 0.5, 0])
    low, high = summary([replace(t, team_return=10.0, true=10 * t.true) for t in seeds(5, claimed)], AGENTS, "worth")["dummy_ci95"]
    assert 0.049 < low < high < 0.051


def test_where_the_team_earned_nothing_nobody_is_measured_by_it() -> None:
    record = summary([replace(t, team_return=0.0) for t in seeds(5)], AGENTS, "worth")
    assert record["dummies"] == [] and record["dummy_ci95"] is None


def test_methods_that_say_one_number_have_no_rank() -> None:
    record = summary([replace(t, claimed=np.ones(4), claimed_each=np.ones((20, 4))) for t in seeds(3)], AGENTS, None)
    assert record["rank_correlation"] is None and record["rank_correlation_ci95"] == [None, None]


@pytest.mark.parametrize("credit", [Individual(), Team(), Counterfactual(), Attention(8), Shaping(0.02)], ids=lambda c: c.kind)
def test_what_a_method_optimizes_is_the_return_unless_it_shapes(credit: Credit) -> None:
    """Split or not, pay adds up to the team's return; an intrinsic reward's share of it is the gap, and no larger than it can be."""
    game = make("proving:additive?rows=3")
    algorithm = Algorithm(game.spec, Ctde(Mlp((4,))), credit, PolicyGradient())
    told = Auditor(Vectorized(game, 8), algorithm, 8, decisions=8, episodes=2).seed(begun(algorithm), jax.random.key(0))
    gap = abs(told.optimized - told.team_return)
    assert 1e-4 < gap <= 3 * 0.02 if credit.kind == "shaping" else gap < 1e-5


def test_audits_too_short_for_an_episode_are_refused() -> None:
    algorithm = Algorithm(GAME.spec, Decentralized(Mlp((4,))), Truthful(), PolicyGradient())
    train = quick(algorithm.init)(jax.random.key(0))
    with pytest.raises(ValueError, match=r"no episode ended within 2 steps: audit with a longer rollout"):
        Auditor(Vectorized(GAME, 4), algorithm, 2).seed(train, jax.random.key(1))


@pytest.mark.parametrize("n", [2, 16, 40])
def test_of_large_teams_an_even_choice_is_audited(n: int) -> None:
    env = make(f"proving:swarm?agents={n}")
    who = Auditor(Vectorized(env, 1), Algorithm(env.spec, Decentralized(), Team(), PolicyGradient()), 1).who
    assert len(who) == min(n, 16) and who[0] == 0 and who[-1] == n - 1
    assert np.ptp(np.diff(who)) <= 1
