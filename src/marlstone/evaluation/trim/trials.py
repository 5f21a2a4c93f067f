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
from marlstone.core.types import Step
from marlstone.envs.faults.withheld import still_legal
from marlstone.evaluation.trim.networks import Networks
from marlstone.evaluation.trim.removals import Removals
from marlstone.play.action_selectors import Actions, Alone, Chance
from marlstone.play.counted import Counted
from marlstone.play.evaluator import Episodes
from marlstone.play.player import Player
from marlstone.tools import Toolbox

Array = Any


@record
class MaskedMemory:
    """Recurrent state, and how often each call was made in the last step, `[b calls]`."""

    inner: Any
    calls: Array


@dataclass(frozen=True)
class Masked:
    """The policy itself with actions that are illegal for some agents: `policy` is a policy and, per group, masks `[n_g a]` of these.
    Tells `calls [b calls]`: how often each of `calls_of` was made. `box`: what agents may call."""

    algorithm: Algorithm
    box: Toolbox = Toolbox()

    def memory(self, b: int) -> MaskedMemory:
        """Recurrent state before an episode."""
        return MaskedMemory(self.algorithm.memory(b), jnp.zeros((b, len(calls_of(self.algorithm, self.box)))))

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
        calls = calls_of(self.algorithm, self.box)
        counts = [did[g][:, i, k] for g, i, k in calls.values()]
        return action, MaskedMemory(inner, jnp.stack(counts, -1) if counts else jnp.zeros((len(decides), 0)))

    def told(self, memory: MaskedMemory) -> dict[str, Array]:
        """Calls of the step that was just decided."""
        return {"calls": memory.calls}


def calls_of(algorithm: Algorithm, box: Toolbox) -> dict[str, tuple[int, int, int]]:
    """Calls that agents may make, `"agent:choice"`: group, place and entry in its mask of each. Choices of a toolbox, calls, look-ups and
    writes, as `cut_calls` names them; else requests that a group declares, as the fault `withheld` does."""
    out: dict[str, tuple[int, int, int]] = {}
    at, n = 0, algorithm.spec.team.n
    has = np.ones((n, box.choices), bool)
    for label in box.cut:
        agent, _, choice = label.partition(":")
        has[algorithm.spec.agents.index(agent), box.names.index(choice)] = False
    beside = box.memory.width * (1 + (box.memory.lookup == "attention")) if box.memory.slots else 0  # entries of a mask after the choices
    for i, g in enumerate(algorithm.spec.team.groups):
        own = without_messages(g)
        first = own.space.width - beside - box.choices
        for place, agent in enumerate(g.agents):
            if box.any:
                out |= {f"{agent}:{name}": (i, place, first + k) for k, name in enumerate(box.names) if k and has[at + place, k]}
            else:
                out |= {f"{agent}:{k}": (i, place, k) for k in g.requests}
        at += g.count
    return out


@dataclass(frozen=True)
class Trials:
    """Plays the policies of all training seeds without whatever is asked, `[seeds episodes]`. `keys`: what round `nth` is drawn from;
    `box`: what agents may call."""

    runtime: Player
    networks: Networks
    episodes: int
    act: Act
    keys: Callable[[int], tuple[int, ...]]
    box: Toolbox = Toolbox()
    kept: dict[Any, Episodes] = field(default_factory=dict, compare=False)

    @cached_property
    def agents(self) -> tuple[str, ...]:
        """Who may talk."""
        return self.runtime.algorithm.spec.team.agents

    @cached_property
    def _play(self) -> Callable[..., Episodes]:
        return self.runtime.variants(self.episodes, self.act, Counted(Masked(self.runtime.algorithm, self.box)))

    def without(self, gone: Removals, nth: int) -> Episodes:
        """Round `nth`: the same episodes whatever is gone."""
        algorithm, pad, each = self.runtime.algorithm, self.runtime.placement.pad, len(self.runtime.seeds)
        places, never = calls_of(algorithm, self.box), [np.zeros((each, g.count, g.space.width), bool) for g in algorithm.spec.groups]
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
