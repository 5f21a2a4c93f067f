"""Gates keep their false alarm rate over episodes, find what is far from anything seen, and cost and spare what the games say."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from marlstone.config import RunConfig
from marlstone.config.schema import Evaluation
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.core.types import Step, Trajectory
from marlstone.envs.faults import Fault
from marlstone.envs.faults.contract import SeedDraws
from marlstone.envs.make import make
from marlstone.evaluation.robustness.gate import (
    _still,
    _values,
    core_of,
    fit_gate,
    fitted,
    gated,
    kept_gate,
    least_episodes,
    load_gate,
    scorer,
)
from marlstone.evaluation.robustness.gate_measured import measure_gate, ood
from marlstone.evaluation.robustness.novelty import NOVELTIES, Far
from marlstone.policy.gate import Gate, features, outside, readings, score
from marlstone.policy.policy import Policy
from marlstone.runs.arrays import Unreadable
from tests.batches import rollout, trajectories_of
from tests.standing import always, by_chance, runtime, standing

BRINK = f"jax:{Path(__file__).parent / 'brink.py'}:make"
GOES = [0.0, 5.0]


@dataclass(frozen=True)
class Jitter(Fault):
    """Every reading is a little off."""

    kind = "jitter"
    spread: float = 1e-4

    def step(self, spec: Any, memory: Any, step: Step, draw: Any) -> Any:
        (seen,) = step.obs
        return memory, replace(step, obs=({k: x + self.spread * draw.normal(x.shape) for k, x in seen.items()},))


# ---- calibration
def episodes(random: np.random.Generator, count: int, t: int = 12) -> Trajectory:
    """Whole episodes of two agents whose readings drift slowly, each from a place of its own: rows are anything but independent."""
    x = random.normal(size=(count, t + 1, 2, 2)) * 0.2
    x[:, 0] = random.standard_t(6, size=(count, 2, 2))
    x = x.cumsum(1).astype(np.float32)
    flags = lambda at: np.arange(t + 1)[None].repeat(count, 0) == at
    step: Any = jax.tree.map(lambda x: np.broadcast_to(x, (count, t + 1, *x.shape)), make("proving:match").init(jax.random.key(0))[1])
    step = replace(step, obs=({"symbol": x},), first=flags(0), last=flags(t))
    return Trajectory(step, (np.zeros((count, t, 2), np.int32),), np.zeros((count, t, 2), np.float32), None)


def alarms(gate: Gate, trajectories: Trajectory) -> np.ndarray:
    (known,) = gate.groups
    seen = features(known, trajectories.step.obs[0]["symbol"][:, :-1])
    return outside(gate, score(known, seen, _still(seen, trajectories.step.first[:, :-1]))).any((1, 2))


def test_false_alarms_over_episodes_are_as_many_as_declared() -> None:
    """Over gates calibrated anew: floor(a (m + 1)) / (m + 1) of familiar episodes, within what so many draws may miss it by."""
    it = runtime("proving:match", 1).algorithm
    policy, scored, random = by_chance(it, 0).policy, scorer(it), np.random.default_rng(1)
    rate, m, gates, fresh = 0.2, 20, 30, 200
    found = [alarms(fitted(it, policy, episodes(random, 2 * m), rate, scored), episodes(random, fresh)).mean() for _ in range(gates)]
    expected = np.floor(rate * (m + 1)) / (m + 1)
    spread = np.sqrt(expected * (1 - expected) * (1 / (m + 2) + 1 / fresh) / gates)  # Beta of the gate, then binomial
    assert abs(np.mean(found) - expected) < 3.5 * spread


def test_too_few_episodes_cannot_calibrate() -> None:
    assert least_episodes(0.05) == 38 and least_episodes(0.2) == 8 and least_episodes(0.01) == 198
    it = runtime("proving:match", 1)
    with pytest.raises(UserError, match=r"a false alarm rate of 0\.05 takes at least 38 episodes, not 30"):
        fit_gate(it, standing(by_chance(it.algorithm, 0)), 30)
    with pytest.raises(UserError, match="false alarm rate is 1: give a probability"):
        least_episodes(1)
    short = episodes(np.random.default_rng(0), 40)
    broken = replace(short, step=replace(short.step, first=short.step.first | (np.arange(40) > 20)[:, None]))
    with pytest.raises(UserError, match="only 21 episodes of 40 ended"):
        fitted(it.algorithm, by_chance(it.algorithm, 0).policy, broken, 0.05, scorer(it.algorithm))


def test_padding_is_nobodys_reading() -> None:
    """One of two agents lacks the second reading: what stands there is neither remembered nor looked at."""
    spec = make("proving:match").spec
    spec = replace(spec, groups=(replace(spec.groups[0], features={"symbol": (2, 1)}),))
    it = replace(runtime("proving:match", 1).algorithm, spec=spec)
    trajectories, random = episodes(np.random.default_rng(3), 16), np.random.default_rng(4)
    trajectories.step.obs[0]["symbol"][:, :, 1, 1] = random.normal(size=(16, 13)) + 50
    gate = fitted(it, by_chance(it, 0).policy, trajectories, 0.2, scorer(it))
    np.testing.assert_array_equal(gate.groups[0].real, [[1, 1], [1, 0]])
    known = gate.groups[0].values[:, 1]
    assert np.abs(known).max() < 10 and not (known == 0).any()
    before = alarms(gate, trajectories)
    trajectories.step.obs[0]["symbol"][:, :, 1, 1] = -50
    np.testing.assert_array_equal(alarms(gate, trajectories), before)


def test_cores_cover_and_values_are_all_that_were_read() -> None:
    random = np.random.default_rng(0)
    rows = random.normal(size=(500, 3))
    core = core_of(rows, 40)
    apart = lambda a: np.sqrt(((rows[:, None] - a) ** 2).sum(-1)).min(1).max()
    assert apart(core) < np.median([apart(rows[random.permutation(500)[:40]]) for _ in range(20)]) and len(np.unique(core, axis=0)) == 40
    few = np.tile(np.eye(3), (50, 1))
    assert sorted(map(tuple, np.unique(core_of(few, 8), axis=0))) == sorted(map(tuple, np.eye(3))) and core_of(few, 8).shape == (8, 3)
    assert set(_values(np.array([3.0, 1.0, 3.0, 2.0]), 5)) == {1, 2, 3}
    many = _values(rows[:, 0], 16)
    assert many.shape == (16,) and {many.min(), many.max()} == {rows[:, 0].min(), rows[:, 0].max()} and np.isin(many, rows[:, 0]).all()
    assert (_values(np.zeros(0), 4) == 0).all()


# ---- measured
@pytest.mark.usefixtures("compiled_once")
@pytest.mark.slow
def test_a_gate_spares_walkers_the_thin_ice_and_misses_what_is_small() -> None:
    """They always go on, which earns 2, and on ice they have never seen loses 20, but for a gate that holds them: 0. Errors of a
    ten-thousandth are not found, and alarm as often as nothing does."""
    it = runtime(BRINK, 2, length=6)
    state = standing(*[always(it.algorithm, GOES)] * 2)
    gate = fit_gate(it, state, 64, 0.2)
    novel = {"jitter": (Jitter(),)}
    said = measure_gate(it, state, gate, novel=novel, shifted={"thin": f"{BRINK}?ice=-3"}, fallback="ask", episodes=200)
    low, high = said["false_alarm_rate_ci95"]
    expected, kinds = 6 / 33, said["kinds"]
    assert abs(said["false_alarm_rate"] - expected) < 3.5 * np.sqrt(expected * (1 - expected) * (1 / 34 + 1 / 200) / 2)
    assert low < said["false_alarm_rate"] < high and np.mean(said["false_alarm_rate_per_seed"]) == pytest.approx(said["false_alarm_rate"])
    assert kinds["thin"]["detection_rate"] == 1
    assert abs(kinds["jitter"]["detection_rate"] - said["false_alarm_rate"]) < 0.03
    assert said["detection_rate"] == pytest.approx(np.mean([k["detection_rate"] for k in kinds.values()]))
    assert said["return_ungated"] == pytest.approx(2, abs=0.01) and 1.8 < said["return_gated"] < 2
    assert kinds["thin"]["return_ungated"] == pytest.approx(-20, abs=0.1) and kinds["thin"]["return_gated"] > -0.5
    assert 0 < said["outside"] < 0.1 and kinds["thin"]["outside"] > 0.95 and 1.9 < kinds["thin"]["asked"] < 2.5
    with pytest.raises(UserError, match=r"proving:match: its agents would be"):
        measure_gate(it, state, gate, novel={}, shifted={"other": "proving:match"})


@pytest.mark.usefixtures("compiled_once")
def test_gates_are_kept_with_the_run_and_made_anew_for_other_policies(tmp_path: Path) -> None:
    it = runtime(BRINK, 2, length=6)
    state = standing(*[always(it.algorithm, GOES)] * 2)
    config = RunConfig(BRINK, seeds=2, seed=5, evaluate=Evaluation(3))
    said = ood(config, it, state, run=tmp_path, novel={}, rate=0.1)
    assert {"declared_rate", "false_alarm_rate", "false_alarm_rate_ci95", "detection_rate", "return_gated", "return_ungated"} <= set(said)
    assert said["detection_rate"] is None and folders(tmp_path) == ["00000000-0.1-128-mode"]
    kept, fresh = kept_gate(tmp_path, it, state, rate=0.1), fit_gate(it, state, rate=0.1)
    for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(fresh), strict=True):
        np.testing.assert_array_equal(a, b)
    later = replace(state, train=replace(state.train, version=state.train.version + 3))
    kept_gate(tmp_path, it, later, 8, rate=0.2)
    assert folders(tmp_path) == ["00000000-0.1-128-mode", "00000003-0.2-8-mode"]
    mine = lambda seed, act="mode": frozen(it.algorithm, state, 1, {"seed": seed, "updates": 0}, act)
    behind = gated(mine(6), tmp_path, "ask")
    assert behind.gate is not None and behind.description["gate"]["rate"] == 0.1
    assert behind.description["gate"]["figures"]["false_alarm_rate"] == said["false_alarm_rate"]
    for a, b in zip(behind.gate.arrays(), kept.of_seed(1).arrays(), strict=True):
        np.testing.assert_array_equal(a, b)
    for other in (mine(7), mine(6, "sample")):
        with pytest.raises(UserError, match=r"no gate for this policy.*--suite edge-cases"):
            gated(other, tmp_path)
    path = tmp_path / "gates" / "00000000-0.1-128-mode"
    with pytest.raises(UserError, match="does not fit this run"):
        load_gate(path, runtime("proving:pair", 2))
    data = bytearray((path / "arrays.safetensors").read_bytes())
    data[-3] ^= 1
    (path / "arrays.safetensors").write_bytes(data)
    with pytest.raises(Unreadable, match="is altered"):
        kept_gate(tmp_path, it, state, rate=0.1)


def folders(run: Path) -> list[str]:
    return sorted(p.name for p in (run / "gates").iterdir() if p.is_dir())


def frozen(it: Any, state: Any, i: int, source: dict[str, Any], act: str) -> Policy:
    return Policy.of(it, jax.tree.map(lambda x: np.asarray(x)[i], state.train.policy), act, None, source)


@pytest.mark.parametrize("name", ["proving:dials", "proving:pair"])
def test_readings_beyond_any_seen_are_found_in_every_kind_of_group(name: str) -> None:
    """In pictures by their means; of agents that come and go, while they are there. One agent of each group meets them."""
    it = runtime(name, 1).algorithm
    trajectories, policy = trajectories_of(it, name, 12, 12), by_chance(it, 0).policy
    gate = fitted(it, policy, trajectories, 0.2, scorer(it))
    for e in range(3):
        row: Step = jax.tree.map(lambda x: x[e, 2], trajectories.step)  # noqa: B023
        memory = Far().begin(it.spec, row, SeedDraws(e))
        _, broken = Far().step(it.spec, memory, row, SeedDraws(e))
        for g, known, who, fine, far in zip(it.spec.groups, gate.groups, memory, row.obs, broken.obs, strict=True):
            is_out = lambda obs: outside(gate, score(known, features(known, readings(g, obs)), np.zeros(g.count)))  # noqa: B023
            np.testing.assert_array_equal(is_out(far), who)
            assert who.sum() == 1 and not is_out(fine).any()


def test_each_novelty_is_what_it_says() -> None:
    """Zeros, or the first row again, for one agent of each group, the others as they are; the same in JAX."""
    spec, (step, _, _) = make("proving:pair").spec, rollout("proving:pair", 4, 14)
    first, later = (jax.tree.map(lambda x: x[0, t], step) for t in (0, 3))  # noqa: B023
    for name, changed in {"dark": lambda then, now: 0 * now, "stuck": lambda then, now: then}.items():
        (fault,) = NOVELTIES[name]
        memory = fault.begin(spec, first, SeedDraws(4))
        who = memory if name == "dark" else memory[0]
        _, row = fault.step(spec, memory, later, SeedDraws(4))
        _, again = fault.step(spec, jax.tree.map(np.asarray, memory), jax.tree.map(jax.numpy.asarray, later), SeedDraws(4))
        for w, then, now, got, there in zip(who, first.obs, later.obs, row.obs, again.obs, strict=True):
            for k in now:
                np.testing.assert_array_equal(got[k], np.where(w[:, None], changed(then[k], now[k]), now[k]))
                np.testing.assert_array_equal(got[k], there[k])
                assert w.sum() == 1
