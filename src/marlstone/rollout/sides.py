"""Whose team it is and who plays the others, as configured: `--team "wolf*" --opponent "sheep*=runs/x" --self-play AGENTS`."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.core.types import Spec
from marlstone.envs.agent_view import AgentView, without
from marlstone.envs.teams import declared_team, members, with_team
from marlstone.policy.policy import DESCRIPTION, Policy
from marlstone.rollout.opponents import RANDOM, WORDS, ByPolicy, ByRule, Frozen, FrozenHost, FrozenPersistent, Seat, Table
from marlstone.rollout.self_play import Rules, over_league

if TYPE_CHECKING:
    from marlstone.config import RunConfig

FOLDER = "opponents"  # of a run: copies of the policies that it was trained against


@dataclass(frozen=True)
class Sides:
    """Whose rewards are the team's, and who plays the others.

    Attributes:
      team: a pattern of agents (`envs.teams.members`); "": as the environment declares, without the agents that are played by others.
      opponents: pattern -> a run's directory (its first seed's policy), a policy's folder, `random` or `default`.
      league: whom past policies of the run itself play (a pattern), how many are kept, how they are drawn, and the share of episodes
        against the policy as it stands (`rollout.self_play`).
    """

    team: str = ""
    opponents: Mapping[str, str] = field(default_factory=dict)
    league: tuple[str, int, str, float] | None = None

    @classmethod
    def of(cls, config: "RunConfig") -> Self:
        """As a run is configured."""
        own = config.self_play
        return cls(config.team, config.opponents, (own.opponents, own.keep, own.sampling, own.current) if own.opponents else None)

    def __bool__(self) -> bool:
        return bool(self.team or self.opponents or self.league)

    def plain(self) -> dict[str, Any]:
        """As JSON, for worker processes: `Sides(**plain)` is the same."""
        return {"team": self.team, "opponents": dict(self.opponents), "league": self.league and list(self.league)}

    def over(self, env: Any) -> Any:
        """`env`, an `Env` or a `HostEnv`, as those who learn meet it. Raises `UserError`, naming agents and remedy, where a pattern names
        nobody, nobody is left to learn, or a policy does not fit its agents."""
        if not self:
            return env
        spec, gone = env.spec, dict[str, str]()
        for pattern in self.opponents:
            for agent in members(spec, pattern, "opponents"):
                if agent in gone:
                    raise UserError(f"opponents: {agent} is named by {gone[agent]!r} and by {pattern!r}: let one policy play each agent")
                gone[agent] = pattern
        if self.team:
            team = members(spec, self.team, "team")
            if frozen := [a for a in team if a in gone]:
                raise UserError(
                    f"team = {self.team!r} and opponents {gone[frozen[0]]!r} both name {', '.join(frozen)}: "
                    "who is played by a frozen policy is not of the team that learns"
                )
        else:
            past = () if self.league is None else members(spec, self.league[0], "self_play.opponents")
            here = [a for a in spec.agents if a not in gone and a not in past]
            team = tuple(a for a in here if a in declared_team(spec)) or tuple(here)
        if not team:
            raise UserError(f"opponents: frozen policies would play all of {', '.join(spec.agents)}: leave somebody out, who learns")
        env = self._frozen(with_team(env, team), gone)
        if self.league is None or set(members(spec, self.league[0], "self_play.opponents")) <= set(gone):
            return env  # whoever is named as an opponent stands in for the league
        pattern, keep, sampling, current = self.league
        return over_league(env, pattern, Rules(keep, sampling, current))  # type: ignore[arg-type]

    def _frozen(self, env: Any, gone: Mapping[str, str]) -> Any:
        """`env` without the agents that are played by frozen policies."""
        if not gone:
            return env
        table = self._table(env.spec, gone, wiring_of(env))
        if hasattr(env, "reset"):
            return FrozenHost(env, table, self)
        return (FrozenPersistent if hasattr(env, "again") else Frozen)(env, table, self)

    def _table(self, spec: Spec, gone: Mapping[str, str], wiring: Mapping[str, Any] | None) -> Table:
        groups, mine = without(spec, frozenset(gone), wiring)
        learning = AgentView(spec, groups, tuple(a for g in groups for a in g.agents), (mine, wiring))
        seats = []
        for pattern, who in self.opponents.items():
            agents = tuple(a for a in spec.agents if gone.get(a) == pattern)
            seats.append(seat(spec, wiring, agents, who, f"opponents.{pattern} = {who!r}"))
        return Table(spec, learning, tuple(seats), mine)


def seat(spec: Spec, wiring: Mapping[str, Any] | None, agents: tuple[str, ...], who: str, where: str) -> Seat:
    """`who` (a path, `random` or `default`) in the place of `agents` of an environment; `where`: what messages call it.

    Raises:
      UserError: where there is no such policy, or it acts for others, sees or does other things; the message names what differs.
    """
    if who in WORDS:
        groups, _ = without(spec, frozenset(spec.agents) - set(agents))
        view = AgentView(spec, groups, tuple(a for g in groups for a in g.agents))
        return Seat(ByRule(groups, who), view, frozenset(agents))
    policy = load_opponent(who, where)
    try:
        return Seat(ByPolicy(policy), policy_view(spec, wiring, agents, policy), frozenset(agents))
    except ValueError as error:
        raise UserError(f"{where}: {error}: name a policy that was trained for these agents, in this environment") from error


def policy_view(spec: Spec, wiring: Mapping[str, Any] | None, agents: tuple[str, ...], policy: Policy) -> AgentView:
    """What a policy sees of an environment where it plays `agents`: itself, if it acts for agents of these names; else agent by agent in
    order, if there are as many (the other side of a symmetric game). Raises ValueError for a policy that does not fit."""
    groups = policy.spec_without_goals.groups
    theirs = tuple(a for g in groups for a in g.agents)
    if set(agents) <= set(theirs):
        if absent := [a for a in theirs if a not in spec.agents]:
            raise ValueError(f"it acts together with {', '.join(absent)}, who {'is' if len(absent) == 1 else 'are'} not there")
        played = theirs
    elif len(theirs) == len(agents) and not set(agents) & set(theirs):
        played = agents
    else:
        raise ValueError(f"it acts for {', '.join(theirs)}, not for {', '.join(agents)}")
    return AgentView(spec, groups, played, (policy.description["wiring"], wiring))


def wiring_of(env: Any) -> Mapping[str, Any] | None:
    """How dictionaries by agent become steps, under whatever is put over an environment; None where it gives steps itself."""
    while env is not None:
        if hasattr(env, "wiring"):
            found: Mapping[str, Any] | None = env.wiring
            return found
        env = env.env if hasattr(env, "spec") and hasattr(env, "env") and hasattr(env.env, "spec") else None
    return None


def sides_of(env: Any) -> Sides | None:
    """The sides that an environment is set up for, under whatever is put over it."""
    while env is not None:
        if isinstance(env, Frozen | FrozenHost):
            return env.sides
        env = getattr(env, "env", None)
    return None


# ---- policies as files
def artifact_of(path: str | Path, where: str) -> Path:
    """The policy's folder that `path` names: itself, or that of a run's first seed. Raises `UserError` where there is none."""
    folder = Path(path).expanduser()
    if (folder / DESCRIPTION).is_file():
        return folder
    seeds = {int(p.name.removeprefix("seed-")): p for p in (folder / "policy").glob("seed-*") if (p / DESCRIPTION).is_file()}
    if seeds:
        return seeds[min(seeds)]
    words = " or ".join(WORDS)
    what = f"{folder} has no policy yet: finish its training" if folder.is_dir() else f"there is no folder {folder}"
    raise UserError(f"{where}: {what}; name a finished run, a policy's folder (RUN/policy/seed-K), {words}")


def load_opponent(path: str | Path, where: str) -> Policy:
    """The policy at `path`. Raises `UserError`; where a policy has parts of a user's own, the message says that opponents cannot."""
    try:
        policy = Policy.load(artifact_of(path, where))
        if policy.toolbox.real:
            name = policy.toolbox.tools[policy.toolbox.real[0]].name
            raise UserError(f"{where}: its tool {name!r} calls something outside, which nobody does for an opponent: name another policy")
        return policy
    except UserError as error:
        raise error if str(error).startswith(where) else UserError(f"{where}: {error}") from error


def keep_opponents(config: "RunConfig", folder: Path) -> "RunConfig":
    """Copy the policies that a run is trained against into its own `folder`, which then repeats it alone; the configuration that names the
    copies. The same configuration where there are none."""
    kept = {}
    for i, (pattern, who) in enumerate(config.opponents.items()):
        if who not in WORDS:
            label = "".join(c if c.isalnum() else "-" for c in pattern).strip("-") or "all"
            home = folder.expanduser().resolve() / FOLDER / f"{i}-{label}"
            shutil.copytree(artifact_of(who, f"opponents.{pattern} = {who!r}"), home)
            who = str(home)
        kept[pattern] = who
    return replace(config, opponents=kept) if kept != config.opponents else config


def opponents_record(config: "RunConfig") -> dict[str, Any]:
    """What a run's record says of its sides; nothing where it has none. `parameters_sha256` is of the policy's arrays."""
    if not Sides.of(config):
        return {}
    from marlstone.runs.leaves import parameters_sha256  # imports JAX, which worker processes never do

    told: dict[str, Any] = {}
    for pattern, who in config.opponents.items():
        told[pattern] = {"policy": who}
        if who not in WORDS:
            policy = load_opponent(who, f"opponents.{pattern} = {who!r}")
            told[pattern] |= {
                "acting": policy.acting, "agents": list(policy.agents), "parameters_sha256": parameters_sha256(list(policy.arrays)),
                "source": dict(policy.source),
            }  # fmt: skip
    if (own := config.self_play).opponents and own.opponents not in told:
        told[own.opponents] = {"policy": "self_play", "sampling": own.sampling, "keep": own.keep, "evaluated_against": RANDOM}
    return {"team": config.team, "opponents": told}
