"""What goes wrong does so as declared, in NumPy and JAX alike, and nothing else changes."""

import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.core.distributions import Box, Discrete, MultiDiscrete
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.core.types import Group, Leaf, Metric, Spec, Step
from marlstone.envs.faults import (
    FAULTS,
    ActionDelay,
    ActionLoss,
    Death,
    Delay,
    Drift,
    Dropout,
    Extreme,
    Fault,
    Freeze,
    LateArrival,
    MessageFault,
    Noise,
    RewardDelay,
    RewardNoise,
    Skew,
    Volatile,
    fault_from_json,
    fault_to_json,
    with_faults,
)
from marlstone.envs.faults.contract import KeyDraws, SeedDraws
from marlstone.envs.faults.withheld import Withheld
from marlstone.envs.make import make
from tests.batches import quick

EYES = Group(
    "eyes", ("eye_0", "eye_1", "eye_2"), {"near": Leaf("vector", (3,)), "camera": Leaf("image", (2, 2, 1), "uint8")}, Discrete(3),
    features={"near": (3, 2, 3)}, default=1,
)  # fmt: skip
ARM = Group("arm", ("arm_0",), {"joint": Leaf("vector", (2,))}, Box(2))
LED = Group("managers", ("manager_0",), {"clock": Leaf("vector", (1,))}, MultiDiscrete((2, 3)), default=(0, 0), clock=2)
SPEC = Spec((EYES, ARM, LED), state=2, horizon=12, metrics={"score": Metric()})
N, T = SPEC.n, 12


@functools.cache
def script(t: int = T, seed: int = 0, legal: bool = True) -> tuple[list[Step], list[tuple[np.ndarray, ...]]]:
    """An episode of random rows `[t + 1]` and what agents do on each."""
    rng = np.random.default_rng(seed)
    rows, actions = [], []
    for i in range(t + 1):
        near = rng.normal(size=(3, 3)).astype(np.float32) * np.array([[1, 1, 1], [1, 1, 0], [1, 1, 1]], np.float32)
        near[0, :2] = near[0, :2] if i != 3 else -0.0
        camera = rng.integers(0, 256, (3, 2, 2, 1)).astype(np.uint8)
        reward = np.zeros(N, np.float32) if i == 0 else rng.normal(size=N).astype(np.float32)
        mask = rng.random((3, 3)) < 0.6
        mask[np.arange(3), rng.integers(0, 3, 3)] = True
        rows.append(
            Step(
                obs=({"near": near, "camera": camera}, {"joint": rng.normal(size=(1, 2)).astype(np.float32)},
                     {"clock": np.full((1, 1), i % 2, np.float32)}),
                state=rng.normal(size=2).astype(np.float32), reward=reward, team_reward=np.float32(reward[:4].sum()),
                discount=np.ones(N, np.float32), team_discount=np.float32(1), first=np.bool_(i == 0), last=np.bool_(i == t),
                legal=(mask if legal else np.ones((3, 3), bool), None, None),
                present=np.ones(N, bool), deciding=np.arange(N) < (N if i % 2 == 0 else N - 1), metrics={"score": np.float32(i)},
            )
        )  # fmt: skip
        act = rng.integers(0, 3, 3).astype(np.int32), np.tanh(rng.normal(size=(1, 2))).astype(np.float32), np.array([[1, 2]], np.int32)
        actions.append(act)
    return rows, actions


class Scripted:
    """Draws that are the same numbers in NumPy and JAX."""

    def __init__(self, xp: Any, seed: int = 0) -> None:
        self.xp, self.random = xp, np.random.default_rng(seed)

    def uniform(self, shape: tuple[int, ...] = ()) -> Any:
        return self.xp.asarray(self.random.random(shape, np.float32))

    def normal(self, shape: tuple[int, ...] = ()) -> Any:
        return self.xp.asarray(self.random.standard_normal(shape, np.float32))


def played(fault: Fault, xp: Any = np, draw: Any = None, **how: Any) -> tuple[list[Step], list[Any]]:
    """The script's rows as agents meet them, and actions as they reach the environment; all in NumPy."""
    rows, actions = script(**how)
    draw = draw or Scripted(xp)
    to = (lambda x: x) if xp is np else functools.partial(jax.tree.map, jnp.asarray)
    memory = fault.begin(SPEC, to(rows[0]), draw)
    memory, shown = fault.step(SPEC, memory, to(rows[0]), draw)
    seen, reached = [shown], []
    for action, row in zip(actions, rows[1:], strict=False):
        before = form(memory)
        memory, acted = fault.action(SPEC, memory, to(action), draw)
        memory, shown = fault.step(SPEC, memory, to(row), draw)
        assert before == form(memory), "a loop carries it"
        seen.append(shown)
        reached.append(acted)
    return (seen, reached) if xp is jnp else jax.tree.map(np.asarray, (seen, reached))


def form(tree: Any) -> Any:
    return jax.tree.structure(tree), [(np.shape(x), x.dtype) for x in jax.tree.leaves(tree)]


def stacked(rows: list[Any]) -> Any:
    return jax.tree.map(lambda *xs: np.stack(xs), *rows)


def same(a: Any, b: Any, tolerance: float = 0.0) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        where = jax.tree_util.keystr(path)
        assert x.dtype == y.dtype and x.shape == y.shape, where
        if tolerance:
            np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance, err_msg=where)
        else:
            assert x.tobytes() == y.tobytes(), where


NONE = (
    Noise(0), Noise(0, "absolute"), Dropout(0), Freeze(0), Delay(0), Skew(0), ActionDelay(0), ActionLoss(0), ActionLoss(0, "last"),
    Death(0, 5), LateArrival(0, 5), RewardDelay(0), RewardNoise(0), Extreme(0), Extreme(0, "nan"), Volatile(to_bad=0), Volatile(loss=0),
    Drift(0),
)  # fmt: skip
STRONG = (
    Noise(0.5), Noise(20, "absolute"), Noise(0.5, leaf="near"), Dropout(0.5), Freeze(0.3, 3), Delay(2), Skew(3), ActionDelay(2),
    ActionLoss(0.5), ActionLoss(0.5, "last"), Death(2, 6), LateArrival(1), RewardDelay(3), RewardNoise(0.5), Extreme(0.3),
    Extreme(0.3, "inf"), Extreme(0.3, "nan", leaf="near"), Volatile(0.3, 0.3, 0.5, 0.1, 2, "last"), Volatile(0.5, 0.5, 1.0),
    Drift(0.5, 3),
)  # fmt: skip
spelled = lambda fault: repr(fault)


@pytest.mark.parametrize("fault", NONE, ids=spelled)
def test_a_fault_of_no_strength_changes_nothing(fault: Fault) -> None:
    rows, actions = script()
    same(played(fault), (rows, actions[:-1]))


def test_every_fault_of_the_package_is_tried() -> None:
    for tried in (NONE, STRONG):
        # messages': test_message_faults; what is withheld from all: tests/policy/test_withheld
        assert {type(f) for f in tried} == {f for f in FAULTS if not issubclass(f, MessageFault | Withheld)}


@functools.cache
def in_jax() -> dict[Fault, Any]:
    """A few rows under each fault, in one compiled program."""
    return dict(zip(STRONG, jax.device_get(quick(lambda: [played(fault, jnp, t=4) for fault in STRONG])()), strict=True))


@pytest.mark.parametrize("fault", STRONG, ids=spelled)
def test_numpy_and_jax_agree_and_rows_keep_their_form(fault: Fault) -> None:
    same(played(fault, t=4), in_jax()[fault], 1e-5)
    (rows, actions), (seen, reached) = script(), played(fault)
    assert form(seen) == form(rows) and form(reached) == form(actions[:-1])
    assert any(
        x.tobytes() != y.tobytes() for x, y in zip(jax.tree.leaves((seen, reached)), jax.tree.leaves((rows, actions[:-1])), strict=True)
    )


@pytest.mark.parametrize("fault", STRONG, ids=spelled)
def test_what_is_true_stays_true(fault: Fault) -> None:
    """Masks, the critics' state, ends, metrics; rewards, but for faults of just that; managers are there and their orders heard; and
    only what is legal reaches the environment, but for what agents themselves did on it."""
    (rows, actions), (seen, reached) = script(), played(fault)
    kept = ["legal", "state", "first", "last", "metrics", "team_discount"]
    for name in kept if fault.kind.startswith("reward_") else [*kept, "reward", "team_reward"]:
        same([getattr(r, name) for r in seen], [getattr(r, name) for r in rows])
    for before, row, acted, did in zip(rows, seen[1:], reached, actions, strict=False):
        assert row.present[-1] and (acted[2] == did[2]).all()
        ok = before.legal[0][np.arange(3), acted[0]] | (acted[0] == did[0])
        assert ok.all()
        assert not (row.deciding & ~row.present).any()


def test_both_kinds_of_draws_are_uniform_and_normal_and_never_repeat() -> None:
    for draw in (SeedDraws(3), KeyDraws(jax.random.key(3))):
        u, z = np.asarray(draw.uniform((20_000,))), np.asarray(draw.normal((20_000,)))
        assert abs(u.mean() - 1 / 2) < 0.01 and abs(u.var() - 1 / 12) < 0.003 and u.min() >= 0 and u.max() < 1
        assert abs(z.mean()) < 0.03 and abs(z.std() - 1) < 0.02
        assert not np.array_equal(u, draw.uniform((20_000,)))
        assert u.dtype == z.dtype == np.float32


@functools.cache
def worlds() -> tuple[Any, Any]:
    """Where `proving:dummy` stands, row by row, with and without everything that can go wrong; and its copies' draws."""
    plain = make("proving:dummy")
    many = with_faults([f for f in STRONG if not f.refuses(plain.spec)], plain)

    def run(env: Any) -> Any:
        def tick(carry: Any, key: Any) -> Any:
            state, row = env.step(carry, (jnp.zeros(4, jnp.int32),), key)
            return state, (state.env if env is many else state, row)

        state, _ = env.init(jax.random.key(1))
        return jax.lax.scan(tick, state, jax.random.split(jax.random.key(2), 6))[1]

    return quick(lambda: run(plain))(), quick(lambda: run(many))()


def test_the_environment_draws_the_same_with_and_without_faults() -> None:
    (plain, row), (faulted, other) = worlds()
    same(jax.tree.map(np.asarray, plain), jax.tree.map(np.asarray, faulted))
    assert not np.array_equal(row.obs[0]["shown"] if "shown" in row.obs[0] else jax.tree.leaves(row.obs)[0], jax.tree.leaves(other.obs)[0])


def test_faults_over_faults_are_one_flat_list() -> None:
    """Nested, both would draw from the same key."""
    env = make("proving:dummy")
    assert with_faults([Dropout()], with_faults([Noise()], env)) == with_faults([Noise(), Dropout()], env)
    assert with_faults([], env) is env and hasattr(with_faults([Noise()], make("proving:flip")), "again")


# ---- sensors
def near(rows: list[Step]) -> np.ndarray:
    return np.stack([r.obs[0]["near"] for r in rows])


@pytest.mark.parametrize("k", [1, 2, 5])
def test_delay_shows_what_was_seen_k_rows_ago(k: int) -> None:
    (rows, _), (seen, _) = script(), played(Delay(k))
    np.testing.assert_array_equal(near(seen), near(rows)[np.maximum(np.arange(T + 1) - k, 0)])
    (only, _) = played(Delay(k, leaf="camera"))
    np.testing.assert_array_equal(near(only), near(rows))


def test_skewed_clocks_run_behind_by_rows_of_their_own() -> None:
    lags = set()
    for seed in range(8):
        (rows, _), (seen, _) = script(), played(Skew(3), draw=Scripted(np, seed))
        for agent in range(3):
            fits = [
                lag for lag in range(4) if np.array_equal(near(seen)[:, agent], near(rows)[np.maximum(np.arange(T + 1) - lag, 0), agent])
            ]
            assert len(fits) == 1, "one constant lag"
            lags.add(fits[0])
    assert lags == {0, 1, 2, 3}


def test_noise_is_as_large_as_its_unit_says() -> None:
    """A feature's largest magnitude so far, or one; padding and pixels' limits are kept."""
    (rows, _), t = script(800), 800
    absolute = near(played(Noise(0.5, "absolute"), t=t)[0]) - near(rows)
    assert abs(absolute[:, [0, 2]].std() - 0.5) < 0.02 and abs(absolute.mean()) < 0.02
    assert not absolute[:, 1, 2].any(), "padding"
    seen, _ = played(Noise(0.1), t=t)
    most = np.maximum.accumulate(np.abs(near(rows)), 0)
    z = (near(seen) - near(rows))[:, [0, 2]] / most[:, [0, 2]]
    assert abs(z.std() - 0.1) < 0.005 and abs(z[:400].std() - 0.1) < 0.01
    camera = lambda rows: np.stack([r.obs[0]["camera"] for r in rows]).astype(float)
    moved = (camera(seen) - camera(rows))[(camera(rows) > 100) & (camera(rows) < 155)]
    assert abs(moved.std() - 25.5) < 1.5 and abs(moved.mean()) < 1.5


def test_dropout_reads_zero_as_often_as_declared() -> None:
    seen, _ = played(Dropout(1.0))
    assert not any(x.any() for row in seen for leaves in row.obs for x in leaves.values())
    often, _ = played(Dropout(0.3), t=1000)
    zero = (near(often) == 0).all(-1)
    assert abs(zero.mean() - 0.3) < 0.03
    gone = np.stack([(r.obs[0]["camera"] == 0).reshape(3, -1).all(-1) for r in often])
    zero[3, 0] = gone[3, 0]  # the script shows zeros there
    np.testing.assert_array_equal(zero, gone)


def test_a_frozen_sensor_repeats_what_it_showed_for_its_rows() -> None:
    (rows, _), (seen, _) = script(400), played(Freeze(0.1, 4), t=400)
    shown, true = near(seen), near(rows)
    for agent in range(3):
        frozen = (shown[:, agent] != true[:, agent]).any(-1)
        assert (shown[1:, agent][frozen[1:]] == shown[:-1, agent][frozen[1:]]).all()
        runs = [len(x) for x in "".join("x" if f else " " for f in frozen).split()]
        assert set(runs[:-1]) <= {4, 8, 12, 16} and len(runs) > 10


def test_values_out_of_range_are_as_declared() -> None:
    for value, is_bad in (("large", lambda x: np.abs(x) == 1e3), ("inf", np.isinf), ("nan", np.isnan)):
        seen, _ = played(Extreme(0.2, value), t=500)
        bad = is_bad(near(seen))
        assert abs(bad[:, [0, 2]].mean() - 0.2) < 0.02 and not bad[:, 1, 2].any()
        camera = np.stack([r.obs[0]["camera"] for r in seen])
        assert (np.isin(camera, (0, 255)).mean() > 0.15) == (value == "large")


# ---- actions
def test_lost_actions_become_the_default_or_the_last() -> None:
    rows, actions = script()
    _, reached = played(ActionLoss(1.0))
    for row, acted in zip(rows, reached, strict=False):
        legal = row.legal[0]
        np.testing.assert_array_equal(acted[0], np.where(legal[:, 1], 1, legal.argmax(-1)))
        assert not acted[1].any()
    _, reached = played(ActionLoss(0.5, "last"), legal=False)
    acted, did = stacked(reached)[0], stacked(actions[:-1])[0]
    before = np.concatenate([np.ones((1, 3), np.int32), acted[:-1]])
    assert ((acted == did) | (acted == before)).all() and (acted != did).any()
    _, reached = played(ActionLoss(0.5), legal=False, t=1000)
    assert abs((stacked(reached)[1] == 0).all((1, 2)).mean() - 0.5) < 0.05


def test_late_actions_arrive_k_rows_later() -> None:
    _, actions = script(legal=False)
    _, reached = played(ActionDelay(2), legal=False)
    did, acted = stacked(actions[:-1]), stacked(reached)
    for g in (0, 1):
        np.testing.assert_array_equal(acted[g][2:], did[g][:-2])
    assert (acted[0][:2] == 1).all() and not acted[1][:2].any()


# ---- who is there
@pytest.mark.parametrize(("count", "within"), [(1, 5), (2, None), (3, 1)])
def test_the_dead_are_gone_for_good(count: int, within: int | None) -> None:
    rows, _ = script()
    rowsets = set()
    for seed in range(12):
        seen, reached = played(Death(count, within), draw=Scripted(np, seed))
        here = np.stack([r.present for r in seen])
        assert here[0].all() and not (here[1:] & ~here[:-1]).any(), "nobody comes back"
        dead = ~here[-1]
        assert dead.sum() == count and not dead[-1]
        for t, row in enumerate(seen):
            gone = ~row.present
            assert not row.deciding[gone].any() and not row.discount[gone].any() and (row.discount[~gone] == 1).all()
            assert (
                not any(x[gone[:3]].any() for x in row.obs[0].values())
                and (row.obs[0]["near"][~gone[:3]] == rows[t].obs[0]["near"][~gone[:3]]).all()
            )
            if t < T:
                legal = rows[t].legal[0]
                np.testing.assert_array_equal(reached[t][0][gone[:3]], np.where(legal[:, 1], 1, legal.argmax(-1))[gone[:3]])
                np.testing.assert_array_equal(reached[t][0][~gone[:3]], script()[1][t][0][~gone[:3]])
        when = here[:, dead].sum(0)
        assert (when >= 1).all() and (when <= (within or T)).all()
        rowsets.add(tuple(dead))
    assert len(rowsets) > 1, "who dies is drawn"


def test_who_comes_late_stays() -> None:
    for seed in range(6):
        seen, reached = played(LateArrival(2, 4), draw=Scripted(np, seed), legal=False)
        here = np.stack([r.present for r in seen])
        late = ~here[0]
        assert late.sum() == 2 and here[4:].all() and not (here[:-1] & ~here[1:]).any()
        assert all((r.discount == 1).all() for r in seen)
        for t, acted in enumerate(reached):
            assert (acted[0][~here[t, :3]] == 1).all()


# ---- rewards
def test_rewards_come_late_and_returns_stay() -> None:
    (rows, _), (seen, _) = script(), played(RewardDelay(3))
    true, delayed = (np.stack([r.reward for r in x]) for x in (rows, seen))
    np.testing.assert_array_equal(delayed[3:T], true[: T - 3])
    assert not delayed[:3].any()
    np.testing.assert_allclose(delayed.sum(0), true.sum(0), rtol=1e-5)
    team = lambda rows: sum(float(r.team_reward) for r in rows)
    assert team(seen) == pytest.approx(team(rows), rel=1e-5)
    whole, _ = played(RewardDelay(1000))
    np.testing.assert_allclose(whole[-1].reward, true.sum(0), rtol=1e-5)


def test_reward_noise_is_unbiased_and_adds_up() -> None:
    (rows, _), (seen, _) = script(2000), played(RewardNoise(0.5), t=2000)
    z = np.stack([r.reward for r in seen]) - np.stack([r.reward for r in rows])
    assert not z[0].any() and abs(z[1:, :4].std() - 0.5) < 0.02 and abs(z.mean()) < 0.02
    team = np.array([float(a.team_reward - b.team_reward) for a, b in zip(seen, rows, strict=True)])
    np.testing.assert_allclose(team, z[:, :4].sum(1), atol=1e-4)
    np.testing.assert_allclose(z[:, 4], team / 4, atol=1e-4)


# ---- the link
def test_a_volatile_link_is_bad_in_bursts_and_holds_what_came_last() -> None:
    (rows, _), (seen, _) = script(4000), played(Volatile(0.05, 0.25, 1.0), t=4000)
    shown, true = near(seen), near(rows)
    lost = (shown != true).any(-1)
    assert abs(lost.mean() - 0.05 / 0.3) < 0.03
    runs = [len(x) for x in "".join("x" if f else " " for f in lost[:, 0]).split()]
    assert abs(np.mean(runs) - 4) < 0.6
    assert (shown[1:][lost[1:]] == shown[:-1][lost[1:]]).all()
    begins = [played(Volatile(0.3, 0.3, 1.0), t=1, draw=Scripted(np, s))[0][0].obs[0]["near"].any(-1) for s in range(300)]
    assert abs(np.mean(begins) - 0.5) < 0.06, "and is so from the first row on, where nothing came before"


def test_actions_over_a_bad_link_are_late_and_lost() -> None:
    _, actions = script(legal=False)
    _, reached = played(Volatile(1.0, 0.0, 0.0, delay=2), legal=False)
    np.testing.assert_array_equal(stacked(reached)[0][2:], stacked(actions[:-1])[0][:-2])
    seen, _ = played(Volatile(1.0, 0.0, 0.0, delay=2))
    np.testing.assert_array_equal(near(seen)[2:], near(script()[0])[:-2])
    _, reached = played(Volatile(1.0, 0.0, 1.0), legal=False)
    assert (stacked(reached)[0] == 1).all()


# ---- what is refused, and how faults travel
@pytest.mark.parametrize(
    ("make_it", "says"),
    [
        (lambda: Noise(-1), "scale is -1: give a number from 0 to 1e+06"),
        (lambda: Noise(float("nan")), "scale is nan"),
        (lambda: Noise(unit="meter"), "unit is 'meter'; choose one of: full_scale, absolute"),
        (lambda: Dropout(1.5), "rate is 1.5"),
        (lambda: Freeze(0.1, 0), "rows is 0"),
        (lambda: Delay(-1), "rows is -1"),
        (lambda: Skew(10**6), "rows is 1000000"),
        (lambda: ActionDelay(-1), "rows is -1"),
        (lambda: ActionLoss(0.1, "first"), "instead is 'first'"),
        (lambda: Death(-1), "agents is -1"),
        (lambda: LateArrival(1, 0), "within is 0"),
        (lambda: RewardDelay(-1), "rows is -1"),
        (lambda: RewardNoise(-0.1), "scale is -0.1"),
        (lambda: Extreme(value="huge"), "value is 'huge'"),
        (lambda: Volatile(loss=2), "loss is 2"),
        (lambda: with_faults([Death(4)], make("proving:dummy")), "fault 'death': agents is 4, of a team of 4: leave at least one"),
        (lambda: with_faults([Noise(leaf="radar")], make("proving:dummy")), "leaf is 'radar', which nobody observes"),
        (lambda: with_faults([Death()], make(f"{Path(__file__).parents[1] / 'twin.py'}:make")), "give within, in steps"),
        (lambda: with_faults([Extreme(value="nan", leaf="picture")], make("proving:dials")), "use value = 'large'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_a_remedy(make_it: Any, says: str) -> None:
    with pytest.raises(UserError) as error:
        make_it()
    assert says in str(error.value)


def test_faults_travel_as_json(tmp_path: Path) -> None:
    for fault in (*NONE, *STRONG):
        assert fault_from_json(json.loads(json.dumps(fault_to_json(fault)))) == fault
    from marlstone.config import load

    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom typing import ClassVar\nfrom marlstone.core.records import replace\n"
        "from marlstone.envs.faults import Fault\n\n\n@dataclass(frozen=True)\nclass Blind(Fault):\n    to: tuple[float, ...] = (1.0,)\n\n"
        "    def row(self, spec, memory, row, draw):\n        return memory, replace(row, state=row.state * 0 + self.to[0])\n"
    )
    (mine,) = load(None, {"env": "proving:dummy", "faults": f'[{{kind = "{file}:Blind", to = [2, 3]}}]'}).faults
    there = fault_from_json(json.loads(json.dumps(fault_to_json(mine))))
    assert type(there).__name__ == "Blind" and vars(there) == vars(mine) == {"to": (2.0, 3.0)}
    assert (played(there)[0][0].state == 2).all() and (replace(mine, to=(5.0,)).to) == (5.0,)
