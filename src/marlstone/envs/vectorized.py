"""Many JAX environments stepped together, with next-step autoreset: what the fused runtime scans over."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from marlstone.core.records import record
from marlstone.core.types import Array, Spec, Step
from marlstone.envs.constant import ENDLESS, EVERYBODY, filled, without
from marlstone.envs.guards import VALUES, BadStep, Guards, name_fault, sanitize
from marlstone.envs.protocol import Env

FEW = 8  # up to b / FEW resets on a step are made as a batch of that size


@record
class VectorState:
    """State of `b` environments.

    Attributes:
      env: their states, `[b ...]`.
      over: which of them ended on the previous step (without resets: on any), `[b]`.
      faults: faults repaired so far, by name.
      bad: where faults are refused, the steps `[b ...]` that had the first one.
    """

    env: Any
    over: Array
    faults: dict[str, Array]
    bad: Step | None


@dataclass(frozen=True)
class Vectorized:
    """`b` copies of `env` as a `VectorEnv`. The step after one with `last` is a reset: `first`, reward 0, its action ignored.

    Fresh episodes are made only on the steps where somebody needs one, and for an eighth of the batch where that suffices: one decision
    for the whole batch, so `step` must not itself be vmapped over environments (over seeds it may: then on the steps where some seed needs
    one). `keys` is `[b]`, one per environment and step; the same key serves the step or the reset, never both.

    Attributes:
      env: one environment.
      b: how many copies.
      guards: every step passes them: NaN and infinities are repaired and counted; under `refuse`, `refusal` names the first.
      resets: without, there is no next episode: what comes after an end means nothing, and compiling is much cheaper.

    Raises:
      ValueError: fewer than one environment, or a field declared constant that cannot be.
    """

    env: Env
    b: int
    guards: Guards = field(default_factory=Guards)
    resets: bool = True

    def __post_init__(self) -> None:
        if self.b < 1:
            raise ValueError(f"Vectorized.b is {self.b}: step at least one environment")
        if wrong := sorted(self.constant - EVERYBODY - ENDLESS):
            can = ", ".join(sorted(EVERYBODY | ENDLESS))
            raise ValueError(f"{type(self.env).__name__} declares {wrong[0]!r} constant: only {can} can be")

    @property
    def spec(self) -> Spec:
        """The spec of each copy."""
        return self.env.spec

    @property
    def constant(self) -> frozenset[str]:
        """Fields of `Step` that are 1 on every step, as the environment declares them (`envs.constant`)."""
        return getattr(self.env, "constant", frozenset())

    def init(self, keys: Array) -> tuple[VectorState, Step]:
        """Fresh episodes everywhere; `keys [b]`."""
        self._check(keys)
        env, step = jax.vmap(self.env.init)(keys)
        bad = step if self.guards.on_bad == "refuse" else None
        return self._guarded(
            VectorState(env, jnp.zeros_like(step.last), {name: jnp.zeros((), jnp.int32) for name in VALUES}, bad), env, step
        )

    def step(self, state: VectorState, action: tuple[Array, ...], keys: Array) -> tuple[VectorState, Step]:
        """One step of every copy, with next-step autoreset; `keys [b]`."""
        self._check(keys)
        env, step = jax.vmap(self.env.step)(state.env, action, keys)
        env, step = self._reset(state, keys, (env, step)) if self.resets else (env, step)
        return self._guarded(state, env, step)

    def _fresh(self, ended: Any, keys: Array, of: Callable[[Array], Array] = lambda x: x) -> Any:
        """Fresh episodes with `keys`, of the same copies where the environment is `PersistentEnv`; `of` picks theirs from all `[b ...]`."""
        again = getattr(self.env, "again", None)
        made = jax.vmap(self.env.init)(of(keys)) if again is None else jax.vmap(again)(jax.tree.map(of, ended), of(keys))
        return made[0], without(made[1], self.constant)

    def _reset(self, before: VectorState, keys: Array, old: tuple[Any, Step]) -> tuple[Any, Step]:
        """`old` with fresh episodes where `before` is over: made for nobody, for the few that need one, or for all; the same numbers
        each way. What is remembered is `before`: the ignored action has moved `old` already.

        A loop of no round or one: unlike a conditional, it leaves `old` where it lies when nobody needs a reset, without a copy.
        """
        few, over = self.b // FEW, before.over
        count = jnp.sum(over.astype(jnp.int32))

        def put(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda x, y: jnp.where(over.reshape(-1, *(1,) * (y.ndim - 1)), x, y), new, old)

        def make_few(old: Any) -> Any:
            rank = jnp.cumsum(over.astype(jnp.int32))
            who = jnp.sum(rank <= jnp.arange(few)[:, None], axis=1)  # the r-th that is over; past the end where fewer are
            new = self._fresh(before.env, keys, lambda x: x[jnp.minimum(who, self.b - 1)])
            return put(jax.tree.map(lambda x: x[jnp.clip(rank - 1, 0, few - 1)], new), old)

        def make_all(old: Any) -> Any:
            return put(self._fresh(before.env, keys), old)

        def once(pending: Any) -> Any:
            wanted, old = pending
            return ~wanted, jax.lax.cond(count > few, make_all, make_few, old) if few else make_all(old)

        old = old[0], without(old[1], self.constant)
        state, step = jax.lax.while_loop(lambda pending: pending[0], once, (count > 0, old))[1]
        return state, filled(step, self.constant)

    def refusal(self, state: VectorState) -> BadStep | None:
        """On the host: the first fault, if faults are refused and one was met. `state` may carry more leading axes."""
        if state.bad is None or not any(int(jnp.sum(x)) for x in state.faults.values()):
            return None
        return name_fault(jax.device_get(state.bad), self.spec, self.guards)

    def _guarded(self, before: VectorState, env: Any, step: Step) -> tuple[VectorState, Step]:
        clean, counts = sanitize(step, self.guards)
        over = clean.last
        if not self.resets:  # faults after an episode's end are not counted
            over = before.over | clean.last
            kept = lambda x, y: jnp.where(before.over.reshape(-1, *(1,) * (x.ndim - 1)), x, y)
            _, counts = sanitize(jax.tree.map(kept, clean, step), self.guards)
        faults = {name: before.faults[name] + counts[name] for name in VALUES}
        bad = before.bad
        if bad is not None:  # keep the first bad step as it was
            met = sum(before.faults.values()) > 0
            bad = jax.tree.map(lambda old, new: jnp.where(met, old, new), bad, step)
        return VectorState(env, over, faults, bad), clean

    def _check(self, keys: Array) -> None:
        if keys.shape[0] != self.b:
            raise ValueError(f"Vectorized got {keys.shape[0]} keys for b={self.b} environments: split the key into {self.b}")
