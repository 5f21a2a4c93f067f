"""What parts are told of a batch: numbers per agent from the networks, and observations and actions as networks see them."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from marlstone.algorithm.parameter_sets import ParameterSets
from marlstone.algorithm.state import Nets
from marlstone.architectures.acting import log_prob
from marlstone.architectures.contract import ACTION_VALUES, Architecture, ObservationNormalizer
from marlstone.comms.contract import INBOX
from marlstone.comms.layout import with_shares
from marlstone.comms.learning import Speech
from marlstone.core.distributions import concat_agents
from marlstone.core.flops import component
from marlstone.core.layers import gather_agent_params, owner_index
from marlstone.core.normalize import Moments, Scales, normalize
from marlstone.core.records import replace
from marlstone.core.types import Spec, Step, Trajectory, Views
from marlstone.learners.contract import Learner

Array = Any
FROM_VALUES = frozenset({"q_chosen", "q_best", "q_default"})
"""Views that a value-based learner's actors give: their outputs are action values."""
FROM_CRITICS = frozenset({"value", "joint_q", "q_expected"})
"""Views that only critics give, which a value-based learner has none of."""
Outputs = tuple[tuple[Array, ...], tuple[Array, ...]]


@dataclass(frozen=True)
class ViewBuilder:
    """Batches of trajectories `[b t ...]`, read by the networks of one combination."""

    spec: Spec
    architecture: Architecture
    learner: Learner
    sets: ParameterSets
    speech: Speech | None = None

    def outputs(self, nets: Nets, seen: ObservationNormalizer, trajectory: Trajectory) -> Outputs:
        """What the actors' networks say of a batch, `[b t+1 n_g ...]` per group: their heads, and what lies below them."""
        step, memory, first = trajectory.step, trajectory.memory, None
        if self.speech is not None:  # what would have been said decides what would have been heard
            first = self.architecture.first(self.spec, nets.actor, seen, step)
            said, _, _ = self.architecture.policy(self.spec, self.speech.saying(nets.actor), seen, step, memory, first)
            step = self.speech.heard(said, trajectory)
            first = self._heard_instead(nets, seen, first, trajectory.step, step)
        heads, cores, _ = self.architecture.policy(self.spec, nets.actor, seen, step, memory, first)
        return with_shares(self.spec, heads, seen.obs), cores

    def _heard_instead(self, nets: Nets, seen: ObservationNormalizer, first: tuple[Array, ...], old: Step, new: Step) -> tuple[Array, ...]:
        """The output of the policies' first layers, `first` by the inboxes of `old`, by those of `new`."""
        groups, out = zip(self.architecture.actors(self.spec), nets.actor, first, old.obs, new.obs, seen.obs, strict=True), []
        for i, (a, p, h, was, now, m) in enumerate(groups):
            with component("actor", i):
                out.append(a.fuse.changed(p.fuse, h, INBOX, was[INBOX], now[INBOX], m) if INBOX in was else h)
        return tuple(out)

    def views(
        self,
        nets: Nets,
        seen: ObservationNormalizer,
        scale: Scales,
        trajectory: Trajectory,
        wanted: frozenset[str],
        greedy: Any = None,
        outputs: Outputs | None = None,
    ) -> Views:
        """What is `wanted` of a batch. `greedy`: actions `[b t+1 n_g]` whose values are asked for as `q_greedy`; `outputs`: of
        the actors, where they are known."""
        step, spaces = trajectory.step, [g.space for g in self.spec.groups]
        heads, cores = outputs or self.outputs(nets, seen, trajectory)
        now = lambda xs: tuple(None if x is None else x[:, :-1] for x in xs)
        each = lambda f, *xs: concat_agents([f(*x) for x in zip(spaces, *xs, strict=True)])
        views: dict[str, Array] = {}
        if wanted & {"logp", "entropy"}:
            views["logp"] = log_prob(self.spec, now(heads), now(step.legal), trajectory.action)
            views["entropy"] = each(lambda s, h, ok: s.entropy(h, ok), now(heads), now(step.legal))
            if self.speech is not None and self.speech.channel.priced:
                views["bits"] = self.speech.expected_bits(heads, trajectory)
        if "value" in wanted:
            values, _ = self.architecture.value(self.spec, nets.critic, seen, step, trajectory.memory, cores)
            views["value"] = self.sets.denormalized(concat_agents(list(values)), scale.value)
        for name, of in (("scale", scale.value), ("gap_scale", scale.gap)):
            if name in wanted:
                sigma = self.sets.per_agent(of.sigma)
                views[name] = jnp.broadcast_to(sigma, (*step.first.shape[:1], *sigma.shape))
        defaults = tuple(g.default_like(a) for g, a in zip(self.spec.groups, trajectory.action, strict=True))
        if self.learner.value_based:
            views["q_chosen"] = each(lambda s, q, a: s.score(q, a), now(heads), trajectory.action)
            views["q_best"] = each(lambda s, q, ok: s.best(q, ok), heads, step.legal)
            if "q_default" in wanted:
                views["q_default"] = each(lambda s, q, a: s.score(q, a), now(heads), defaults)
            if greedy is not None:
                views["q_greedy"] = each(lambda s, q, a: s.score(q, a), heads, greedy)
        elif wanted & ACTION_VALUES:
            steps = jax.tree.map(lambda x: x[:, :-1], step)
            gaps, _ = self.architecture.q(self.spec, nets.q, seen, steps, trajectory.action, trajectory.memory)
            base = lax.stop_gradient(views["value"][:, :-1])
            team = lambda f, *xs: concat_agents([f(*x) for x in zip(gaps, *xs, strict=False)])
            ask = lambda f, *xs: base + self.sets.denormalized(team(f, *xs), scale.gap)
            views["q_chosen"] = ask(lambda q, a: q.of(a), trajectory.action)
            if "q_expected" in wanted:
                views["q_expected"] = ask(lambda q, h, ok: q.mean(h, ok), now(heads), now(step.legal))
            if "q_default" in wanted:
                views["q_default"] = ask(lambda q, a: q.of(a), defaults)
        return Views(**views)

    def encoded(self, seen: ObservationNormalizer, trajectory: Trajectory) -> Trajectory:
        """A batch as credit sees it: vectors and state normalized, actions encoded, as networks see them."""
        groups = zip(trajectory.step.obs, seen.obs, self.spec.groups, strict=True)
        obs = []
        for leaves, m, g in groups:
            owners = owner_index(self.architecture.owners(g))
            mine = {
                k: Moments(gather_agent_params(v.mean, owners, 1), gather_agent_params(v.var, owners, 1), v.count) for k, v in m.items()
            }
            obs.append({k: normalize(mine[k], x) if k in mine else x for k, x in leaves.items()})
        state = trajectory.step.state if seen.state is None else normalize(seen.state, trajectory.step.state)
        action = tuple(g.space.encode(a) for g, a in zip(self.spec.groups, trajectory.action, strict=True))
        return replace(trajectory, step=replace(trajectory.step, obs=tuple(obs), state=state), action=action)
