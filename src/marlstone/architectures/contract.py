"""What an architecture decides: who sees what, who shares parameters. Networks are built here once for all of them."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Literal

from marlstone.architectures.acting import Actor, first_layers, policy_forward
from marlstone.architectures.action_values import ActionValues, Joint, QValues
from marlstone.architectures.body import Body, Mlp
from marlstone.architectures.network import Network, network
from marlstone.core.distributions import Composite
from marlstone.core.flops import component
from marlstone.core.layers import Dense, dense, owner_index
from marlstone.core.normalize import Moments, normalize
from marlstone.core.records import record, replace
from marlstone.core.types import Group, Spec, Step, Trajectory
from marlstone.encoders import contract as encoding
from marlstone.encoders.contract import Encoder, encoders_of
from marlstone.encoders.fuse import Fuse
from marlstone.encoders.image import Image
from marlstone.envs.managed import Managers

Array = Any
Sharing = Literal["all", "type", "none"]
ACTION_VALUES = frozenset({"q_chosen", "q_expected", "q_default"})
COST = "cost"  # among what is wanted: critics of costs


@record
class Memory:
    """Recurrent state per group, `[b n_g h]`; None where the body has none. The critics' (of values, and behind them of costs where these
    are constrained; of action values) is needed in training only."""

    actor: tuple[Array | None, ...]
    critic: tuple[Array | None, ...]
    q: tuple[Array | None, ...]


@record
class ObservationNormalizer:
    """Moments that normalize what networks see: per group, leaf -> `[(k) f]`; and the state's."""

    obs: tuple[dict[str, Moments], ...]
    state: Moments | None


@lru_cache(maxsize=256)
def owners(types: tuple[str, ...], sharing: Sharing) -> tuple[int, ...]:
    """Whose parameters each agent of a group uses: `[n]`, counting from 0."""
    if sharing == "all":
        return (0,) * len(types)
    return tuple(range(len(types))) if sharing == "none" else tuple(sorted(set(types), key=types.index).index(t) for t in types)


def _begun(group: Group, made: Network) -> Network:
    """A group's untrained policy, as what its agents say begins (`core.distributions.speech`)."""
    if not isinstance(group.space, Composite):
        return made
    return replace(made, head=Dense(*group.space.start(made.head.w, made.head.b)))


@dataclass(frozen=True)
class Architecture:
    """Networks for actors and critics of every group. Subclasses say what critics see.

    Fields: `body` of both networks; `sharing`: parameters shared by `all` agents of a group, by `type`, or not at all;
    `agent_ids`: agents that share parameters are told which one they are; `trunk`: whether actor and critic share their core;
    `encoders`: encoders by the name of an observation leaf, or for all leaves of a kind (`image`, `vector`), or for `all` leaves that the
    encoder accepts; `image`: the encoder of image leaves for which none is chosen there; `value_gain`: of the heads of values when they are
    made (None: the architecture's own). With 0 values start at 0: until a reward is met advantages are 0 too, and policies stay as random
    as they begin, where a random critic's differences, standardized, would make them anything before they have met one.
    """

    body: Body = field(default_factory=Mlp)
    sharing: Sharing = "all"
    agent_ids: bool = True
    trunk: Literal["separate", "shared"] = "separate"
    image: Image = field(default_factory=Image)
    encoders: dict[str, Encoder] = field(default_factory=dict, hash=False)
    value_gain: float | None = None

    provides: ClassVar[frozenset[str]] = frozenset({"value", *ACTION_VALUES})
    central: ClassVar[bool] = False
    own_value_gain: ClassVar[float] = 1.0

    def __post_init__(self) -> None:
        for name, allowed in (("sharing", ("all", "type", "none")), ("trunk", ("separate", "shared"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{type(self).__name__}.{name} is {getattr(self, name)!r}: choose one of {', '.join(allowed)}")
        if self.value_gain is not None and not 0 <= self.value_gain < float("inf"):
            raise ValueError(f"{type(self).__name__}.value_gain is {self.value_gain}: give 0 or more")

    # who there is
    def managers(self) -> Managers | None:
        """Who is put over the environment's agents before anything else is built; None: nobody."""
        return None

    def pay(self, spec: Spec, trajectory: Trajectory, known: Trajectory) -> Array | None:
        """Rewards beside those that credit gives, `[b t n]`, and None for none; `known`: the batch as networks see it."""
        return None

    def body_of(self, group: Group) -> Body:
        """The body of a group's networks."""
        return self.body

    # what each network sees
    def owners(self, group: Group) -> tuple[int, ...]:
        """The parameter set of each agent of a group, counting from 0."""
        return owners(group.types, self.sharing)

    def refuses(self, spec: Spec) -> str | None:
        """Why this architecture cannot serve an environment, or None. To be asked of `super()` too."""
        return encoding.refuses(spec, self.encoders)

    def actor_fuse(self, group: Group) -> Fuse:
        """The first layer of a group's policy: everything that its agents see."""
        encoders = encoders_of(group, self.encoders, self.image)
        return Fuse(group, self.body_of(group).intake, self.owners(group), encoders, group.seen, 0, self.agent_ids)

    def critic_fuse(self, group: Group, spec: Spec) -> Fuse:
        """The first layer of a group's critics: what they see. Here, what the policy sees."""
        return self.actor_fuse(group)

    def actors(self, spec: Spec) -> tuple[Actor, ...]:
        """Every group's policy network, as plain data."""
        return tuple(Actor(self.actor_fuse(g), self.body_of(g)) for g in spec.groups)

    # parameters
    def init(
        self, spec: Spec, key: Array, wanted: frozenset[str] = frozenset({"value"})
    ) -> tuple[tuple[Network, ...], tuple[Network, ...], tuple[Joint, ...]]:
        """Per group: actors, critics of values and of action values, those that are `wanted`. Policies start near uniform (head gain
        0.01, Andrychowicz et al. 2021)."""
        import jax

        keys = jax.random.split(key, (2, len(spec.groups)))
        apart = self.trunk == "separate"
        actor = tuple(
            _begun(g, network(self.body_of(g), self.actor_fuse(g), g.space.head, 0.01, k))
            for g, k in zip(spec.groups, keys[0], strict=True)
        )
        values = zip(spec.groups if "value" in wanted else (), keys[1], strict=False)
        gain = self.own_value_gain if self.value_gain is None else self.value_gain
        critic = tuple(network(self.body_of(g), self.critic_fuse(g, spec), 1, gain, k, apart) for g, k in values)
        q = self.action_values(spec).init(jax.random.fold_in(key, 2)) if wanted & ACTION_VALUES else ()
        return actor, critic, q

    def action_values(self, spec: Spec) -> ActionValues:
        """The critics of action values, of the team's agents: credit is assigned to nobody else."""
        team = spec.team
        return ActionValues(team, self.body, tuple(self.critic_fuse(g, spec) for g in team.groups), "joint_q" in self.provides)

    def memory(self, spec: Spec, b: int, wanted: frozenset[str] = frozenset({"value"})) -> Memory:
        """Recurrent state at the start of an episode, for `b` environments, of what is `wanted` (`COST`: critics of costs too)."""
        import jax

        fresh = lambda x: jax.tree.map(lambda x: x[None].repeat(b, 0), x)
        actor = tuple(self.body_of(g).memory(self.actor_fuse(g).rows) for g in spec.groups)
        values = tuple(self.body_of(g).memory(self.critic_fuse(g, spec).rows) if self.trunk == "separate" else None for g in spec.groups)
        q = self.action_values(spec).memory() if wanted & ACTION_VALUES else ()
        return fresh(Memory(actor, (values if "value" in wanted else ()) + (values if COST in wanted else ()), q))

    def of_costs(self, spec: Spec, memory: Memory) -> tuple[Array | None, ...]:
        """The part of a memory that belongs to critics of costs."""
        return memory.critic[-len(spec.groups) :]

    # forward: leading axes `b` or `b t`
    def first(self, spec: Spec, actor: tuple[Network, ...], seen: ObservationNormalizer, step: Step) -> tuple[Array, ...]:
        """The output of the policies' first layers, `[b (t) n_g intake]` per group."""
        return first_layers(self.actors(spec), actor, seen.obs, step)

    def policy(
        self,
        spec: Spec,
        actor: tuple[Network, ...],
        seen: ObservationNormalizer,
        step: Step,
        memory: Memory,
        first: tuple[Array, ...] | None = None,
    ) -> tuple[tuple[Array, ...], tuple[Array, ...], Memory]:
        """Heads `[b (t) n_g head]` per group, the cores they came from, and memory after them. `first`: of their first layers, where it is
        known."""
        heads, cores, after = policy_forward(self.actors(spec), actor, seen.obs, step, memory.actor, first)
        return heads, cores, replace(memory, actor=after)

    def value(
        self,
        spec: Spec,
        critic: tuple[Network, ...],
        seen: ObservationNormalizer,
        step: Step,
        memory: Memory,
        cores: tuple[Array, ...] | None,
    ) -> tuple[tuple[Array, ...], Memory]:
        """Normalized values `[b (t) n_g]` per group, and memory after them. A shared trunk reads the actor's `cores`."""
        values, after = [], []
        for i, (g, p, h) in enumerate(zip(spec.groups, critic, memory.critic, strict=False)):  # critics of costs have theirs behind
            own, body = owner_index(self.owners(g)), self.body_of(g)
            with component("critic", i, step.first):
                if cores is not None and self.trunk == "shared":
                    core = cores[i]
                else:
                    fuse = self.critic_fuse(g, spec)
                    state = self._state(seen, step) if fuse.state else None
                    core, h = body.advance(p.core, fuse(p.fuse, step.obs[i], seen.obs[i], state), step.first, h, own)
                value = dense(p.head, body.finish(p.after, core, own), own)[..., 0]
            values.append(value.__array_namespace__().broadcast_to(value, (*value.shape[:-1], g.count)))
            after.append(h)
        return tuple(values), replace(memory, critic=(*after, *memory.critic[len(after) :]))

    def q(
        self, spec: Spec, q: tuple[Joint, ...], seen: ObservationNormalizer, step: Step, action: tuple[Array, ...], memory: Memory
    ) -> tuple[tuple[QValues, ...], Memory]:
        """Normalized action values of the team's agents, the others acting as recorded, and memory after them."""
        critics = self.action_values(spec)
        state = self._state(seen, step) if any(f.state for f in critics.fuses) else None
        values, after = critics(q, step, seen.obs, state, action, memory.q)
        return values, replace(memory, q=after)

    def _state(self, seen: ObservationNormalizer, step: Step) -> Array:
        return step.state if seen.state is None else normalize(seen.state, step.state)

    def recurrent_critic(self) -> bool:
        """Whether critics have a memory of their own, which must be carried along."""
        return self.trunk == "separate" and self.body.memory(1) is not None
