"""Episodes as pictures: a policy plays as it is deployed, and its environment draws what happens.

An environment written in JAX may have `render(state) -> [h w 3]` uint8; of one without, what agents observe is drawn. One that Python steps
renders as it does for people, by `render_mode = "rgb_array"`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from marlstone.core.compile_options import FAST_COMPILE, supported
from marlstone.core.errors import UserError
from marlstone.core.types import Step
from marlstone.envs.board import is_picture, observations
from marlstone.envs.make import make, parse
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.vectorized import Vectorized
from marlstone.play.action_selectors import Decider
from marlstone.play.evaluator import add, init_episodes, longest, over
from marlstone.rollout.unroll import RolloutState

Array = Any
MODE = "rgb_array"


@dataclass(frozen=True)
class Frame:
    """One picture of an episode after `step` steps, the team's `team_return` so far, and whether it `ended` there."""

    episode: int
    step: int
    picture: np.ndarray
    team_return: float
    ended: bool


def film_jax(
    env: Vectorized, b: int, decider: Decider, policy: Any, key: Array, temperature: Array, most: int | None, shown: int
) -> Iterator[Frame]:
    """The first `shown` of the episodes that `evaluator.play` plays from this key: the ones that are reported."""
    draw = renderer(env.env)
    k1, k2, k3 = jax.random.split(key, 3)
    metrics, limit = env.spec.metrics, longest(env.spec, most)

    def tick(i: Array, now: RolloutState, so_far: Any) -> tuple[RolloutState, Any]:
        action, memory = decider.decide(policy, now.step, now.memory, jax.random.fold_in(k2, i), temperature)
        state, step = env.step(now.env, decider.algorithm.emit(action), jax.random.split(jax.random.fold_in(k3, i), b))
        return RolloutState(state, step, memory), add(so_far, step, metrics)

    options = supported(FAST_COMPILE)
    state, step = jax.jit(env.init, compiler_options=options)(jax.random.split(k1, b))
    now, so_far = RolloutState(state, step, decider.memory(b)), init_episodes(b, env.spec.n, metrics)
    going, advance = list(range(shown)), jax.jit(tick, compiler_options=options)
    kept: dict[int, list[Frame]] = {e: [] for e in going}
    for t in range(limit + 1):
        if t:
            now, so_far = advance(t - 1, now, so_far)
        seen = jax.device_get((now.env.env, now.step, so_far.team_return, over(so_far)))
        for e in list(going):
            inner, step, earned, done = jax.tree.map(lambda x: x[e], seen)  # noqa: B023
            kept[e].append(Frame(e, t, draw(inner, step), float(earned), bool(done)))
            if done:
                going.remove(e)
        if not going:
            break
    for frames in kept.values():
        yield from frames


def renderer(env: Any) -> Callable[[Any, Step], np.ndarray]:
    """`draw(state, step)`: the environment's own picture under whatever is put over it, else what agents observe."""
    layers, inner = 0, env
    while not hasattr(inner, "render") and hasattr(inner, "env"):
        inner, layers = inner.env, layers + 1
    if not hasattr(inner, "render"):
        return lambda state, step: observations(env.spec, step)

    def draw(state: Any, step: Step) -> np.ndarray:
        for _ in range(layers):
            state = state.env
        return _checked(np.asarray(inner.render(state)), type(inner).__name__)

    return draw


def _checked(picture: Any, name: str) -> np.ndarray:
    if not is_picture(picture):
        shape = f"{picture.dtype}{list(picture.shape)}" if isinstance(picture, np.ndarray) else type(picture).__name__
        raise UserError(f"{name}.render gave {shape}: a film needs pictures [h, w, 3] of uint8 (render_mode = {MODE!r})")
    return np.array(picture)


def rendering(name: str, options: dict[str, Any]) -> Any:
    """The environment that Python steps, made to render. Raises `UserError` for one that cannot."""
    source, _, given = parse(name)
    if source == "sumo":
        raise UserError(f"--film: {name} draws no pictures (libsumo has no window): look at its true metrics, or record it in sumo-gui")
    if "render_mode" in {**given, **options}:
        return make(name, options)
    try:
        return make(name, {**options, "render_mode": MODE})
    except (UnknownEnvironment, TypeError):
        return make(name, options)  # its factory takes no render_mode: perhaps it renders all the same


def film_host(
    env: Any, reset: Callable[[int], Step], shown: int, decider: Decider, policy: Any, key: Array, temperature: Array, limit: int
) -> Iterator[Frame]:
    """`shown` episodes, one after another. `reset(e)`: the first step of episode e; `env`: what is stepped, whatever is put over it."""
    inner = env
    while not hasattr(inner, "render") and hasattr(inner, "env"):
        inner = inner.env
    name = type(inner).__name__
    if not hasattr(inner, "render"):
        raise UserError(f"--film: {name} has no render: a film needs an environment that draws pictures (render_mode = {MODE!r})")
    picture = lambda: _checked(inner.render(), name)
    decide, emit = jax.jit(decider.decide), jax.jit(decider.algorithm.emit)
    batch = lambda step: jax.tree.map(lambda x: np.asarray(x)[None], step)
    for e in range(shown):
        step, memory, earned = reset(e), decider.memory(1), 0.0
        yield Frame(e, 0, picture(), earned, False)
        for t in range(limit):
            action, memory = decide(policy, batch(step), memory, jax.random.fold_in(jax.random.fold_in(key, e), t), temperature)
            step = env.step(tuple(np.asarray(a)[0] for a in jax.device_get(emit(action))))
            earned += float(step.team_reward)
            yield Frame(e, t + 1, picture(), earned, bool(step.last))
            if step.last:
                break
