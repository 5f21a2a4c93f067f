"""What to do when an environment misbehaves: one configuration, one list of named faults, one filter over steps.

Every fault is counted under one of the names in `FAULTS`. `survive` repairs what can be repaired (a number becomes 0, a
reward or an observation out of range is clipped, a missing state is the last known one) and ends the episode where it cannot
(an environment that raises, hangs or dies); `refuse` stops with a `BadStep` that names agent, field and value.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from marlstone.core.records import replace
from marlstone.core.types import Array, Spec, Step

FAULTS = (
    "nan_observation", "nan_reward", "reward_bounds", "wrong_shape", "wrong_dtype", "raised", "hung", "died",
    "no_observation", "out_of_range", "no_state",
)  # fmt: skip
LONGEST = 1e6  # seconds
LARGEST = 1e12  # beyond it, squares of returns overflow float32, and moments of them would be no numbers
VALUES = FAULTS[:3]  # found by `sanitize`, in any array; the others only where Python steps the environment

INSTEAD = {"out_of_range": "clipped", "reward_bounds": "clipped", "no_state": "the last known state was used"}
"""What is put in the place of a bad value; 0 where nothing is listed."""

Report = Callable[[str, str, str, Any], None]  # (fault, agent, field, value); returning means: repair it (`INSTEAD`) and go on


class BadStep(ValueError):
    """A step that no learner should see. `fault` is one of `FAULTS`; `agent` and `field` say where, `value` what was there."""

    def __init__(self, fault: str, agent: str, field: str, value: Any, remedy: str = "") -> None:
        self.fault, self.agent, self.field, self.value = fault, agent, field, value
        end = f": {remedy}" if remedy else ": fix the environment, or set guards on_bad=survive to repair and count it"
        super().__init__(f"{fault}: agent {agent!r}, {field}, got {value!s:.200}{end}")


def refuse(fault: str, agent: str, field: str, value: Any) -> None:
    """The report that stops at the first fault."""
    raise BadStep(fault, agent, field, value)


@dataclass(frozen=True)
class Guards:
    """What is a fault, and what follows.

    Attributes:
      on_bad: `survive` (repair, count, go on) or `refuse` (stop and name agent, field and value).
      reward_bounds: rewards outside are clipped and counted; None: any finite reward is fine.
      timeout: seconds one environment may take for one step before its process is ended and started anew.
      start_timeout: seconds one environment may take to be built, or to be reset.
      restarts: how many processes may be started anew, and how many episodes given up, before training stops.
      most_bad: the share of the latest steps that may be faulty, or of the latest episodes that may be broken off by faults, before the
        environment counts as broken and training stops; judged over 500 steps, and 20 episodes. 1: never.
    """

    on_bad: Literal["survive", "refuse"] = "survive"
    reward_bounds: tuple[float, float] | None = None
    timeout: float = 60.0
    start_timeout: float = 120.0
    restarts: int = 1000
    most_bad: float = 0.5

    def __post_init__(self) -> None:
        if self.on_bad not in ("survive", "refuse"):
            raise ValueError(f"Guards.on_bad is {self.on_bad!r}: choose 'survive' or 'refuse'")
        for field in ("timeout", "start_timeout"):
            if not 0 < getattr(self, field) <= LONGEST:
                raise ValueError(f"Guards.{field} is {getattr(self, field)}: give a positive number of seconds, up to {LONGEST:g}")
        if not 0 <= self.most_bad <= 1:
            raise ValueError(f"Guards.most_bad is {self.most_bad}: give a share, from 0 to 1")
        if self.restarts < 0:
            raise ValueError(f"Guards.restarts is {self.restarts}: give 0 or more")
        if self.reward_bounds is not None and not self.reward_bounds[0] <= self.reward_bounds[1]:
            raise ValueError(f"Guards.reward_bounds is {self.reward_bounds}: give (lowest, highest)")


def return_bounds(spec: Spec, guards: Guards) -> tuple[float, float] | None:
    """The least and the greatest team return that an episode can have, as declared by the environment, or as the guards clip rewards;
    infinite where one side is unknown, None where both are."""
    least, most = spec.return_bounds or (None, None)
    low, high = -np.inf if least is None else least, np.inf if most is None else most
    if guards.reward_bounds is not None and spec.horizon is not None:
        count = spec.horizon * sum(a not in spec.opponents for a in spec.team.agents)
        low, high = max(low, min(0.0, count * guards.reward_bounds[0])), min(high, max(0.0, count * guards.reward_bounds[1]))
    return None if np.isinf([low, high]).all() else (low, high)


def is_sound(x: Array) -> Array:
    """Where `x` is a number that can be learned from: not NaN, not infinite, nor as good as that."""
    return x.__array_namespace__().abs(x) <= LARGEST


def _finite(x: Array) -> tuple[Array, Array]:
    """`x` with 0 where it was not sound, and where that was."""
    xp = x.__array_namespace__()
    good = is_sound(x)
    return xp.where(good, x, xp.zeros_like(x)), ~good


def _numbers(xp: Any, masks: dict[str, list[Array]], lead: int) -> dict[str, Array]:
    """How many are true in all of each name's masks, which have `lead` leading axes `*t`; 0 where a name has none.

    JAX counts along the other axes first, then along `*t` for all names at once: one reduction over the batch instead of one for each.
    """
    found = {name: some for name, some in masks.items() if some}
    if xp is np:
        sums = [sum(xp.sum(mask) for mask in some) for some in found.values()]
    else:
        each = [sum(xp.sum(mask, axis=tuple(range(lead, mask.ndim))) for mask in some) for some in found.values()]
        total = xp.sum(xp.stack(each, axis=-1), axis=tuple(range(lead)))
        sums = [total[i] for i in range(len(found))]
    return dict.fromkeys(masks, 0) | dict(zip(found, sums, strict=True))


def sanitize(step: Step, guards: Guards) -> tuple[Step, dict[str, Array]]:
    """`step` without NaN, infinities (`is_sound`) and out-of-bounds rewards, and the counts of what was repaired, by name.

    One code for NumPy and `jax.numpy`, so it also stands inside `jit`; any leading axes. Counts are numbers of elements:
    `nan_observation` (observations or state, and metrics), `nan_reward` and `reward_bounds` (agents' or team's rewards).
    Under jit nothing can be raised, so with `on_bad = "refuse"` the host reads the counts, then calls `name_fault`.
    With bounds [low, high] per agent, the team's are [n low, n high].
    """
    xp, obs, seen = step.reward.__array_namespace__(), [], []
    for group in step.obs:
        clean = {}
        for name, x in group.items():
            if _is_float(x):
                x, bad = _finite(x)
                seen.append(bad)
            clean[name] = x
        obs.append(clean)
    state, bad_state = _finite(step.state)
    reward, bad_reward = _finite(step.reward)
    team, bad_team = _finite(step.team_reward)
    metrics, of_metrics = {}, []
    for name, x in step.metrics.items():
        metrics[name], bad = _finite(x)
        of_metrics.append(bad)
    masks = {"seen": seen, "state": [bad_state], "reward": [bad_reward], "team": [bad_team], "metrics": of_metrics}
    if guards.reward_bounds is not None:
        (low, high), n = guards.reward_bounds, reward.shape[-1]
        for name, x, k in (("outside", reward, 1), ("team_outside", team, n)):
            masks[name] = [(x < k * low) | (x > k * high)]
        reward, team = xp.clip(reward, low, high), xp.clip(team, n * low, n * high)
    bad = _numbers(xp, masks, step.team_reward.ndim)
    # The state repeats observations, and the team's reward repeats the agents': what is bad in both is one fault.
    counts = {
        "nan_observation": xp.maximum(bad["seen"], bad["state"]) + bad["metrics"],
        "nan_reward": xp.maximum(bad["reward"], bad["team"]),
        "reward_bounds": xp.maximum(bad["outside"], bad["team_outside"]) if "outside" in bad else 0,
    }
    return replace(step, obs=tuple(obs), state=state, reward=reward, team_reward=team, metrics=metrics), counts


def name_fault(step: Step, spec: Spec, guards: Guards) -> BadStep | None:
    """The first value `sanitize` would repair in a step of NumPy arrays `[*t ...]`, by agent and field; None if there is none."""
    import numpy as np

    for group, leaves in zip(spec.groups, step.obs, strict=True):
        for name, x in leaves.items():
            if _is_float(x) and not is_sound(x).all():
                axes = len(x.shape) - 1 - len(group.observation[name].shape)
                where = np.argwhere(~is_sound(x))[0]
                return BadStep("nan_observation", group.agents[where[axes]], f"observation {name!r}", x[tuple(where)])
    low, high = guards.reward_bounds or (-np.inf, np.inf)
    for fault, bad in (("nan_reward", ~is_sound(step.reward)), ("reward_bounds", (step.reward < low) | (step.reward > high))):
        if bad.any():
            where = np.argwhere(bad)[0]
            return BadStep(fault, spec.agents[where[-1]], "reward", step.reward[tuple(where)])
    for fault, field, x in (
        ("nan_observation", "state", step.state),
        ("nan_reward", "team_reward", step.team_reward),
        *(("nan_observation", f"metric {k!r}", v) for k, v in step.metrics.items()),
    ):
        if not is_sound(x).all():
            return BadStep(fault, "team", field, np.asarray(x)[~is_sound(np.asarray(x))][0])
    k = spec.n
    if ((step.team_reward < k * low) | (step.team_reward > k * high)).any():
        return BadStep("reward_bounds", "team", "team_reward", step.team_reward)
    return None


def _is_float(x: Array) -> bool:
    """Whether `x` can hold a NaN at all (images of bytes cannot). Works without knowing whose array it is."""
    return "float" in str(x.dtype)
