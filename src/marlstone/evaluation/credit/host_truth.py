"""What agents' actions were truly worth (`truth.py`), in an environment that only Python can step but that can go back.

The same estimand, and the same sampling noise: from the same keys both measure the same. Whatever an environment draws by
itself is part of its snapshots. Variants are played one after another, in one environment.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.algorithm import Algorithm, Policy
from marlstone.core.acting import Act
from marlstone.core.distributions import draw_group_noise
from marlstone.core.records import replace
from marlstone.core.types import Spec, Step
from marlstone.envs.host.snapshots import CANNOT
from marlstone.envs.make import make, parse
from marlstone.evaluation.credit.truth import Decisions, Worth
from marlstone.play.episodes import acting_by
from marlstone.play.evaluator import longest
from marlstone.rollout.counterfactuals import without
from marlstone.rollout.env_stepper import episode_seed
from marlstone.rollout.unroll import assemble, draw_noise

Array = Any
CANNOT_BE_COPIED = (Exception,)  # whatever holds a file, a window or a lock says so in its own way
CHECKED = 2  # steps played before the check, so that it is not made at a reset, and again after each pass


@dataclass(eq=False)
class Revisited:
    """One host environment that can go back, with autoreset; steps have a leading `[1]`."""

    env: Any
    seed: int = 0
    episode: int = field(default=0, init=False)
    over: bool = field(default=True, init=False)

    @property
    def spec(self) -> Spec:
        """The environment's, managers left out."""
        spec: Spec = self.env.spec
        return spec

    def begin(self, seed: int) -> Step:
        """The first step of the first episode of a life whose episodes are seeded from `seed`."""
        self.seed, self.episode, self.over = seed, 0, True
        return self.step(())

    def step(self, action: tuple[Array, ...]) -> Step:
        """Where the episode is over the action is ignored and another one begins."""
        if self.over:
            row = self.env.reset(episode_seed(self.seed, self.episode))
            self.episode += 1
        else:
            row = self.env.step(tuple(np.asarray(a)[0] for a in action))
        self.over = bool(row.last)
        return jax.tree.map(lambda x: np.asarray(x)[None], row)


def revisited(name: str, state: bool = True) -> Revisited:
    """The environment called `name`, seen to come back bit for bit; `state`: whether anybody reads its own `state()`. Raises ValueError
    with the reason where it does not."""
    refused = f"{name} cannot go back to a state it was in, so what actions were worth cannot be measured there"
    remedy = "audit in an environment written in JAX, or one whose adapter defines snapshot() and restore(state)"
    if why := CANNOT.get(parse(name)[0]):
        raise ValueError(f"{refused}: {why}; {remedy}")
    env: Any = make(name)
    if not state and hasattr(env, "without_state"):
        env.without_state()
    try:
        if not (hasattr(env, "snapshot") and hasattr(env, "restore")):
            raise ValueError(f"{refused}: it defines no snapshot() and restore(state); {remedy}")
        if (why := _changed(env)) is not None:
            raise ValueError(f"{refused}: {why}; {remedy}")
    except BaseException:
        env.close()
        raise
    return Revisited(env)


def _changed(env: Any) -> str | None:
    """Why `env` is not trusted: what went wrong when it was copied, or the first thing that differed in two steps played twice."""
    random = np.random.default_rng(0)
    it, row = Revisited(env), Revisited(env).begin(1)
    it.over = bool(row.last[0])
    for _ in range(CHECKED):
        row = it.step(_some(env.spec, row, random))
    if it.over:
        row = it.step(())
    actions = [_some(env.spec, row, random)]
    try:
        state, count = env.snapshot(), it.episode
        rows = []
        for _ in range(2):
            env.restore(state)
            it.over, it.episode = False, count
            now = it.step(actions[0])
            if len(actions) == 1:
                actions.append(_some(env.spec, now, random))
            rows.append((now, it.step(actions[1])))
            for _ in range(CHECKED):  # what comes later must not reach the snapshot
                now = it.step(_some(env.spec, rows[-1][1], random)) if not it.over else it.step(())
    except CANNOT_BE_COPIED as error:
        return f"its copy failed with {type(error).__name__}: {error}"
    pairs = zip(*rows, strict=True)
    field = next((f for a, b in pairs if (f := _unlike(a, b)) is not None), None)
    return None if field is None else f"after it went back, {field} was another for the same actions"


def _some(spec: Spec, row: Step, random: np.random.Generator) -> tuple[Array, ...]:
    """Random legal actions `[1 n_g ...]`, as environments take them."""
    out = []
    for g, legal in zip(spec.groups, row.legal, strict=True):
        noise = jax.device_get(g.space.noise(jax.random.key(int(random.integers(2**31))), (1, g.count)))
        out.append(g.space.emit(g.space.sample(np.zeros((1, g.count, g.space.head), np.float32), legal, noise)))
    return tuple(np.asarray(x) for x in out)


@dataclass(frozen=True, eq=False)
class Compiled:
    """What the device does for one algorithm, compiled once for all seeds; `samples`: decisions measured at once; `deployed`: how it
    acts; None: as training does."""

    algorithm: Algorithm
    samples: int
    deployed: Act | None = None

    @cached_property
    def act(self) -> Callable[..., Any]:
        """`Algorithm.act`, or as deployed, compiled once for all states that are visited."""
        return jax.jit(acting_by(self.algorithm, self.deployed))

    @cached_property
    def trajectory(self) -> Callable[..., Any]:
        """`unroll.assemble`, compiled: recorded steps and actions as one trajectory."""
        return jax.jit(partial(assemble, self.algorithm))

    @cached_property
    def noise(self) -> Callable[..., Any]:
        """`noise(key, length)`: the sampling noise of so many steps of one environment, as training draws it."""
        return jax.jit(lambda key, length: draw_noise(self.algorithm, key, length, 1)[0], static_argnums=1)

    @cached_property
    def follow(self) -> Callable[..., Any]:
        """`follow(policy, step, memory, first, s, t, key) -> emitted, memory`: what sample s does in step t, `first` in step 0, with the
        noise that `truth.play_on` draws for it."""
        groups, algorithm, choose = self.algorithm.spec.groups, self.algorithm, acting_by(self.algorithm, self.deployed)

        def act(policy: Policy, step: Step, memory: Any, first: tuple[Array, ...], s: Array, t: Array, key: Array) -> tuple[Any, Any]:
            k1, _ = jax.random.split(jax.random.fold_in(key, t))
            noise = draw_group_noise([g.space for g in groups], [g.count for g in groups], k1, (self.samples,))
            action, _, _, memory = choose(policy, step, memory, jax.tree.map(lambda x: x[s][None], noise))
            action = tuple(jnp.where(t == 0, a, b) for a, b in zip(first, action, strict=True))
            return algorithm.emit(action), memory

        return jax.jit(act)


def gather(env: Revisited, compiled: Compiled, policy: Policy, key: Array, length: int, most: int | None = None) -> Decisions:
    """`length` steps of the environment, sampling, `[1 t ...]`; `states`: a list of its snapshots, None where it was over, and where
    another was kept in its place: of long play `most` are, from each step with the same chance (reservoir sampling, Vitter 1985)."""
    k1, k2 = jax.random.split(key)
    step, memory = env.begin(int(jax.random.key_data(k1)[-1])), compiled.algorithm.memory(1)
    begin, noise = memory, jax.device_get(compiled.noise(k2, length))
    rows, memories = [], []
    states: list[Any] = [None] * length
    kept: list[int] = []
    seen, random = 0, np.random.default_rng(np.asarray(jax.random.key_data(key)))
    for t in range(length):
        action, emitted, heads, after = jax.device_get(compiled.act(policy, step, memory, jax.tree.map(lambda x: x[t], noise)))  # noqa: B023
        rows.append((step, action, heads))
        if not env.over:
            seen += 1
            place = len(kept) if most is None or len(kept) < most else int(random.integers(seen))
            if place < (most or seen):
                for old in kept[place : place + 1]:
                    states[old] = None
                states[t], kept[place : place + 1] = env.env.snapshot(), [t]
        memories.append(memory)
        step, memory = env.step(emitted), after
    stacked = jax.tree.map(lambda *xs: np.stack(xs), *rows)
    trajectories = jax.device_get(compiled.trajectory(stacked, step, begin))
    return Decisions(trajectories, states, jax.tree.map(lambda *xs: np.stack(xs, 1), *memories))


def choose(it: Decisions, samples: int, key: Array) -> np.ndarray:
    """So many of the decisions whose states were kept, `[s]`: where they are in the batch."""
    counts = np.asarray(it.trajectories.real).reshape(-1) & np.array([state is not None for state in it.states])
    return np.asarray(jax.random.choice(key, counts.shape[0], (samples,), p=counts / counts.sum()))


def continued(
    env: Revisited,
    compiled: Compiled,
    policy: Policy,
    it: Decisions,
    at: np.ndarray,
    who: np.ndarray,
    key: Array,
    window: int | None = None,
) -> Worth:
    """As `truth.continued`, of the decisions `at`. Raises ValueError where the same actions, taken again, lead elsewhere."""
    algorithm, gamma = compiled.algorithm, compiled.algorithm.discount
    variants = np.concatenate([np.zeros((1, algorithm.spec.n), bool), np.eye(algorithm.spec.n, dtype=bool)[who]])
    trajectories = it.trajectories
    returns = np.zeros((2, len(at), len(variants)), np.float32)
    for s, row in enumerate(at.tolist()):
        here = lambda tree: jax.tree.map(lambda x: x[:, row], tree)  # noqa: B023
        step, action, memory = here(trajectories.step), here(trajectories.action), here(it.memory)
        for v, out in enumerate(variants):
            first = without(algorithm.spec, action, out[None])
            env.env.restore(it.states[row])
            env.over = False
            then = None if out.any() else jax.tree.map(lambda x: x[:, row + 1], trajectories.step)  # noqa: B023
            returns[:, s, v] = _played_on(env, compiled.follow, policy, step, memory, first, s, key, then, gamma, window)
    acted = (trajectories.step.present & trajectories.step.deciding)[0, at][:, who]
    total, discounted = (np.where(acted, r[:, :1] - r[:, 1:], 0) for r in returns)
    return Worth(total, at, returns[0, :, 0], discounted)


def decisions_worth(env: Revisited, compiled: Compiled, policy: Policy, it: Decisions, who: np.ndarray, key: Array) -> Worth:
    """As `truth.decisions_worth`, of `compiled.samples` decisions."""
    k1, k2 = jax.random.split(key)
    return continued(env, compiled, policy, it, choose(it, compiled.samples, k1), who, k2)


def _played_on(
    env: Revisited, act: Callable[..., Any], policy: Policy, step: Step, memory: Any, first: tuple[Array, ...], s: int, key: Array,
    then: Step | None, gamma: float, window: int | None,
) -> tuple[float, float]:  # fmt: skip
    """The team's return from `step` on, and with discount `gamma`; `then`: the step that must follow, where it is known."""
    total, discounted, limit = np.float32(0), 0.0, longest(env.spec, None)
    for t in range(limit if window is None else min(window, limit)):
        emitted, memory = act(policy, replace(step, metrics={}), memory, first, s, t, key)
        step = env.step(jax.device_get(emitted))
        if t == 0 and then is not None and (field := _unlike(step, then)) is not None:
            raise ValueError(
                f"the environment went back, and the same actions led elsewhere: {field} was another; what actions were worth cannot be "
                "measured there: fix its snapshot(), or audit in an environment written in JAX"
            )
        total += step.team_reward[0]
        discounted += gamma**t * float(step.team_reward[0])
        if env.over:
            break
    return float(total), discounted


def _unlike(a: Step, b: Step) -> str | None:
    """The first field in which two steps are not the same bits."""
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True):
        if np.asarray(x).tobytes() != np.asarray(y).tobytes():
            return str(jax.tree_util.keystr(path, simple=True, separator="."))
    return None
