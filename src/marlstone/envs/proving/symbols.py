"""The task most proving grounds share: every agent is shown a symbol and earns by saying it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.core.distributions import Discrete
from marlstone.core.records import record
from marlstone.core.types import Array, Group, Leaf, Step
from marlstone.envs.team_games import below, team_step

SYMBOLS = 4
WRONG = 0.25  # what a wrong symbol costs, in shares


@record
class SymbolState:
    """Step number `t` and the symbols shown `[n]`."""

    t: Array
    symbol: Array


def speakers(agents: tuple[str, ...], types: tuple[str, ...] = ()) -> Group:
    """Agents that see one symbol and act in 0 (say nothing, the default) or 1..4 (say symbol 0..3)."""
    return Group("workers", agents, {"symbol": Leaf("vector", (SYMBOLS,))}, Discrete(1 + SYMBOLS), types)


def workers(n: int) -> tuple[str, ...]:
    """The names of `n` workers."""
    return tuple(f"worker_{i}" for i in range(n))


def shares(n: int, rows: int) -> np.ndarray:
    """`[n]`: distinct shares of a step's best reward, proportional to 1..n; over `rows` steps they sum to 1."""
    weight = np.arange(1, n + 1, dtype=np.float32)
    return weight / (weight.sum() * rows)


def show(key: Array, n: int) -> Array:
    """`[n]` symbols, each its own draw."""
    return below(SYMBOLS, jax.random.uniform(key, (n,)))


def worth(action: Array, right: Array, share: Any) -> Array:
    """`[n]`: the whole share for the right symbol, minus a quarter of it for a wrong one, 0 for nothing."""
    return share * jnp.where(action == 0, 0.0, jnp.where(action == right + 1, 1.0, -WRONG))


def symbol_step(shown: Array, beside: Array, reward: Array, *, over: Array, first: bool, metrics: dict[str, Array] | None = None) -> Step:
    """A step that rewards the team by `reward`, in equal parts; `state` is every symbol and then `beside`."""
    symbol = jax.nn.one_hot(shown, SYMBOLS)
    n = shown.shape[0]
    return team_step(
        ({"symbol": symbol},), jnp.concatenate([symbol.reshape(-1), beside]), jnp.broadcast_to(reward / n, (n,)), (None,),
        terminated=over, first=first, team_reward=reward, metrics=metrics,
    )  # fmt: skip
