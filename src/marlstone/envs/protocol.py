"""The one protocol every environment is brought to, and its vectorized form.

`Env` is one environment written in JAX: pure functions, no autoreset. `VectorEnv` is many stepped together, with
next-step autoreset: the step after an end is a reset (`first`), whose action is ignored. The fused runtime steps a
`Vectorized` (JAX); the host runtime steps worker processes. Both return a `Step` with a leading `[b]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from marlstone.core.types import Array, Spec, Step

if TYPE_CHECKING:
    from jaxtyping import Shaped

    from marlstone.envs.arrangement import Arrangement
    from marlstone.envs.guards import Report


class Env(Protocol):
    """One JAX environment: pure functions, so that it can be compiled and vmapped. One whose copies outlive their episodes is a
    `PersistentEnv`. One may also have `render(state) -> [h w 3]` uint8, called on the host, which films show; and `constant`, the names of
    those fields of its steps among `present`, `deciding`, `discount` and `team_discount` that are 1 on every step, so that nobody records
    them."""

    @property
    def spec(self) -> Spec:
        """Groups of agents, length of the state, declared metrics. Always the same; known without running anything."""

    def init(self, key: Array) -> tuple[Any, Step]:
        """A fresh episode.

        Args:
          key: one JAX key; all randomness of the beginning comes from it.

        Returns:
          The environment's state (any pytree of arrays of constant shapes), and the first step, in which `first` is True, `last` False,
          rewards are 0 and discounts 1.
        """

    def step(self, state: Any, action: tuple[Shaped[Array, "n_g ..."], ...], key: Array) -> tuple[Any, Step]:
        """One joint step. Never called after a step whose `last` is True: the vectorizer resets instead.

        Args:
          state: as `init` or the last `step` returned it.
          action: per group, as `ActionSpace.emit` gives it: indices, or numbers in (-1, 1).
          key: one JAX key, fresh for every step.

        Returns:
          The next state and what agents see now, with the reward that this action earned.
        """


class PersistentEnv(Env, Protocol):
    """An environment whose copies outlive their episodes: they age, wear or drift. The vectorizer resets it by `again`, not `init`."""

    def again(self, state: Any, key: Array) -> tuple[Any, Step]:
        """A fresh episode, as `init` makes it, of the same copy: `state` is the one its last episode ended in."""


class HostEnv(Protocol):
    """One environment that only Python can step: the same steps, in NumPy. It keeps its state to itself."""

    @property
    def spec(self) -> Spec:
        """Groups of agents, length of the state, declared metrics. Always the same, also before the first `reset`."""

    def reset(self, seed: int) -> Step:
        """A fresh episode, all of whose randomness comes from `seed`: the same seed and actions give the same episode, bit for bit.

        May be called at any time, also within an episode.
        """

    def step(self, action: tuple[Shaped[Array, "n_g ..."], ...]) -> Step:
        """One joint step. `action` is per group, as `ActionSpace.emit` gives it. Never called after a step whose `last` is True.

        Whatever it raises counts as a fault: the episode is given up and the environment is built anew (`guards`).
        """

    def close(self) -> None:
        """Free what the environment holds: processes, sockets, windows. Called once, at the end."""


class SnapshotEnv(HostEnv, Protocol):
    """A host environment that can go back, random numbers included: then credit can be audited in it."""

    def snapshot(self) -> Any:
        """The state it is in; what is done later must not change the snapshot."""

    def restore(self, state: Any) -> None:
        """Go back to `state`, which may be restored again. Bit for bit: this is checked before it is trusted."""


class PlainEnv(HostEnv, Protocol):
    """A host environment, one of many alike in a process, most of whose steps need no `Step` of their own: observations are written
    straight into arrays of all of them, and whoever steps them completes the rest for all at once (`rollout.plain_steps`)."""

    @property
    def plain(self) -> bool:
        """Whether `step_unread` and `read_plainly` may be called: `arranged.plain` holds, every agent is there and decides in every step,
        legal actions never change, there is no other state than the observations, nor are there metrics."""

    @property
    def arranged(self) -> Arrangement:
        """Where agents are, and what they may see."""

    @property
    def report(self) -> Report:
        """What is done with bad values."""

    def step_unread(self, choices: Sequence[Any]) -> Any:
        """One joint step, as the package gives it. `choices`: this environment's entry of the actions, per group (`Arrangement.listed`)."""

    def read_plainly(self, got: Any, rows: Sequence[np.ndarray]) -> Step | tuple[list[float], bool, bool]:
        """Read a step.

        Args:
          got: what `step_unread` returned.
          rows: `[f]` of each agent, into which observations are written; numbers outside their limits are left to the caller.

        Returns:
          Each agent's reward, whether the episode terminated, and whether it was truncated; or, for whatever is not as plain as that, the
          `Step` that `step` would have returned, and then `rows` mean nothing.
        """


class VectorEnv(Protocol):
    """`b` environments stepped together, with next-step autoreset. State is opaque (None on the host, where it lives in processes)."""

    @property
    def spec(self) -> Spec:
        """The spec of each of them."""

    def init(self, keys: Shaped[Array, "b ..."]) -> tuple[Any, Step]:
        """Fresh episodes everywhere, one key each; the step has a leading `[b]`."""

    def step(self, state: Any, action: tuple[Shaped[Array, "b n_g ..."], ...], keys: Shaped[Array, "b ..."]) -> tuple[Any, Step]:
        """One joint step of every environment, or a reset of those whose last step was the end of an episode (`first` is True there, the
        action is ignored)."""
