"""What could go, as far as logged episodes show without playing: whose decisions would have been others?

On every logged step the policies decide by what was logged and, under the same noise, by what would have been left of it: without a link's
messages in the inbox, without a leaf, units or message numbers. What the change would have led to is not in a log: who decides nothing
else on all of it is a candidate, and only playing proves it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from marlstone.algorithm import Algorithm, Policy
from marlstone.comms.contract import INBOX, LINKS
from marlstone.comms.layout import LISTEN, MESSAGE
from marlstone.core.acting import Act, temperature
from marlstone.core.distributions import Composite, Content, draw_group_noise
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.core.types import Step, Trajectory
from marlstone.evaluation.episode_log import Log, difference
from marlstone.evaluation.trim.candidates import Candidate
from marlstone.evaluation.trim.networks import Networks
from marlstone.evaluation.trim.removals import Removals
from marlstone.play.action_selectors import deployed
from marlstone.stats.families import ALPHA, alpha_each

Array = Any
SAME = 1e-3  # by which a mean of a Box may differ and count as the same


@dataclass(frozen=True)
class Logged:
    """Logged episodes of a run's training seeds, which its policies decide once more. `act`: how they are deployed."""

    algorithm: Algorithm
    networks: Networks
    trajectories: tuple[Trajectory, ...]
    act: Act

    @classmethod
    def of(cls, algorithm: Algorithm, networks: Networks, log: Log, seeds: Sequence[int], act: Act) -> "Logged":
        """Raises `UserError` for a log of other agents, observations or actions, or of other training seeds."""
        if (why := difference(log.spec, algorithm.spec)) is not None:
            raise UserError(f"log {log.path} is of another run: {why}")
        if missing := [s for s in seeds if s not in log.trajectories]:
            known = ", ".join(map(str, log.trajectories))
            raise UserError(
                f"log {log.path} has no episode of training seed {missing[0]}: it has {known}; write it with marlstone evaluate"
            )
        return cls(algorithm, networks, tuple(log.trajectories[s] for s in seeds), act)

    def per_step(self, which: int) -> np.ndarray:
        """Messages (1) or bits (2) per joint step, `[n n]` (sender, recipient)."""
        assert self.algorithm.speech is not None
        total, steps = 0.0, 0.0
        for t in self.trajectories:
            after = jax.tree.map(lambda x: np.asarray(x)[:, 1:], t.step)
            real = np.asarray(t.real)
            total = total + np.asarray(self.algorithm.speech.links(after)[which])[real].sum(0)
            steps += real.sum()
        return np.asarray(total / max(steps, 1))

    def judged(self, candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
        """Of every candidate `kind name saved decisions changed said episodes episodes_changed upper`: decisions of any agent that would
        have been others, those in which it would have said something else, episodes with the former, and the upper end of the 95% interval
        of these episodes' share, which holds for all together."""
        whole, out = [self._decide(i, Removals()) for i in range(len(self.trajectories))], []
        for c in candidates:
            without = [self._decide(i, c.gone) for i in range(len(whole))]
            counted, said = (
                [self._changed(x, y, messages) & np.asarray(t.acts) for x, y, t in zip(whole, without, self.trajectories, strict=True)]
                for messages in (False, True)
            )
            other = sum(int(x.any((1, 2)).sum()) for x in counted)
            episodes = sum(len(x) for x in counted)
            figures = {
                "decisions": sum(int(np.asarray(t.acts).sum()) for t in self.trajectories),
                "changed": sum(int(x.sum()) for x in counted),
                "said": sum(int(x.sum()) for x in said),
                "episodes": episodes,
                "episodes_changed": other,
                "upper": _upper(other, episodes, alpha_each(len(candidates))),
            }
            out.append({"kind": c.kind, "name": c.name, "saved": dict(c.saves), **figures})
        return out

    def _decide(self, i: int, gone: Removals) -> list[np.ndarray]:
        """Recorded actions per group `[e t n_g ...]`, without what is gone."""
        agents = self.algorithm.spec.team.agents
        cut = np.zeros((len(agents), len(agents)), bool)
        for sender, recipient in gone.links:
            cut[agents.index(recipient), agents.index(sender)] = True
        policy = jax.tree.map(lambda x: x[i], self.networks.silenced(gone))
        t = self.trajectories[i]
        return [np.asarray(x) for x in self._again(policy, replace(t, memory=None), cut)]

    @cached_property
    def _again(self) -> Any:
        return jax.jit(self._decided)

    def _decided(self, policy: Policy, t: Trajectory, cut: Array) -> tuple[Array, ...]:
        it = self.algorithm
        steps = jax.tree.map(lambda x: x[:, :-1], t.step)
        e, length = steps.first.shape
        if it.speech is not None:
            steps = self._heard(steps, t.action, cut)
        heads, _ = it.heads(deployed(policy), steps, it.memory(e))
        groups = it.spec.groups
        noise = draw_group_noise([g.space for g in groups], [g.count for g in groups], jax.random.key(0), (e, length))
        return it.sample(heads, steps.legal, tuple(temperature(self.act) * z for z in noise))

    def _heard(self, steps: Step, action: tuple[Array, ...], cut: Array) -> Step:
        """Steps with inboxes in which nothing came over the links that are `cut [n n]` (recipient, sender); others as logged."""
        channel, groups = self.algorithm.channel, self.algorithm.spec.team.groups
        parts = [g.space.split(a) for g, a in zip(groups, action, strict=False) if isinstance(g.space, Composite)]
        join = lambda name: jnp.concatenate([p[name] for p in parts], axis=2)
        content = channel.content
        said = content.sent(join(MESSAGE))
        own = join(LISTEN) if channel.private else jnp.zeros((*said.shape[:3], 0))
        length = said.shape[1]
        later = lambda x, k: jnp.pad(x, [(0, 0), (k, 0), *[(0, 0)] * (x.ndim - 2)])[:, :length]
        age = jnp.concatenate([x[LINKS] for x in steps.obs[: len(groups)]], axis=-2)[..., : cut.shape[0]].astype(jnp.int32)
        left = jnp.where(cut, 0, age)
        inbox = channel.hear(later(own, 1), tuple(later(said, a + 1) for a in range(channel.history)), left)
        without = ((age > 0) & cut).any(-1, keepdims=True)
        obs, at = [], 0
        for g, leaves in zip(groups, steps.obs, strict=False):
            mine = slice(at, at + g.count)
            at += g.count
            shown = leaves[INBOX][..., inbox.shape[-1] :]
            heard = jnp.where(without[..., mine, :], inbox[..., mine, :], leaves[INBOX][..., : inbox.shape[-1]])
            obs.append({**leaves, INBOX: jnp.concatenate([heard, shown], -1)})
        return replace(steps, obs=(*obs, *steps.obs[len(obs) :]))

    def _changed(self, a: list[np.ndarray], b: list[np.ndarray], messages: bool) -> np.ndarray:
        """Whose decisions differ, `[e t n]`: in any choice, or by more than `SAME` in a number, what is said aside; or, of `messages`, who
        says something else."""
        out = []
        for g, x, y in zip(self.algorithm.spec.groups, a, b, strict=True):
            x, y = (np.asarray(z, np.float32).reshape(*z.shape[:3], -1) for z in (x, y))
            counts = np.full(x.shape[-1], not messages)
            if isinstance(g.space, Composite):
                each = [np.full(max(1, sum(p.action_shape)), isinstance(p, Content) == messages) for p in g.space.parts]
                counts = np.concatenate(each)
            out.append((np.abs(x - y) > SAME)[..., counts].any(-1))
        return np.concatenate(out, -1)


def _upper(k: int, n: int, alpha: float = ALPHA) -> float:
    """The upper end of the exact interval of a share, k of n (Clopper and Pearson 1934)."""
    return 1.0 if k >= n else float(special.betaincinv(k + 1, n - k, 1 - alpha / 2))
