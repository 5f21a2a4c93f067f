"""What tools keep in any environment: without a call nothing changes; results come when they are due and not before; budgets hold; NumPy
and JAX agree."""

from dataclasses import replace as changed
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from marlstone.comms import Broadcast
from marlstone.core.distributions import Composite, Discrete, MultiDiscrete
from marlstone.core.errors import UserError
from marlstone.core.spec_json import spec_from_json, spec_to_json
from marlstone.core.usage import LEAF, usage_of
from marlstone.envs.faults import with_faults
from marlstone.envs.faults.contract import faults_of
from marlstone.envs.faults.sensors import Noise
from marlstone.envs.make import make
from marlstone.evaluation.credit.random_play import quick
from marlstone.tools import DelayLine, ExternalMemory, Toolbox, toolbox_from_json, toolbox_to_json
from marlstone.tools.exchange import Draws, Request, draw_shapes
from marlstone.tools.layout import MEMORY, TOOLS, ToolLayout, without_tools

N, STEPS = 2, 40
LOOK = DelayLine("look", "players", reads="view", size=3, latency=2)
SHAKY = DelayLine(
    "part", "players", size=1, arguments=3, reads="view", price=(0.5, 2.0, 3.0), changes=0.2, latency=(1, 3), failure=0.4, timeout=2,
    attempts=3, calls=5, team_calls=6,
)  # fmt: skip
BOX = Toolbox((LOOK, SHAKY), ExternalMemory(2, 3, agents="players", read_price=0.25, write_price=(0.1, 0.2), reads=3))
SHARED = Toolbox((), ExternalMemory(2, 3, symbols=True, shared=True))
NOTES = Toolbox((LOOK,), ExternalMemory(2, 3, stores="view", agents="players"))
KEYED = Toolbox((LOOK,), ExternalMemory(3, 2, lookup="attention", shared=True, writes=4))


def bare() -> Any:
    return make("proving:pair", {})


def random_requests(box: Toolbox, n: int, seed: int) -> tuple[Request, np.ndarray, Draws, np.ndarray]:
    """`STEPS` of requests, who acts, draws, and what delay lines could read, at random."""
    rng, memory = np.random.default_rng(seed), box.memory
    w = memory.width if memory.slots else 0
    content = rng.normal(size=(STEPS, n, w)).astype(np.float32)
    key = rng.normal(size=(STEPS, n, w)).astype(np.float32)
    a, b = draw_shapes(box, n)
    wide = sum(t.size * t.arguments for t in box.tools) + (w if memory.stores else 0)
    return (
        Request(rng.integers(0, box.choices, (STEPS, n)).astype(np.int32), content, key),
        rng.random((STEPS, n)) < 0.8,
        Draws(rng.random((STEPS, *a), np.float32), rng.random((STEPS, *b), np.float32)),
        rng.normal(size=(STEPS, n, wide)).astype(np.float32),
    )


def layout(box: Toolbox) -> ToolLayout:
    """Over two agents who see a vector of three numbers."""
    from marlstone.core.types import Group, Leaf, Spec

    group = Group("players", ("a", "b"), {"view": Leaf("vector", (3,)), "eye": Leaf("vector", (1,))}, Discrete(3))
    return ToolLayout(box, Spec((group,), 0))


def played(box: Toolbox, seed: int = 0, xp: Any = np, source: Any = None) -> list[Any]:
    """States of a random play, the first included, with what was allowed."""
    it = layout(box)
    requests, acts, draws, read = random_requests(box, N, seed)
    read = read if source is None else source
    from marlstone.tools.exchange import allowed

    def one(state: Any, t: int, move: Any) -> Any:
        may = allowed(box, it.owners, state, move[1])
        return it.after(state, move[0], may, move[3], move[2]), may

    step = quick(lambda s, m: one(s, 0, m)) if xp is jnp else lambda s, m: one(s, 0, m)
    state, out = it.begin(Draws(np.zeros(0), draws.price[0]), xp), []
    for t in range(STEPS):
        state, may = step(state, jax.tree.map(lambda x: x[t], (requests, acts, draws, read)))  # noqa: B023
        out.append((state, np.asarray(may)))
    return out


@pytest.mark.parametrize("box", [BOX, SHARED, KEYED, NOTES], ids=["tools", "symbols", "keys", "notes"])
def test_numpy_and_jax_agree(box: Toolbox) -> None:
    """Step by step, over random calls: counts to the bit, numbers to rounding."""
    for (a, may), (b, mine) in zip(played(box), played(box, xp=jnp), strict=True):
        assert (may == mine).all()
        for name in vars(a):
            x, y = np.asarray(getattr(a, name)), np.asarray(getattr(b, name))
            assert x.dtype == y.dtype and x.shape == y.shape, name
            np.testing.assert_allclose(x, y, rtol=0, atol=0 if x.dtype.kind in "ib" else 1e-6, err_msg=name)


def test_without_a_call_nothing_changes() -> None:
    """Deaths, masks, a late agent, Box and MultiDiscrete: everything the environment itself gives is the same to the bit."""
    env, given = bare(), BOX.over(bare())
    step, tooled = quick(env.step), quick(given.step)
    state, one = quick(env.init)(jax.random.key(3))
    mine, other = quick(given.init)(jax.random.key(3))
    for t in range(5):
        rng = np.random.default_rng(t)
        acts = (rng.integers(0, 3, 2), rng.uniform(-1, 1, (1, 1)).astype(np.float32), np.array([[1, 2]]))
        for name in ("state", "reward", "team_reward", "discount", "team_discount", "first", "last", "present", "deciding"):
            assert (np.asarray(getattr(one, name)) == np.asarray(getattr(other, name))).all(), name
        assert set(other.obs[0]) == {TOOLS, MEMORY, "prices", LEAF}  # its only leaf is asked for now
        assert (np.asarray(one.obs[2]["view"]) == np.asarray(other.obs[2]["view"])).all()
        assert (np.asarray(one.legal[0]) == np.asarray(other.legal[0])[:, :3]).all()
        assert not np.asarray(usage_of(given.spec, other)).any()
        state, one = step(state, acts, jax.random.key(t))
        mine, other = tooled(mine, given.layout.idle(acts), jax.random.key(t))


def test_a_result_arrives_at_its_latency_and_not_before() -> None:
    """What was read is what the leaf held when the call was made; until it is there, nothing of the leaf can be seen."""
    box = Toolbox((LOOK,))
    it = layout(box)
    begun = it.begin(Draws(np.zeros(0), np.zeros((2, 1), np.float32)), np)
    none = np.zeros((N, 0), np.float32)
    seen: list[np.ndarray] = []
    for value in (1.0, -7.0):
        state, shown = begun, []
        for t in range(5):
            choice = np.array([1 if t == 1 else 0, 0], np.int32)
            source = np.full((N, 3), value + t, np.float32)
            may = np.ones((N, 2), bool)
            state = it.after(
                state, Request(choice, none, none), may, source, Draws(np.ones((1, 2, N, 1), np.float32) * 0.5, np.ones((2, 1)))
            )
            shown.append(it._shown(state, np)[TOOLS])
        seen.append(np.stack(shown))
    first, second = seen
    assert (first[:2] == second[:2]).all() and (first[:, 1] == second[:, 1]).all()
    assert first[0, 0].tolist() == [0, 0, 0, 0, 0, 0, 0, 1] and first[1, 0].tolist() == [0, 0, 0, 0, 0, 0, 1, 1]  # pending
    assert first[2, 0].tolist() == [2, 2, 2, 1, 1, 0, 0, 1] and second[2, 0, :3].tolist() == [-6, -6, -6]
    assert first[4, 0].tolist() == [2, 2, 2, 1, np.float32(1 / 3), 0, 0, 1]  # two steps old, as it was read


def test_budgets_hold_and_masks_say_so() -> None:
    """Each agent's own, and the team's where several call at once; who is refused pays nothing and sees that it failed."""
    for seed in range(4):
        for (state, _), before in zip(played(BOX, seed), [None, *[s for s, _ in played(BOX, seed)]], strict=False):
            assert (state.calls[:, 1] <= 5).all() and state.calls[:, 1].sum() <= 6 and (state.reads <= 3).all()
            assert (state.used[:, 0] == state.called.sum(1)).all() and (state.used[:, 1] >= state.used[:, 0]).all()
            assert (state.used[:, 2] == state.used[:, 1] - state.used[:, 0]).all()
            if before is not None:
                assert (state.calls - before.calls == state.called).all()
                assert not (state.called & (before.left > 0)).any()  # one at a time
    one = Toolbox((changed(LOOK, price=2.0, team_calls=1),))
    it = layout(one)
    state, none = it.begin(Draws(np.zeros(0), np.zeros((2, 1), np.float32)), np), np.zeros((N, 0), np.float32)
    draws, both = Draws(np.ones((1, 2, N, 1), np.float32), np.ones((2, 1))), np.ones((N, 2), bool)
    state = it.after(state, Request(np.ones(N, np.int32), none, none), both, np.zeros((N, 3), np.float32), draws)
    assert state.called[:, 0].tolist() == [True, False] and state.failed[:, 0].tolist() == [False, True]
    assert state.used[:, 5].tolist() == [2, 0]


def test_attempts_and_prices_are_counted_as_drawn() -> None:
    """Failures, latencies and prices occur as often as they were declared, and every attempt is paid at the price of its step."""
    calls = fails = 0
    lasted: dict[int, int] = {}
    box = Toolbox((changed(SHAKY, calls=0, team_calls=0),))
    for seed in range(30):
        states = [s for s, _ in played(box, seed)]
        for now, later in pairwise(states):
            paid = later.used[:, 1] * now.price[0]
            np.testing.assert_allclose(later.used[:, 5], paid, rtol=1e-6)
            for i in range(N):
                if later.called[i, 0]:
                    calls, fails = (
                        calls + 1,
                        fails + (later.left[i, 0] == 0 and not later.ok[i, 0]) + (later.left[i, 0] > 0 and not later.ok[i, 0]),
                    )
                    lasted[int(later.left[i, 0]) + 1] = lasted.get(int(later.left[i, 0]) + 1, 0) + 1
    one = 0.4 + 0.6 / 3  # an attempt fails, or takes three steps of two
    assert calls > 300 and abs(fails / calls - one**3) < 0.08
    assert min(lasted) == 1 and max(lasted) <= 6


def test_memory_is_a_memory() -> None:
    """What was written is looked up, by whom it may be; the last writer counts; look-ups see what was there before."""
    it = layout(SHARED)
    state = it.begin(Draws(np.zeros(0), np.zeros((2, 2), np.float32)), np)
    none, draws, may = np.zeros((N, 0), np.float32), Draws(np.zeros((0, 2, N, 0)), np.ones((2, 2))), np.ones((N, 5), bool)

    def do(state: Any, choice: list[int], content: list[int]) -> Any:
        return it.after(state, Request(np.array(choice, np.int32), np.eye(3, dtype=np.float32)[content], none), may, none, draws)

    state = do(state, [1, 1], [0, 2])  # both write slot 0
    assert state.slots[0, 0].tolist() == [0, 0, 1] and state.written.tolist() == [[True, False]] and state.used[:, 4].tolist() == [1, 1]
    state = do(state, [3, 1], [0, 1])  # one looks it up while the other overwrites it
    assert state.read[0].tolist() == [0, 0, 1] and state.used[0].tolist() == [0, 0, 0, 1, 0, 0]
    state = do(state, [3, 4], [0, 0])
    assert state.read.tolist() == [[0, 1, 0], [0, 0, 0]] and state.read_age.tolist() == [0, -1]  # slot 1 is empty


def test_a_leaf_is_stored_as_it_was_shown() -> None:
    """Where the memory stores a leaf, an action has no content."""
    it = layout(NOTES)
    assert it.spec.groups[0].space == MultiDiscrete((3, 6))
    state, none = it.begin(Draws(np.zeros(0), np.zeros((2, 3), np.float32)), np), np.zeros((N, 0), np.float32)
    draws, may = Draws(np.ones((1, 2, N, 1)), np.ones((2, 3))), np.ones((N, 6), bool)
    source = np.arange(12, dtype=np.float32).reshape(N, 6)
    state = it.after(state, Request(np.array([3, 2], np.int32), none, none), may, source, draws)
    state = it.after(state, Request(np.array([5, 5], np.int32), none, none), may, source * 0, draws)
    assert state.read.tolist() == [[3, 4, 5], [0, 0, 0]] and state.read_age.tolist() == [0, -1]


def test_a_key_finds_what_is_like_it() -> None:
    """Look-ups by attention weigh written slots alone, and writes go to the slots in turn."""
    it = layout(KEYED)
    state = it.begin(Draws(np.zeros(0), np.zeros((2, 3), np.float32)), np)
    draws, may, source = Draws(np.ones((1, 2, N, 1)), np.ones((2, 3))), np.ones((N, 4), bool), np.zeros((N, 3), np.float32)
    rows = np.array([[9, 0], [0, 9]], np.float32)
    state = it.after(state, Request(np.array([2, 2], np.int32), rows, rows), may, source, draws)
    assert state.wrote.tolist() == [2] and state.written.tolist() == [[True, True, False]]
    state = it.after(state, Request(np.array([3, 3], np.int32), rows * 0, rows[::-1]), may, source, draws)
    np.testing.assert_allclose(state.read, rows[::-1], atol=1e-5)


def test_the_dead_call_nothing() -> None:
    """In the game in which one dies and one comes late: whoever is not there has no choice, and what it is made to choose is not done."""
    given = Toolbox((LOOK,)).over(bare())
    state, step = quick(given.init)(jax.random.key(0))
    go, called = quick(given.step), []
    for t in range(5):
        acts = [np.array(a) for a in given.layout.idle((np.zeros(2, np.int32), np.zeros((1, 1), np.float32), np.zeros((1, 2), np.int32)))]
        acts[0][:, 1] = 1
        may = np.asarray(step.legal[0])[:, 3:]
        state, step = go(state, tuple(acts), jax.random.key(t))
        called.append((np.asarray(state.tools.called)[:2, 0].tolist(), may[:, 1].tolist()))
    assert all(did == could for did, could in called)
    assert called[0][0] == [True, True] and not any(did[1] for did, _ in called[3:])
    assert not np.asarray(state.tools.calls)[2:].any()  # not theirs


def test_actions_become_choices_or_a_composite() -> None:
    """Where all parts are choices value-based learners can follow; numbers make a Composite; a channel goes over either."""
    given = BOX.over(bare())
    spaces = [g.space for g in given.spec.groups]
    assert all(isinstance(s, Composite) for s in spaces)  # the memory holds numbers
    assert [g.space for g in Toolbox((LOOK,)).over(bare()).spec.groups][::2] == [MultiDiscrete((3, 2)), MultiDiscrete((2, 3, 2))]
    assert spec_from_json(spec_to_json(given.spec)) == given.spec
    talk = Broadcast("float", 2).over(Toolbox((LOOK,)).over(bare()))
    state, step = quick(talk.init)(jax.random.key(0))
    blank = tuple(np.zeros((g.count, *g.space.action_shape), g.space.action_dtype) for g in talk.spec.groups)
    blank[0][:, 1] = 1
    _, step = quick(talk.step)(state, blank, jax.random.key(1))
    assert np.asarray(step.obs[0][LEAF])[:, 0].tolist() == [1, 1]


def test_the_environments_own_group_can_be_found_again() -> None:
    """As a policy's folder needs it, which knows the toolbox and the groups that networks know."""
    for box in (BOX, SHARED, KEYED, NOTES):
        inner = bare().spec
        for g, own in zip(ToolLayout(box, inner).spec.groups, inner.groups, strict=True):
            found = without_tools(g, box)
            assert (found.recorded_defaults == own.recorded_defaults).all()
            assert changed(found, default=own.default) == own


def test_tools_stand_over_faults() -> None:
    """A sensor that is called is as wrong as one that is seen; what is recorded of usage is not."""
    given = with_faults((Noise(10.0),), Toolbox((LOOK,)).over(bare()))
    assert [f.kind for f in faults_of(given)] == ["noise"] and given.spec == Toolbox((LOOK,)).over(bare()).spec
    state, _ = quick(given.init)(jax.random.key(0))
    assert np.abs(np.asarray(state.source)[:2]).max() > 2


def test_boxes_survive_json() -> None:
    """For worker processes."""
    for box in (BOX, SHARED, KEYED, NOTES):
        assert toolbox_from_json(toolbox_to_json(box)) == box


@pytest.mark.parametrize(
    ("box", "says"),
    [
        (Toolbox((changed(LOOK, agents=""),)), "group 'arm' has no such vector leaf"),
        (Toolbox((changed(LOOK, size=2),)), "give a size of 3"),
        (Toolbox((changed(LOOK, agents="nobody"),)), "names no agent"),
    ],
)
def test_what_does_not_fit_is_refused(box: Toolbox, says: str) -> None:
    with pytest.raises(UserError, match=says):
        box.over(bare())


def test_fields_out_of_range_are_refused() -> None:
    for more, says in (
        ({"latency": 0}, "latency"), ({"failure": 1.5}, "failure"), ({"changes": 0.1}, "one price"), ({"attempts": 0}, "attempts"),
        ({"name": "a b"}, "name"), ({"price": (-1.0,)}, "price"), ({"reads": ""}, "reads"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=says):
            changed(LOOK, **more)
    with pytest.raises(ValueError, match="no memory"):
        ExternalMemory(width=3)
    with pytest.raises(ValueError, match="twice"):
        Toolbox((LOOK, LOOK))
