"""Policies are judged as they are deployed: by which way of acting, on whole episodes, with what was left out counted."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Ctde, Decentralized, Mlp
from marlstone.config import RunConfig, dump, load
from marlstone.config.sources import parse
from marlstone.core.acting import Acting, temperature
from marlstone.core.distributions import Box, Discrete, MultiDiscrete
from marlstone.core.errors import Failure, UserError
from marlstone.core.types import Group, Leaf, Spec, Step
from marlstone.credit import Individual, Qmix
from marlstone.envs.team_games import team_step
from marlstone.envs.vectorized import Vectorized
from marlstone.learners import PolicyGradient, QLearning
from marlstone.play.evaluator import Episodes
from marlstone.play.judging import Judged, choose, judge, returns_record, warning
from marlstone.runs.directory import RunDirectory
from marlstone.training.fused import Fused
from marlstone.training.loop import runtime_of, train
from tests.standing import always, by_chance, runtime, standing

CASES = Path(__file__).parents[1] / "cases"
pytestmark = pytest.mark.usefixtures("compiled_once")


@dataclass(frozen=True)
class Passing:
    """Two agents who see the same in a corridor: 1 is paid, and the episode ends, once their moves differ. `ends`: after so many
    steps it is cut; None: never."""

    ends: int | None = 4

    @cached_property
    def spec(self) -> Spec:
        return Spec((Group("walkers", ("a", "b"), {"x": Leaf("vector", (1,))}, Discrete(2)),), state=1, horizon=self.ends)

    def _row(self, t: Any, met: Any, first: bool = False) -> Step:
        over = False if self.ends is None else t >= self.ends
        return team_step(
            ({"x": jnp.ones((2, 1))},),
            jnp.ones(1),
            jnp.full(2, 0.5) * ~met * (not first),
            (None,),
            truncated=over,
            terminated=~met,
            first=first,
        )

    def init(self, key: Any) -> Any:
        return jnp.zeros((), jnp.int32), self._row(jnp.zeros((), jnp.int32), jnp.ones((), bool), True)

    def step(self, state: Any, action: Any, key: Any) -> Any:
        return state + 1, self._row(state + 1, action[0][0] == action[0][1])


def passing(*heads: list[float], ends: int | None = 4, most: int | None = None) -> tuple[Fused, Any]:
    """One seed for each policy that has these logits everywhere."""
    env = Passing(ends)
    it = Algorithm(env.spec, Decentralized(Mlp((4,))), Individual(), PolicyGradient(epochs=1, minibatches=1))
    return Fused(Vectorized(env, 4), it, 4, 1, tuple(range(5, 5 + len(heads))), most), standing(*(always(it, h) for h in heads))


def config(**acting: Any) -> RunConfig:
    return load(None, {"env": "proving:pair", "evaluate.episodes": "64", **{f"acting.{k}": str(v) for k, v in acting.items()}})


def test_temperature_is_a_scale_of_noise_in_every_space() -> None:
    """At 0 the mode; elsewhere samples have the log-probs of the tempered head."""
    for space, head in ((Discrete(3), 3), (MultiDiscrete((2, 3)), 5), (Box(2), 4)):
        h = jax.random.normal(jax.random.key(0), (20_000, head)) * 0 + jnp.linspace(-0.5, 0.5, head)
        noise = space.noise(jax.random.key(1), (20_000,))
        np.testing.assert_array_equal(space.sample(h, None, 0.0 * noise), space.mode(h, None))
        for heat in (0.5, 2.0):
            a, b = space.sample(h, None, heat * noise), space.sample(space.with_temperature(h, heat), None, noise)
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_policies_that_pass_each_other_only_by_chance_are_deployed_sampled_and_the_record_warns() -> None:
    it, state = passing([0.0, 0.1], [0.0, -0.1], [0.0, 0.05], [0.1, 0.0], [0.0, 0.0])
    assert choose(it, state, config()) == "sample"
    record = returns_record(judge(it, state, 64, "sample"), it.algorithm.spec)
    ways = record["returns_by_acting"]
    assert record["acting"] == "sample" and set(ways) == {"mode", "sample"}
    assert ways["mode"]["return_iqm"] == 0 and 0.8 < ways["sample"]["return_iqm"] == record["return_iqm"]
    assert "relies on its randomness: by mode 0, sample 0.9" in record["acting_warning"]
    assert record["broken"] == record["unfinished"] == 0 and record["episodes_asked"] == 5 * 64


def test_the_warning_is_of_these_policies_though_only_some_of_them_are_stuck_and_unequally() -> None:
    """As on a city network: by mode two of five controllers jam, one of them badly, so intervals over training seeds say nothing."""
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 5, 8))
    stuck = np.array([0.0, 0.0, 0.0, -2.0, -60.0])[:, None]
    played = lambda returns: Episodes(returns, np.zeros((5, 8, 1)), np.ones((5, 8)), {}, np.ones((5, 8), bool), np.zeros((5, 8), int), {})
    parted = Judged("sample", {"sample": played(-1 + noise[0]), "mode": played(-1 + noise[1] + stuck)})
    assert "relies on its randomness" in (warning(parted) or "")
    alike = Judged("sample", {"sample": played(-1 + noise[0]), "mode": played(-1 + noise[1])})
    assert warning(alike) is None


def test_the_configured_way_of_acting_is_kept_and_a_tie_goes_to_the_mode() -> None:
    it, state = passing([0.0, 0.1])
    for acting, act in ((("mode", None), "mode"), (("temperature", 0.5), "temperature=0.5")):
        assert choose(it, state, config(kind=acting[0], temperature="none" if acting[1] is None else acting[1])) == act
    assert choose(it, state, config(), known="mode") == "mode"
    never, state = passing([9.0, -9.0])
    assert choose(never, state, config()) == "mode"
    record = returns_record(judge(it, passing([0.0, 0.1])[1], 64, "temperature=0.5"), it.algorithm.spec)
    assert set(record["returns_by_acting"]) == {"temperature=0.5", "mode", "sample"}


def test_value_based_learners_act_greedily_sampled_or_not() -> None:
    values = runtime("proving:climbing", 2, Ctde(Mlp((4,))), QLearning(), credit=Qmix())
    state = standing(by_chance(values.algorithm, 0), by_chance(values.algorithm, 1))
    assert choose(values, state, config()) == "mode"
    greedy, sampled = (values.evaluate(state, 16, act) for act in ("mode", "sample"))
    np.testing.assert_array_equal(greedy.team_return, sampled.team_return)


def test_what_never_ends_is_left_out_and_a_seed_without_a_whole_episode_is_a_failure() -> None:
    """Equal moves by mode: the episode goes on for ever, whatever the horizon says."""
    it, state = passing([0.0, 5.0], ends=None, most=20)
    played = it.evaluate(state, 64, "sample")
    ended = np.asarray(played.ended)
    assert 0 < ended.sum() < 64 and np.asarray(played.length)[~ended].tolist() == [20] * int((~ended).sum())
    record = returns_record(judge(it, state, 64, "sample"), it.algorithm.spec)
    assert (
        record["return_iqm"] == 1.0
        and record["unfinished"] == (~ended).sum()
        and record["episode_returns"][0].count(None) == (~ended).sum()
    )
    assert choose(it, state, config()) == "sample" and record["returns_by_acting"]["mode"]["return_iqm"] is None
    with pytest.raises(Failure, match="none had ended; give it a time limit"):
        returns_record(judge(it, state, 64, "mode"), it.algorithm.spec)


def test_acting_reads_as_people_write_it() -> None:
    assert Acting.parse("temperature=0.5") == Acting("temperature", 0.5) and Acting.parse("temperature=0.5").act == "temperature=0.5"
    assert [temperature(a) for a in ("mode", "sample", "temperature=0.25")] == [0.0, 1.0, 0.25]
    assert load(None, {"env": "proving:pair", "acting": "temperature=2"}).acting == Acting("temperature", 2.0)
    assert parse('env = "proving:pair"\nacting = "sample"').acting == Acting("sample")
    assert parse('env = "proving:pair"\n[acting]\nkind = "temperature"\ntemperature = 0.5').acting.act == "temperature=0.5"
    for wrong in ("temperature=0", "temperature=-1", "temperature=warm", "greedy", "temperature=nan"):
        with pytest.raises(UserError, match="acting"):
            load(None, {"env": "proving:pair", "acting": wrong})
    with pytest.raises(UserError, match=r"acting\.temperature"):
        load(None, {"env": "proving:pair", "acting.kind": "temperature"})


SMALL = {
    "seeds": "1", "seed": "3", "rollout.envs": "4", "rollout.length": "8", "rollout.workers": "1", "learner.minibatches": "1",
    "architecture.body.hidden": "[4]",
}  # fmt: skip


def hosted(env: str, episodes: int = 12) -> dict[str, Any]:
    it = runtime_of(load(None, {"env": f"{CASES / env}", "steps": "32", **SMALL}))
    try:
        return returns_record(judge(it, it.start(), episodes, "mode"), it.algorithm.spec)
    finally:
        it.close()


def test_an_attribute_cuts_no_episode_short() -> None:
    """`max_cycles = 10`, eleven steps, paid in the last; and twenty turns of two players."""
    record = hosted("horizon.py:make_offbyone")
    assert record["return_iqm"] == 2.0 and record["episode_length"] == 11
    record = hosted("horizon.py:make_turns")
    assert record["return_iqm"] == 20.0 and record["episode_length"] == 20


def test_episodes_that_the_environment_broke_off_are_replayed_and_counted() -> None:
    record = hosted("raises.py:make_env?mode=some")
    assert record["returns"] == [10.0] and record["unfinished"] == 0 and 0 < record["broken"] < record["episodes_asked"] == 12
    assert set(record["episode_returns"][0]) == {10.0}


def test_training_episodes_that_outlive_what_is_declared_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = load(None, {"env": f"{CASES / 'horizon.py'}:make_offbyone", "steps": "96", "evaluate.episodes": "2", **SMALL})
    record = train(asked, RunDirectory.create(tmp_path / "run", dump(asked)), limited=False)
    assert record["return_iqm"] == 2.0 and record["episode_length"] == 11
    assert capsys.readouterr().err.count("warning: training episodes outlive the 10 steps that the environment declares") == 1
