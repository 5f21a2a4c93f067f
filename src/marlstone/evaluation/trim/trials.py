"""Playing policies that do without something: one compiled program, in which links, actions, leaves and units that are gone are data."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np

from marlstone.algorithm import Algorithm
from marlstone.comms.layout import without_messages
from marlstone.core.acting import Act
from marlstone.core.records import record, replace
from marlstone.core.types import Group, Step
from marlstone.envs.faults.withheld import action_labels, still_legal
from marlstone.evaluation.trim.networks import Networks
from marlstone.evaluation.trim.removals import Removals
from marlstone.play.action_selectors import Actions, Alone, Chance
from marlstone.play.counted import Counted
from marlstone.play.evaluator import Episodes
from marlstone.play.player import Player

Array = Any
TOOL = "tool"  # the part of an action that calls a declared tool; option 0 calls none


@record
class MaskedMemory:
    """Recurrent state, and how often each call was made in the last step, `[b calls]`."""

    inner: Any
    calls: Array


@dataclass(frozen=True)
class Masked:
    """The policy itself with actions that are illegal for some agents: `policy` is a policy and, per group, masks `[n_g a]` of these.
    Tells `calls [b calls]`: how often each of `called_by` was called."""

    algorithm: Algorithm

    def memory(self, b: int) -> MaskedMemory:
        """Recurrent state before an episode."""
        return MaskedMemory(self.algorithm.memory(b), jnp.zeros((b, len(calls_of(self.algorithm)))))

    def decide(self, policy: Any, step: Step, memory: MaskedMemory, key: Array, temperature: Array) -> tuple[Actions, MaskedMemory]:
        """As `Alone`, among what is left."""
        policy, never = policy
        groups = self.algorithm.spec.groups
        legal = tuple(still_legal(g, ok, mask, jnp) for g, ok, mask in zip(groups, step.legal, never, strict=True))
        action, inner = Alone(self.algorithm).decide(policy, replace(step, legal=legal), memory.inner, key, temperature)
        decides = step.present & step.deciding
        did, at = [], 0
        for g, a in zip(groups, action, strict=True):
            did.append(g.space.encode(a) * decides[:, at : at + g.count, None])
            at += g.count
        calls = calls_of(self.algorithm)
        counts = [did[g][:, i, k] for g, i, k in calls.values()]
        return action, MaskedMemory(inner, jnp.stack(counts, -1) if counts else jnp.zeros((len(decides), 0)))

    def told(self, memory: MaskedMemory) -> dict[str, Array]:
        """Calls of the step that was just decided."""
        return {"calls": memory.calls}


def calls_of(algorithm: Algorithm) -> dict[str, tuple[int, int, int]]:
    """Calls that agents may make, as the fault `withheld` names them: group, place and entry of each. Requests that a group declares, and
    options of a part called `tool` but its first."""
    out = {}
    for i, g in enumerate(algorithm.spec.team.groups):
        own = without_messages(g)
        for label, (place, entry) in action_labels(own).items():
            if is_call(own, label.partition(":")[2]):
                out[label] = (i, place, entry)
    return out


def is_call(g: Group, option: str) -> bool:
    """Whether an option, `"5"` or `"part=5"`, asks somebody instead of acting."""
    part, _, number = option.rpartition("=")
    if not part:
        return int(number) in g.requests
    return part.partition(".")[0] == TOOL and int(number) > 0


@dataclass(frozen=True)
class Trials:
    """Plays the policies of all training seeds without whatever is asked, `[seeds episodes]`. `keys`: what round `nth` is drawn from."""

    runtime: Player
    networks: Networks
    episodes: int
    act: Act
    keys: Callable[[int], tuple[int, ...]]
    kept: dict[Any, Episodes] = field(default_factory=dict, compare=False)

    @cached_property
    def agents(self) -> tuple[str, ...]:
        """Who may talk."""
        return self.runtime.algorithm.spec.team.agents

    @cached_property
    def _play(self) -> Callable[..., Episodes]:
        return self.runtime.variants(self.episodes, self.act, Counted(Masked(self.runtime.algorithm)))

    def without(self, gone: Removals, nth: int) -> Episodes:
        """Round `nth`: the same episodes whatever is gone."""
        algorithm, pad, each = self.runtime.algorithm, self.runtime.placement.pad, len(self.runtime.seeds)
        places, never = calls_of(algorithm), [np.zeros((each, g.count, g.space.width), bool) for g in algorithm.spec.groups]
        for label in gone.calls:
            group, place, entry = places[label]
            never[group][:, place, entry] = True
        cut = np.zeros((len(self.agents), len(self.agents)), bool)
        for sender, recipient in gone.links:
            cut[self.agents.index(recipient), self.agents.index(sender)] = True
        return self._play(pad((self.networks.silenced(gone), tuple(never))), cut, self.keys(nth))

    def whole(self, nth: int) -> Episodes:
        """As deployed."""
        if ("whole", nth) not in self.kept:
            self.kept["whole", nth] = self.without(Removals(), nth)
        return self.kept["whole", nth]

    def chance(self, nth: int) -> Episodes:
        """By chance."""
        if ("chance", nth) not in self.kept:
            self.kept["chance", nth] = self._chance(self.runtime.placement.pad(self.networks.policies), self.keys(nth))
        return self.kept["chance", nth]

    @cached_property
    def _chance(self) -> Callable[..., Episodes]:
        return self.runtime.evaluator(self.episodes, decider=Chance(self.runtime.algorithm))
