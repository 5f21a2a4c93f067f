"""What laws of channels are checked on: a team that says random things while its agents come and go, over ideal and over lossy links."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.algorithm import Algorithm, Train
from marlstone.architectures import Decentralized, Mlp
from marlstone.comms import INBOX, LINKS, Channel, Link
from marlstone.comms.exchange import Budget, Messages, Wire, draws
from marlstone.comms.layout import TalkLayout, with_shares
from marlstone.core.records import record, replace
from marlstone.core.types import Leaf, Spec, Step, Trajectory
from marlstone.credit import Individual
from marlstone.envs.make import make
from marlstone.envs.vectorized import Vectorized
from marlstone.evaluation.credit.random_play import drawn, quick
from marlstone.learners import PolicyGradient
from marlstone.rollout.unroll import RolloutState, draw_noise, unroll

Array = Any
STEPS = 10
ENVS, LENGTH, EPISODE = 4, 20, 6  # of the rollout that is learned from
LOSSY = Link(to_bad=0.3, to_good=0.4, loss=0.9, loss_good=0.1, delay=2, copies=0.3)
USUAL = "proving:pair"  # four agents in three groups, of three kinds of actions


@record
class Talk:
    """What a team sends in one episode: `messages` of `[t ...]` steps; who is `present [t+1 n]`; `u [t+1 draws n n]`, uniform numbers."""

    messages: Messages
    present: Array
    u: Array


@record
class Heard:
    """What came of it, step by step, the episode's first included: each agent's `inbox [t+1 n f]`; `age`, `sent`, `bits [t+1 n n]`
    (recipient, sender), as they are recorded; messages `refused [t+1]` for want of budget; and what is `left` of it."""

    inbox: Array
    age: Array
    sent: Array
    bits: Array
    refused: Array
    left: Array


@dataclass(frozen=True)
class RandomSteps:
    """An environment with these groups in which everything is random: what agents see, whom they reach (`reach`), who is there."""

    spec: Spec
    reach: str = ""

    def init(self, key: Array) -> tuple[Array, Step]:
        """A fresh episode."""
        return jnp.array(0), self._step(key, jnp.array(0))

    def step(self, state: Array, action: tuple[Array, ...], key: Array) -> tuple[Array, Step]:
        """One joint step; actions change nothing."""
        return state + 1, self._step(key, state + 1)

    def _step(self, key: Array, t: Array) -> Step:
        spec, n = self.spec, self.spec.n
        obs = []
        for i, g in enumerate(spec.groups):
            keys = jax.random.split(jax.random.fold_in(key, i), len(g.observation))
            obs.append({k: self._leaf(k, leaf, g.count, mine) for (k, leaf), mine in zip(g.observation.items(), keys, strict=True)})
        here = (jax.random.uniform(jax.random.fold_in(key, 99), (n,)) < 0.8) | (t == 0)
        zeros, over = jnp.zeros(n), t >= EPISODE
        return Step(
            tuple(obs), jnp.zeros(spec.state), zeros, zeros[0], jnp.where(over, zeros, 1), jnp.where(over, 0.0, 1), t == 0, over,
            (None,) * len(spec.groups), here, here, dict.fromkeys(spec.metrics, zeros[0]),
        )  # fmt: skip

    def _leaf(self, name: str, leaf: Leaf, count: int, key: Array) -> Array:
        shape = (count, *leaf.shape)
        if name == self.reach:
            return (jax.random.uniform(key, shape) < 0.6).astype(leaf.dtype)
        return jax.random.randint(key, shape, 0, 256).astype("uint8") if leaf.dtype == "uint8" else jax.random.normal(key, shape)


@dataclass(frozen=True, eq=False)
class ChannelCase:
    """One channel over one team. `spec`: the team's groups, without messages."""

    channel: Channel
    spec: Spec
    _played: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.layout(self.channel)  # refused here if it does not fit

    @property
    def n(self) -> int:
        """How many agents talk."""
        return self.spec.team.n

    @cached_property
    def variants(self) -> dict[str, Channel]:
        """The channel without a budget, where every message is heard at once, and where messages are lost, late, repeated and held."""
        opening = self.channel.opening if self.channel.price else type(self.channel).opening
        free = replace(self.channel, budget_bits=(), per_agent=False, opening=opening)
        return {
            "over an ideal link": replace(free, link=Link(), hold=0),
            "over a lossy, delaying link": replace(free, link=LOSSY, hold=2),
        }

    @property
    def lossy(self) -> Channel:
        """The second of `variants`."""
        return list(self.variants.values())[1]

    @cached_property
    def budgeted(self) -> dict[str, Channel]:
        """The same where half of what is said is allowed: to the team, and to each agent."""
        free = self.play(self.lossy, self.talk(self.lossy))
        bits = free.bits[1:].sum((1, 2)).mean()
        own = free.bits[1:].sum(1).max(-1).mean()
        half = lambda x: (float(np.float32(max(x / 2, 1e-3))),)
        tight = lambda per_agent, most: replace(self.lossy, enforce=True, price=0.0, per_agent=per_agent, budget_bits=half(most))
        return {"with a budget": tight(False, bits), "with a budget for each agent": tight(True, own)}

    def layout(self, channel: Channel) -> TalkLayout:
        """The team's spec with messages."""
        return TalkLayout(channel, self.spec)

    # ---- what is said
    def talk(self, channel: Channel, seed: int = 0) -> Talk:
        """Random gates and content of every form, agents that come and go, of whom the last leaves for good."""
        layout, rng, n = self.layout(channel), np.random.default_rng(seed), self.n
        present = rng.random((STEPS + 1, n)) < 0.8
        present[:, :2] |= ~present.any(1, keepdims=True)
        present[STEPS // 2 :, -1] = False
        sent = []
        for t in range(STEPS):
            near = [{channel.reach: rng.random((g.count, n)).astype(np.float32).round()} for g in self.spec.team.groups]
            groups = layout.spec.groups[: layout.groups]
            heads = tuple(rng.normal(size=(g.count, g.space.head)).astype(np.float32) for g in groups)
            heads = with_shares(replace(layout.spec, groups=groups), heads, ({},) * len(groups))
            action = tuple(g.space.sample(h, None, g.space.noise(rng, (g.count,))) for g, h in zip(groups, heads, strict=True))
            sent.append(layout.messages(action, layout.allowed(blank(self.spec, present[t], tuple(near)))))
        messages = jax.tree.map(lambda *x: np.stack(x), *sent)
        return Talk(messages, present, rng.random((STEPS + 1, draws(channel), n, n), np.float32))

    # ---- what is heard
    def begin(self, channel: Channel, present: Array, u: Array) -> tuple[tuple[Wire, Budget], Heard]:
        """The channel at an episode's first step, and what is heard in it."""
        layout, xp = self.layout(channel), present.__array_namespace__()
        step = blank(self.spec, present, ({},) * len(self.spec.team.groups))
        wire, budget, shown = layout.begin(step, u if channel.drawing else None, layout.level(None, xp))
        return (wire, budget), self._heard(shown, wire, budget)

    def tick(self, channel: Channel, now: tuple[Wire, Budget], messages: Messages, present: Array, u: Array) -> Any:
        """One step of the channel, and what is heard after it."""
        step = blank(self.spec, present, ({},) * len(self.spec.team.groups))
        wire, budget, shown = self.layout(channel).after(*now, messages, step, u if channel.drawing else None)
        return (wire, budget), self._heard(shown, wire, budget)

    def _heard(self, shown: Step, wire: Wire, budget: Budget) -> Heard:
        xp, n = shown.present.__array_namespace__(), self.n
        leaves = shown.obs[: len(self.spec.team.groups)]
        inbox, links = (xp.concat([x[name] for x in leaves], axis=0) for name in (INBOX, LINKS))
        return Heard(inbox, links[:, :n], links[:, n : 2 * n].T, links[:, 2 * n :].T, wire.refused, budget.left)

    def steps(self, channel: Channel, talk: Talk) -> tuple[Any, list[Heard]]:
        """Step by step, in the arrays that `talk` is made of."""
        now, first = self.begin(channel, talk.present[0], talk.u[0])
        out = [first]
        for t in range(len(talk.messages.bits)):
            now, heard = self.tick(channel, now, jax.tree.map(lambda x: x[t], talk.messages), talk.present[t + 1], talk.u[t + 1])  # noqa: B023
            out.append(heard)
        return now, out

    def scanned(self, channel: Channel, now: Any, talk: Talk) -> tuple[Any, Heard]:
        """All steps after `now`, traceable."""
        return jax.lax.scan(lambda now, x: self.tick(channel, now, *x), now, (talk.messages, talk.present[1:], talk.u[1:]))

    def whole(self, channel: Channel, talk: Talk) -> Heard:
        """An episode, traceable."""
        now, first = self.begin(channel, talk.present[0], talk.u[0])
        _, rest = self.scanned(channel, now, talk)
        return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, rest)

    def play(self, channel: Channel, talk: Talk) -> Heard:
        """An episode, compiled, in NumPy's arrays."""
        key = repr(channel)
        if key not in self._played:
            self._played[key] = quick(lambda talk: self.whole(channel, talk))
        return jax.tree.map(np.asarray, self._played[key](talk))

    def listening(self, channel: Channel, lead: tuple[int, ...], seed: int = 0) -> tuple[Array, tuple[Array, ...], Array]:
        """Arguments of `hear` with these leading axes."""
        rng, n, h = np.random.default_rng(seed), self.n, channel.history
        draw = lambda width: rng.normal(size=(*lead, n, width)).astype(np.float32)
        age = rng.integers(0, h + 1, (*lead, n, n)).astype(np.int32) * ~np.eye(n, dtype=bool)
        return draw(channel.private), tuple(draw(channel.numbers) for _ in range(h)), age.astype(np.int32)

    # ---- what is learned from
    @cached_property
    def algorithm(self) -> Algorithm:
        """A small policy, the same for every agent of a group, that talks over the lossy link."""
        spec = self.layout(self.lossy).spec
        return Algorithm(spec, Decentralized(Mlp((8,))), Individual(), PolicyGradient(epochs=1, minibatches=1), channel=self.lossy)

    @cached_property
    def learned_from(self) -> tuple[Train, Trajectory]:
        """Random networks, and what they did in a rollout of several episodes."""
        it = self.algorithm
        train = drawn(it)
        env: Any = Vectorized(self.lossy.over(RandomSteps(self.spec, self.channel.reach)), ENVS)

        def run(train: Train, key: Array) -> Trajectory:
            state, step = env.init(jax.random.split(key, ENVS))
            noise, keys = draw_noise(it, key, LENGTH, ENVS)
            return unroll(env, it, train.policy, RolloutState(state, step, it.memory(ENVS)), noise, keys)[1]

        return train, quick(run)(train, jax.random.key(0))


def blank(spec: Spec, present: Array, obs: tuple[dict[str, Array], ...]) -> Step:
    """A step in which these agents are there and nothing else happens."""
    xp = present.__array_namespace__()
    zeros, none, no = xp.zeros(spec.n, np.float32), xp.zeros(0, np.float32), xp.asarray(False)
    return Step(obs, none, zeros, zeros[0], zeros, zeros[0], no, no, (None,) * len(obs), present, present, {})


def channel_case(channel: Channel, env: str | None) -> ChannelCase:
    """The channel over the agents of `env`, whose observations are drawn at random; default: four small ones, with a leaf for reach where
    the channel asks for one. Raises `UserError` where it does not fit."""
    made = make(USUAL if env is None else env)
    spec = made.spec
    getattr(made, "close", lambda: None)()
    if env is None and channel.reach:
        near = {channel.reach: Leaf("vector", (spec.n,))}
        spec = replace(spec, groups=tuple(replace(g, observation={**g.observation, **near}) for g in spec.groups))
    return ChannelCase(channel, spec)


Law = Callable[[ChannelCase], None]
