"""What a policy's play costs in messages, and how much of it goes to asking instead of acting: counted agent by agent, episode by episode.

A step is a **request** where an agent decides, and
  - its action is one of those that its group declares as requests (`Group.requests`), or
  - it opens its gate to speak while its action is the declared default, though it could have done something else: it talks and does
    nothing. A channel without a gate leaves no choice, and is none of it.

From a request on an agent **waits** until it hears a message that is new to it, or until it acts: does something that is neither the
default nor a request.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from marlstone.algorithm import Algorithm
from marlstone.comms.layout import without_messages
from marlstone.core.distributions import Discrete, MultiDiscrete
from marlstone.core.records import record
from marlstone.core.types import Group, Step
from marlstone.play.action_selectors import Actions, Decider

Array = Any


@record
class CountedMemory:
    """Of the `inner` decider; who is `waiting [b n]`; `age [b n n]` of what each had heard from each; and counts of the last step, by
    name."""

    inner: Any
    waiting: Array
    age: Array
    told: dict[str, Array]


@dataclass(frozen=True)
class Counted:
    """`inner`, counted. Tells, of every talking or asking agent, `decisions`, `requests` and `asking` (requests and waiting), `[b n]`;
    where there is a channel also `tried [b n]`, messages before any budget, `messages` and `bits` `[b n n]` (sender, recipient), and
    `level [b]`, which budget the episode has, times its steps."""

    inner: Decider

    @property
    def algorithm(self) -> Algorithm:
        """That of the inner decider."""
        return self.inner.algorithm

    def memory(self, b: int) -> CountedMemory:
        """Nobody waits, nobody has heard anything."""
        n = self.algorithm.spec.team.n
        names = ("decisions", "requests", "asking", *(("tried",) if self.algorithm.speech is not None else ()))
        counts = {name: jnp.zeros((b, n)) for name in names}
        return CountedMemory(self.inner.memory(b), jnp.zeros((b, n), bool), jnp.zeros((b, n, n), jnp.int32), counts)

    def decide(self, policy: Any, step: Step, memory: CountedMemory, key: Array, temperature: Array) -> tuple[Actions, CountedMemory]:
        """The inner decider's actions."""
        action, inner = self.inner.decide(policy, step, memory.inner, key, temperature)
        spec, speech = self.algorithm.spec.team, self.algorithm.speech
        n = spec.n
        decides = (step.present & step.deciding)[:, :n]
        kinds = [what_is_done(g, a, ok) for g, a, ok in zip(spec.groups, action, step.legal, strict=False)]
        asks, idle, free = (jnp.concatenate(x, axis=-1) for x in zip(*kinds, strict=True))
        told, age, heard = {}, memory.age, jnp.zeros_like(decides)
        if speech is not None:
            tried = speech.tried(action, step)
            told["tried"] = tried.sum(-2)
            if speech.channel.gate:
                asks = asks | ((told["tried"] > 0) & idle & free)
            age = speech.links(step)[0]
            known = jnp.where(step.first[:, None, None], 0, memory.age)
            heard = ((age > 0) & ~((known > 0) & (age == known + 1))).any(-1)  # a message that is only held on to grows older
        request = decides & asks
        waits = memory.waiting & ~step.first[:, None] & ~heard & decides & idle & ~request
        told |= {"decisions": decides, "requests": request, "asking": request | waits}
        return action, CountedMemory(inner, request | waits, age, {k: v.astype(jnp.float32) for k, v in told.items()})

    def told(self, memory: CountedMemory) -> dict[str, Array]:
        """Counts of the step that was just decided, the inner decider's too."""
        inner: dict[str, Array] = self.inner.told(memory.inner) if hasattr(self.inner, "told") else {}
        return inner | memory.told

    def seen_after(self, memory: CountedMemory, step: Step) -> dict[str, Array]:
        """What was sent in it, as the step that followed records it."""
        if self.algorithm.speech is None:
            return {}
        _, messages, bits = self.algorithm.speech.links(step)
        return {"messages": messages, "bits": bits, "level": self.algorithm.speech.level(step).astype(jnp.float32)}


def what_is_done(g: Group, action: Array, legal: Array | None) -> tuple[Array, Array, Array]:
    """Of a group's recorded actions `[b n_g ...]`, beside messages: whether they are requests, whether they are the default, and whether
    anything else was legal, `[b n_g]` each."""
    own = without_messages(g)
    k = max(1, sum(own.space.action_shape))
    flat = action.reshape(*action.shape[:2], -1)[..., :k]
    idle = (flat == np.asarray(own.recorded_defaults).reshape(g.count, k)).all(-1)
    asks = jnp.isin(flat[..., 0].astype(jnp.int32), jnp.array(g.requests)) if g.requests else jnp.zeros_like(idle)
    free = jnp.ones_like(idle)
    if legal is not None and isinstance(own.space, Discrete | MultiDiscrete):
        choices = 1 if isinstance(own.space, Discrete) else len(own.space.sizes)
        free = legal[..., : own.space.width].sum(-1) > choices
    return asks, idle, free
