"""What an environment declares and gives, and what an actor sends a learner: `Spec`, `Step`, `Trajectory`.

Axes, always in this order: batch/env `b`, time `t`, agent `n`, then features. Observations, actions and parameters are
dense per group, `[*t n_g ...]`; whatever is one number per agent lives on one agent axis `[*t n]`, the concatenation of
the groups. A trajectory has t+1 steps: step t+1 carries the reward and the discount of the action at step t.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from marlstone.core.arrays import Array
from marlstone.core.distributions import ActionSpace, Composite, Content, Discrete
from marlstone.core.records import record, replace

if TYPE_CHECKING:  # annotations are not evaluated: processes that step and act import neither JAX nor jaxtyping
    from jaxtyping import Bool, Float


@dataclass(frozen=True)
class Leaf:
    """One modality of an observation.

    Attributes:
      kind: `vector` or `image`; `message`, a vector that networks see as it is, never normalized; `record`, numbers that are recorded
        with every step and that no network sees. Channels add the last two (`comms`).
      shape: `(f,)` of a vector, `(h, w, c)` of an image.
      dtype: images of `uint8` are in 0..255, others are taken as they are.

    Raises:
      ValueError: a shape of another rank than the kind's.
    """

    kind: Literal["vector", "image", "message", "record"]
    shape: tuple[int, ...]
    dtype: str = "float32"

    def __post_init__(self) -> None:
        rank = 3 if self.kind == "image" else 1
        if len(self.shape) != rank:
            raise ValueError(f"observation leaf of kind {self.kind!r} has shape {self.shape}: expected {rank} dimension(s)")


@dataclass(frozen=True)
class Group:
    """Agents whose observations and actions have the same structure. Smaller ones are padded with zeros and masked.

    Attributes:
      name: unique among the groups.
      agents: names, in agent-axis order.
      observation: leaves by name; nested Dicts are flattened with `/` (`"camera/front"`).
      space: the padded action space; where agents differ, `Step.legal` masks what an agent lacks.
      types: one name per agent; parameters are shared within a type under `sharing = "type"`.
      features: per leaf and agent, how many leading features of a padded vector leaf are real; absent leaf = all.
      default: the recorded action that "does nothing special", for contributions, fallbacks and agents without a legal action: an index,
        one index per choice, numbers of a Box before `emit`, or a Composite's indices and numbers, part after part; 0 stands for zeros;
        or a tuple of these, one per agent.
      clock: the group decides every `clock` steps (managers); 1 for everyone else.
      requests: actions of a Discrete space that ask somebody instead of acting; the share of steps spent on them is counted.

    Raises:
      ValueError: no agents, no observation, another number of types than of agents, or requests that are no actions of a Discrete space.
    """

    name: str
    agents: tuple[str, ...]
    observation: dict[str, Leaf]
    space: ActionSpace
    types: tuple[str, ...] = ()
    features: dict[str, tuple[int, ...]] = field(default_factory=dict)
    default: Any = 0
    clock: int = 1
    requests: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.agents:
            raise ValueError(f"group {self.name!r} has no agents: leave it out")
        if not self.observation:
            raise ValueError(f"group {self.name!r} has no observation: give it at least one leaf")
        if not self.types:
            object.__setattr__(self, "types", (self.name,) * len(self.agents))
        if len(self.types) != len(self.agents):
            raise ValueError(f"group {self.name!r} names {len(self.types)} types for {len(self.agents)} agents: give one per agent")
        own = _beside_messages(self.space)
        if self.requests and not isinstance(own, Discrete):
            raise ValueError(
                f"group {self.name!r} has requests {self.requests} among actions of {self.space}: an action of several parts is no request "
                "as a whole; give requests with a Discrete space only"
            )
        if any(not 0 <= a < own.head for a in self.requests) or len(set(self.requests)) != len(self.requests):
            raise ValueError(f"group {self.name!r} has requests {self.requests}: give different actions from 0 to {own.head - 1}")

    @property
    def count(self) -> int:
        """Number of agents, the axis `n_g`."""
        return len(self.agents)

    @property
    def seen(self) -> tuple[str, ...]:
        """Names of the leaves that networks see."""
        return tuple(name for name, leaf in self.observation.items() if leaf.kind != "record")

    def default_like(self, action: Array) -> Array:
        """The declared default in place of every recorded action `[... n_g]` or `[... n_g k]`."""
        xp = action.__array_namespace__()
        return xp.broadcast_to(xp.asarray(self.default, dtype=action.dtype), action.shape)

    @property
    def recorded_defaults(self) -> np.ndarray:
        """Every agent's declared default as a recorded action, `[n_g]`, or `[n_g k]` with several numbers to an action."""
        return np.broadcast_to(np.asarray(self.default, self.space.action_dtype), (self.count, *self.space.action_shape))

    @property
    def encoded_default(self) -> np.ndarray:
        """The declared defaults as networks and credit see actions, `[n_g a]`."""
        return self.space.encode(self.recorded_defaults)


def _beside_messages(space: ActionSpace) -> ActionSpace:
    """What agents that talk do beside it: the first part of their actions. Any other space as it is."""
    if isinstance(space, Composite) and any(isinstance(part, Content) for part in space.parts):
        return space.parts[0]
    return space


@dataclass(frozen=True)
class Metric:
    """A declared true metric: what the team really wants, beside the reward.

    Attributes:
      better: which way is better.
      reduce: how the values at an episode's steps become its figure.
      cost: whether it is only what play costs (messages, bits): recorded as any other, and no evidence of what the team wants.
    """

    better: Literal["up", "down"] = "up"
    reduce: Literal["sum", "mean", "last"] = "sum"
    cost: bool = False


@dataclass(frozen=True)
class Spec:
    """What is known of an environment before it runs.

    Attributes:
      groups: agents by group; managers (`clock` > 1) come last.
      state: length of the global state vector.
      horizon: about how many joint steps an episode has (None: unknown), never a limit: Python environments declare it by attributes such
        as `max_cycles`, which may count something else, or be off by one.
      metrics: declared true metrics by name.
      opponents: agents that play against the team: `team_reward` is not theirs.
      return_bounds: the least and the greatest undiscounted team return that an episode can have (None, or either of them None: unknown).

    Raises:
      ValueError: managers before others, an agent's name twice, or bounds in the wrong order.
    """

    groups: tuple[Group, ...]
    state: int
    horizon: int | None = None
    metrics: dict[str, Metric] = field(default_factory=dict)
    opponents: tuple[str, ...] = ()
    return_bounds: tuple[float | None, float | None] | None = None

    def __post_init__(self) -> None:
        clocks = [g.clock > 1 for g in self.groups]
        if clocks != sorted(clocks):
            raise ValueError("managers (groups with clock > 1) come last, so that the team is a prefix of the agent axis: reorder `groups`")
        names = [a for g in self.groups for a in g.agents]
        if len(set(names)) != len(names):
            raise ValueError(f"agent names repeat: {sorted({a for a in names if names.count(a) > 1})}")
        low, high = self.return_bounds or (None, None)
        if low is not None and high is not None and not low <= high:
            raise ValueError(f"return_bounds is {self.return_bounds}: give (least, greatest) team return of an episode, or None")

    @cached_property
    def agents(self) -> tuple[str, ...]:
        """Names along the agent axis."""
        return tuple(a for g in self.groups for a in g.agents)

    @property
    def n(self) -> int:
        """Length of the agent axis."""
        return len(self.agents)

    @property
    def wanted_metrics(self) -> dict[str, Metric]:
        """Declared metrics that say what the team wants: all but costs."""
        return {name: m for name, m in self.metrics.items() if not m.cost}

    @cached_property
    def team(self) -> Spec:
        """The groups that credit methods attribute to: everyone but managers."""
        return replace(self, groups=tuple(g for g in self.groups if g.clock == 1))


def spec_difference(wanted: Spec, other: Spec) -> str:
    """The first difference between two environments' specs, as a sentence for a message; empty where they are equal."""
    for name in ("agents", "state", "horizon", "metrics", "opponents"):
        a, b = getattr(wanted, name), getattr(other, name)
        if a != b:
            return f"its {name} would be {b} instead of {a}"
    for g, h in zip(wanted.groups, other.groups, strict=False):
        for name in vars(g):
            a, b = getattr(g, name), getattr(h, name)
            if a != b:
                return f"group {g.name!r}: its {name} would be {b} instead of {a}"
    return ""


@record
class Step:
    """What every agent sees now, and what the previous joint action earned. `*t` is any leading axes.

    Attributes:
      obs: per group, leaf name -> `[*t n_g ...]`.
      state: global state, for critics only, never shipped with a policy.
      reward: each agent's own.
      team_reward: the team's.
      discount: 0 where that agent terminated or is gone for good, else 1.
      team_discount: 0 only where the episode terminated (truncation keeps 1).
      first: an episode starts here and the action before it was ignored (next-step autoreset).
      last: the episode ended here, by termination or truncation, so the next step is a reset.
      legal: per group the mask of legal actions `[*t n_g a]`, or None (all legal).
      present: who is there.
      deciding: whose action counts; managers decide only where their clock runs out.
      metrics: declared true metrics by name, `[*t]`.
    """

    obs: tuple[dict[str, Array], ...]
    state: Float[Array, "*t s"]
    reward: Float[Array, "*t n"]
    team_reward: Float[Array, "*t"]
    discount: Float[Array, "*t n"]
    team_discount: Float[Array, "*t"]
    first: Bool[Array, "*t"]
    last: Bool[Array, "*t"]
    legal: tuple[Bool[Array, "*t n_g a"] | None, ...]
    present: Bool[Array, "*t n"]
    deciding: Bool[Array, "*t n"]
    metrics: dict[str, Float[Array, "*t"]]


@record
class MeasuredWorth:
    """What some actions were worth, measured by playing the same state on without them (`rollout.counterfactuals`).

    Attributes:
      worth: the team's discounted return with the agent's action less that with its default in its place, `[*b t n]`; 0 elsewhere.
      known: where it was measured, `[*b t n]`.
    """

    worth: Float[Array, "*b t n"]
    known: Bool[Array, "*b t n"]


@record
class Trajectory:
    """What an actor sends a learner: t transitions of each of b environments.

    Attributes:
      step: t+1 steps, `[*b t+1 ...]`; step t+1 answers the last action.
      action: per group, as recorded (`ActionSpace`), `[*b t n_g ...]`.
      logp: log-probability under the policy that acted, so that stale data can be corrected.
      memory: the policy's recurrent state when the trajectory began (None for feed-forward bodies).
      measured: what was measured of its actions' worth, where credit asks for that; else None.
    """

    step: Step
    action: tuple[Array, ...]
    logp: Float[Array, "*b t n"]
    memory: Any
    measured: MeasuredWorth | None = None

    @property
    def real(self) -> Bool[Array, "*b t"]:
        """Which transitions are no resets. Only these are joint environment steps."""
        return ~self.step.first[..., 1:]

    @property
    def acts(self) -> Bool[Array, "*b t n"]:
        """Where an agent made a decision: the only steps that policy losses may use."""
        return (self.step.present & self.step.deciding)[..., :-1, :] & self.real[..., None]

    def counts(self, discount: Float[Array, "b t n"], beyond: Array) -> Bool[Array, "b t n"]:
        """The steps that belong to an agent's return; elsewhere it is gone for good, and its return restarts from its value.

        A step on which the team's episode terminates counts for an absent agent if its reward goes on, or if it was expected back
        (absent for more than a step, at discount 1). An agent that was truncated on the step before is neither: its return ended there,
        and is bootstrapped from its final observation.

        Args:
          discount: of the reward the agent learns from.
          beyond: whether that reward goes on after the agent's own end, until the team's.
        """
        step = self.step
        here, terminated = step.present[:, :-1], step.team_discount[:, 1:, None] == 0
        before = step.present[:, [0, *range(here.shape[1] - 1)]]
        awaited = ~before & (step.discount[:, :-1] > 0)
        return here | (discount > 0) | (terminated & (beyond | awaited))

    def of(self, team: Spec) -> Trajectory:
        """This trajectory with the groups of `team` (`Spec.team`) only."""
        g, m, s = len(team.groups), team.n, self.step
        if m == s.reward.shape[-1]:
            return self
        step = replace(
            s,
            obs=s.obs[:g],
            legal=s.legal[:g],
            **{k: getattr(s, k)[..., :m] for k in ("reward", "discount", "present", "deciding")},
        )
        measured = self.measured
        if measured is not None:
            measured = MeasuredWorth(measured.worth[..., :m], measured.known[..., :m])
        return Trajectory(step, self.action[:g], self.logp[..., :m], self.memory, measured)


@record
class Views:
    """What parts ask of networks about a batch, one number per agent and step; None where nobody asked for it.

    Values are denormalized; action values are those of one agent's action, the others acting as recorded.

    Attributes:
      logp: log-probability of the recorded action, `[*b t n]`.
      entropy: of the policy, in nats, `[*b t n]`.
      value: state values, `[*b t+1 n]`; the last step bootstraps.
      q_chosen: of the recorded action, `[*b t n]`.
      q_expected: expected under the agent's policy, `[*b t n]`.
      q_default: of the agent's declared default action, `[*b t n]`.
      q_best: of its best legal action, `[*b t+1 n]`.
      q_greedy: of the action the learner would take, `[*b t+1 n]`.
      scale: standard deviation of value targets, `[*b n]`.
      gap_scale: standard deviation of what action values add to state values, `[*b n]`.
      bits: that each agent is expected to send, `[*b t n]`, where agents talk and that costs something.
      team: where credit methods are asked, the `Spec` of the agents they attribute to.
    """

    logp: Any = None
    entropy: Any = None
    value: Any = None
    q_chosen: Any = None
    q_expected: Any = None
    q_default: Any = None
    q_best: Any = None
    q_greedy: Any = None
    scale: Any = None
    gap_scale: Any = None
    bits: Any = None
    team: Any = None
