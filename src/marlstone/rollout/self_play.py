"""Self-play against a league of one's own past: `[self_play] opponents = "blue*"`, for environments written in JAX.

    league     the last `keep` snapshots of the policy that learns, one every so many updates, and how it fares against each
    episode    at its beginning an opponent is drawn from the league, or it is the policy as it stands; it stays to the end

The league lives in the training state, on the device: snapshots are taken inside the training program, nothing is compiled anew, and
checkpoints hold it, so that a resumed run goes on exactly. Opponents act inside `step`, as frozen ones do (`rollout.opponents`); wherever
there is no league (evaluation, measuring the machine), they play uniformly at random.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from marlstone.core.distributions import draw_group_noise
from marlstone.core.errors import UserError
from marlstone.core.records import record, replace
from marlstone.core.types import Array, Spec, Step
from marlstone.envs.agent_view import AgentView, without
from marlstone.envs.protocol import Env
from marlstone.envs.teams import members
from marlstone.policy.dictionaries import blank_actions
from marlstone.rollout.opponents import RANDOM, ByRule, Seat

if TYPE_CHECKING:
    from marlstone.algorithm import Algorithm, Policy

Sampling = Literal["uniform", "latest", "prioritized"]
FORGET = 0.98  # of what is known of results, per update
HARD = 2.0  # the exponent p of f(x) = (1 - x)^p


@record
class League:
    """Past policies, `[keep ...]` each, and what is known of them.

    Attributes:
      policies: the snapshots; those not taken yet are copies of the first.
      taken: how many snapshots were taken so far; the next goes to place `taken % keep`.
      games: results against each that still count, `[keep]`.
      wins: how many of these the team won, a draw being half a win, `[keep]`.
      counted: the environments' own totals of `games` and `wins` so far, `[2 keep]`.
    """

    policies: Any
    taken: Array
    games: Array
    wins: Array
    counted: Array


@record
class LeagueState:
    """An environment with an opponent from the league.

    Attributes:
      env: its own state.
      seen: what the opponent saw last.
      memory: the opponent's.
      who: its place in the league; `keep`: it is the policy as it stands.
      returns: both sides' returns so far, `[2]`.
      results: games and wins by opponent over this copy's life, `[2 keep]`.
    """

    env: Any
    seen: Step
    memory: Any
    who: Array
    returns: Array
    results: Array


@dataclass(frozen=True)
class Rules:
    """How opponents are drawn: `keep` places, `sampling` among them, and the share of episodes against the policy as it stands."""

    keep: int
    sampling: Sampling
    current: float

    def chances(self, league: League) -> Array:
        """`[keep + 1]`: the probability of each place, and last of the policy as it stands.

        `prioritized`: in proportion to f(x) = (1 - x)^2 of the rate x at which the opponent is beaten, so that whoever is hard to beat is
        met often (prioritized fictitious self-play, Vinyals et al. 2019, f_hard).
        """
        import jax.numpy as jnp

        filled = jnp.arange(self.keep) < league.taken
        if self.sampling == "latest":
            weight = (jnp.arange(self.keep) == (league.taken - 1) % self.keep).astype(jnp.float32)
        elif self.sampling == "uniform":
            weight = filled.astype(jnp.float32)
        else:
            beaten = (league.wins + 1) / (league.games + 2)  # half, of whom nothing is known
            weight = filled * (1 - beaten) ** HARD
        weight = weight / jnp.maximum(weight.sum(), 1e-9)
        return jnp.concatenate([(1 - self.current) * weight, jnp.full(1, self.current)])


@dataclass(frozen=True)
class LeagueEnv:
    """A JAX environment in which `agents` are played from the league. `learning` and `other` are its two sides, as the policy knows them.

    Without a league at hand (`players` None) the other side plays at random.
    """

    env: Env
    learning: AgentView
    other: AgentView
    agents: frozenset[str]
    rules: Rules
    algorithm: Any = None
    players: Any = None  # [keep + 1 ...], the last being the policy as it stands
    chances: Any = None

    @property
    def spec(self) -> Spec:
        """Of those who learn."""
        inner = self.env.spec
        opponents = tuple(a for a in inner.opponents if a not in self.agents)
        return replace(inner, groups=self.learning.groups, opponents=opponents)

    @property
    def _seat(self) -> Seat:
        return Seat(ByRule(self.other.groups, RANDOM), self.other, self.agents)

    def _begun(self, env: Any, step: Step, key: Array, results: Array) -> tuple[LeagueState, Step]:
        import jax
        import jax.numpy as jnp

        who, memory = jnp.int32(self.rules.keep), ()
        if self.players is not None:
            drawn = (jax.random.uniform(key) >= jnp.cumsum(self.chances)).sum()
            who = jnp.minimum(drawn, self.rules.keep).astype(jnp.int32)
            memory = self.algorithm.memory(1)
        state = LeagueState(env, self._seat.seen(step), memory, who, jnp.zeros(2), results)
        return state, self.learning.step(step)

    def init(self, key: Array) -> tuple[LeagueState, Step]:
        """A fresh episode of a fresh copy, against whom the rules draw."""
        import jax
        import jax.numpy as jnp

        k1, k2 = jax.random.split(key)
        env, step = self.env.init(k1)
        return self._begun(env, step, k2, jnp.zeros((2, self.rules.keep)))

    def again(self, state: LeagueState, key: Array) -> tuple[LeagueState, Step]:
        """A fresh episode of the same copy, whose results go on."""
        import jax

        k1, k2 = jax.random.split(key)
        again = getattr(self.env, "again", None)
        env, step = self.env.init(k1) if again is None else again(state.env, k1)
        return self._begun(env, step, k2, state.results)

    def step(self, state: LeagueState, action: tuple[Array, ...], key: Array) -> tuple[LeagueState, Step]:
        """One joint step; at the episode's last, its result counts."""
        import jax
        import jax.numpy as jnp

        k1, k2 = jax.random.split(key)
        theirs, memory = self._act(state, k2)
        blank: tuple[Array, ...] = tuple(jnp.asarray(g.space.emit(blank_actions(g))) for g in self.env.spec.groups)
        joint = self.learning.put(blank, action, frozenset(self.learning.played))
        joint = self.other.put(joint, theirs, self.agents)
        env, step = self.env.step(state.env, joint, k1)
        gained = jnp.stack([step.team_reward, step.reward[self.other.axis].sum()])
        returns = state.returns + gained
        won = (1 + jnp.sign(returns[0] - returns[1])) / 2
        against = (jnp.arange(self.rules.keep) == state.who) & step.last
        results = state.results + jnp.stack([against, against * won])
        return LeagueState(env, self._seat.seen(step), memory, state.who, returns, results), self.learning.step(step)

    def _act(self, state: LeagueState, key: Array) -> tuple[tuple[Array, ...], Any]:
        """The other side's actions, as the environment takes them, and its memory after them."""
        import jax

        groups = self.other.groups
        noise = draw_group_noise([g.space for g in groups], [g.count for g in groups], key, ())
        if self.players is None:
            chosen, memory = self._seat.mind.act(state.seen, (), noise)
        else:
            one = lambda tree: jax.tree.map(lambda x: x[None], tree)
            policy = jax.tree.map(lambda x: x[state.who], self.players)
            step = one(state.seen)
            heads, memory = self.algorithm.heads(policy, step, state.memory)
            chosen = jax.tree.map(lambda x: x[0], self.algorithm.sample(heads, step.legal, one(noise)))
        return tuple(g.space.emit(a) for g, a in zip(groups, chosen, strict=True)), memory


def over_league(env: Any, pattern: str, rules: Rules) -> Any:
    """`env` in which the agents of `pattern` are played from the league of those who learn. Raises `UserError` where Python steps it, and
    where the two sides are not alike."""
    where = f"self_play.opponents = {pattern!r}"
    if hasattr(env, "reset"):
        raise UserError(
            f"{where}: a league is kept where the environment is written in JAX, and this one is stepped by Python: let both sides learn "
            "(--credit individual), or train against earlier runs in turn: --opponent 'blue*=runs/before'"
        )
    spec = env.spec
    agents = members(spec, pattern, "self_play.opponents")
    if friends := [a for a in agents if a not in spec.opponents]:
        raise UserError(f"{where}: {', '.join(friends)} would be opponents of their own team: name whose team it is, --team AGENTS")
    groups, _ = without(spec, frozenset(agents))
    mine = tuple(a for g in groups for a in g.agents)
    learning = AgentView(spec, groups, mine)
    if len(agents) != len(mine):
        raise UserError(f"{where}: {len(mine)} agents learn ({', '.join(mine)}), and {len(agents)} are played: {_unlike()}")
    try:
        other = AgentView(spec, groups, agents)
    except ValueError as error:
        raise UserError(f"{where}: {error}: {_unlike()}") from error
    return LeagueEnv(env, learning, other, frozenset(agents), rules)


def _unlike() -> str:
    return (
        "a league is of policies that can play either side; train sides that differ in turn, each with [opponents] naming the other's run"
    )


def league_env(env: Any) -> LeagueEnv | None:
    """The environment with a league that lies under whatever is put over it, if there is one."""
    while env is not None and not isinstance(env, LeagueEnv):
        env = getattr(env, "env", None)
    return env


def with_players(env: Any, algorithm: "Algorithm", league: League, policy: "Policy") -> Any:
    """`env` whose opponents are drawn from `league`, or are `policy`; arrays may be known only when the program runs."""
    import jax
    import jax.numpy as jnp

    if not isinstance(env, LeagueEnv):
        return replace(env, env=with_players(env.env, algorithm, league, policy))
    players = jax.tree.map(lambda xs, x: jnp.concatenate([xs, x[None]]), league.policies, policy)
    return replace(env, algorithm=algorithm, players=players, chances=env.rules.chances(league))


def begin_league(rules: Rules, policy: "Policy") -> League:
    """A league of the policy as it begins."""
    import jax
    import jax.numpy as jnp

    many = jax.tree.map(lambda x: jnp.broadcast_to(x, (rules.keep, *x.shape)), policy)
    return League(many, jnp.int32(1), jnp.zeros(rules.keep), jnp.zeros(rules.keep), jnp.zeros((2, rules.keep)))


def after_update(league: League, state: Any, policy: "Policy", due: Array) -> League:
    """The league after an update: the results that its environments' `state` shows are counted, and where a snapshot is `due`, `policy`
    takes the oldest one's place."""
    import jax
    import jax.numpy as jnp

    while not isinstance(state, LeagueState):
        state = state.env
    totals = state.results.sum(0)
    games, wins = FORGET * jnp.stack([league.games, league.wins]) + totals - league.counted
    place = league.taken % games.shape[0]
    fresh = due & (jnp.arange(games.shape[0]) == place)
    put = lambda xs, x: xs.at[place].set(jnp.where(due, x, xs[place]))
    policies = jax.tree.map(put, league.policies, policy)
    return League(policies, league.taken + due, jnp.where(fresh, 0, games), jnp.where(fresh, 0, wins), totals)
