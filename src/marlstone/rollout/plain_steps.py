"""Steps of a process's environments, written into one block at once: what is the same for all of them is done once, in arrays.

Each environment writes its observations (`PlainEnv.read_plainly`); limits, rewards, flags, masks and the state of all of them follow
together. What is written is what their `step` would have been, number for number.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from marlstone.core.types import Step
from marlstone.envs.protocol import PlainEnv


class PlainSteps:
    """The plain steps of one advance of `b` environments.

    Args:
      step: the block's arrays of these environments, `[b ...]`.
      action: the block's actions of them, per group `[b n_g ...]`.
      env: any of the environments.

    Attributes:
      rows: per environment and agent, where its observation is written, `[f]`.
      choices: each environment's actions, as `step_unread` takes them.
      got: what `step_unread` returned, by environment, until all is completed.
      apart: whether environments return arrays of their own, so that all may step before any is read; None until they were compared.
    """

    def __init__(self, step: Step, action: tuple[np.ndarray, ...], env: PlainEnv) -> None:
        (self.obs,) = step.obs[0].values()
        self.step, self.action, self.arranged = step, action, env.arranged
        self.rows = [list(x) for x in self.obs]
        self.limits: tuple[np.ndarray, np.ndarray] | None = None  # in float32, never wider than `plain_limits`
        if (limits := env.arranged.plain_limits) is not None:
            self.limits = np.nextafter(limits[0], np.inf, dtype=np.float32), np.nextafter(limits[1], -np.inf, dtype=np.float32)
        self.apart: bool | None = None
        self.got: dict[int, Any] = {}
        self.begin()

    def begin(self) -> None:
        """Read the actions; no step has been made."""
        self.choices = list(zip(*self.arranged.listed(self.action), strict=True))
        self._at: list[int] = []
        self._rewards: list[Sequence[float]] = []
        self._ended: list[tuple[int, bool]] = []

    def add(self, k: int, made: tuple[Sequence[float], bool, bool]) -> bool:
        """Environment k made a plain step, read as `read_plainly` gives it. Returns whether its episode is over."""
        reward, terminated, truncated = made
        self._at.append(k)
        self._rewards.append(reward)
        if over := terminated or truncated:
            self._ended.append((k, terminated))
        return over

    def complete(self, clip: Callable[[int, np.ndarray], None]) -> None:
        """Write all but the observations of the steps that were added; `clip(k, obs)` is called where environment k's observations `[n f]`
        may be outside their limits, and repairs them in place."""
        if self.apart is None and len(self.got) == len(self.obs):
            self.apart = _apart(self.got.values())
        self.got.clear()
        if not self._at:
            return
        step, obs = self.step, self.obs
        at: Any = slice(None) if len(self._at) == len(obs) else self._at
        seen, limits = obs[at], self.limits
        if limits is not None and (np.count_nonzero(seen < limits[0]) or np.count_nonzero(seen > limits[1])):
            for k in self._at:
                clip(k, obs[k])
            seen = obs[at]
        step.state[at] = seen.reshape(len(seen), -1)
        step.reward[at] = self._rewards
        step.team_reward[at] = [sum(r) for r in step.reward[at].tolist()]
        step.discount[at] = step.team_discount[at] = 1.0
        step.first[at] = step.last[at] = False
        step.present[at] = step.deciding[at] = True
        for mine, mask in zip(step.legal, self.arranged.structural, strict=True):
            if mine is not None:
                mine[at] = mask
        for k, terminated in self._ended:
            step.last[k] = True
            if terminated:
                step.discount[k] = step.team_discount[k] = 0.0


def _apart(results: Iterable[Any]) -> bool:
    """Whether no two results hold arrays in the same memory."""
    each = [_arrays(x) for x in results]
    return not any(np.may_share_memory(x, y) for a, b in combinations(each, 2) for x in a for y in b)


def _arrays(result: Any) -> list[np.ndarray]:
    """The arrays of tuples, lists and dictionaries, nested."""
    if isinstance(result, np.ndarray):
        return [result]
    inner = result.values() if isinstance(result, Mapping) else result if isinstance(result, tuple | list) else ()
    return [x for part in inner for x in _arrays(part)]
