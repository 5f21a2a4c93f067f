"""Play a PettingZoo parallel environment with agents that are language models, frozen policies or plain functions, in any mixture.

    played = play(env, {"scout": LanguageAgent(model, Whole()), "worker": ms.Policy.load("policy"), "belt": lambda agent, seen: 0})
    write_decisions("decisions.jsonl", played.decisions)

Language models that decide at the same step are asked at the same time.
"""

import contextvars
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import gymnasium.spaces as gs
import numpy as np

from marlstone.core.errors import UserError, suggest
from marlstone.core.ledger import Costs
from marlstone.cost.budgets import BudgetRefused
from marlstone.language.agents import Answered, LanguageAgent, Turn, declared_default
from marlstone.language.decisions import Decision
from marlstone.language.parsers import OK
from marlstone.runs.json_line import plain

AT_ONCE = 16
"""Calls of language models at the same time, at most."""


@runtime_checkable
class TeamPolicy(Protocol):
    """What acts for several agents at once: `marlstone.Policy`."""

    def act(
        self,
        observations: Mapping[str, Any],
        memory: Any = None,
        rng: np.random.Generator | None = None,
        *,
        infos: Mapping[str, Any] | None = None,
    ) -> tuple[dict[str, Any], Any]:
        """What each agent does now, and what to remember."""
        ...


Player = LanguageAgent | TeamPolicy | Callable[[str, Any], Any]


@dataclass(frozen=True)
class Played:
    """Episodes that were played.

    Attributes:
      decisions: all of them, by episode, step and agent.
      returns: team return of each episode.
      agent_returns: by agent, of each episode.
      parses: agent to how its answers were understood, by status.
      amounts: agent to kind to what it used: `decisions input_tokens output_tokens attempts retries wall_us`, of calls that failed too,
        and of answers to a step that a budget then stopped.
      cut: episodes that were ended by `most_steps`, or by a budget.
      stopped: why a budget ended play before all episodes were played; empty: none did.
    """

    decisions: tuple[Decision, ...]
    returns: tuple[float, ...]
    agent_returns: dict[str, tuple[float, ...]]
    parses: dict[str, dict[str, int]] = field(default_factory=dict)
    amounts: dict[str, dict[str, int]] = field(default_factory=dict)
    cut: int = 0
    stopped: str = ""

    @property
    def costs(self) -> Costs:
        """`amounts` as the ledger has them, of the phase `infer`: to be priced by a table (`cost.pricing`)."""
        costs = Costs()
        for agent, kinds in self.amounts.items():
            for kind, amount in kinds.items():
                costs.add("infer", agent, kind, amount)
        return costs

    @property
    def told(self) -> tuple[str, ...]:
        """A sentence for each agent whose answers were not all used, and for a budget that ended it."""
        sentences = [self.stopped] if self.stopped else []
        for agent, statuses in self.parses.items():
            bad = {s: n for s, n in statuses.items() if s != OK}
            if bad:
                why = ", ".join(f"{n} {s}" for s, n in sorted(bad.items()))
                of = sum(statuses.values())
                sentences.append(f"agent {agent!r}: {sum(bad.values())} of {of} decisions took the default action ({why})")
        return tuple(sentences)


def play(
    env: Any,
    agents: Mapping[str, Player],
    episodes: int = 1,
    seed: int = 0,
    most_steps: int = 10_000,
    tell: Callable[[str], None] | None = None,
) -> Played:
    """Whole episodes; episode e is reset with `seed + e`.

    Args: `agents`: who plays each of the environment's possible agents; the same policy object may play several. `tell`: where sentences on
    answers that were not used go (None: stderr).
    Raises `UserError` where players and agents do not match, or an action is not in its space.
    """
    team = _fitting(env, agents)
    if episodes < 1 or most_steps < 1:
        raise ValueError(f"play(episodes={episodes}, most_steps={most_steps}): give 1 or more of each")
    decisions, lost, returns, cut, stopped = list[Decision](), list[Decision](), list[float](), 0, ""
    own: dict[str, list[float]] = {a: [] for a in agents}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for episode in range(episodes):
            it = _Episode(env, agents, team, pool, episode, seed + episode)
            found, ended = it.play(most_steps)
            stopped, lost = it.stopped, it.lost
            if not found:
                break
            decisions += found
            cut += not ended
            returns.append(sum({d.step: d.team_reward for d in found}.values()))
            for agent in agents:
                own[agent].append(sum(d.reward for d in found if d.agent == agent))
            if stopped:
                break
    parses: dict[str, Counter[str]] = {}
    amounts: dict[str, Counter[str]] = {a: Counter() for a in agents}
    for d in decisions:
        amounts[d.agent]["decisions"] += 1
        if d.kind == "language":
            parses.setdefault(d.agent, Counter())[d.parse] += 1
    for d in [*decisions, *lost]:
        mine = {"input_tokens": d.input_tokens, "output_tokens": d.output_tokens, "attempts": d.attempts, "retries": d.retries}
        amounts[d.agent].update(mine, wall_us=d.latency_us)
    used = {a: {k: n for k, n in kinds.items() if n} for a, kinds in amounts.items()}
    played = Played(
        tuple(decisions), tuple(returns), {a: tuple(r) for a, r in own.items()}, {a: dict(c) for a, c in parses.items()}, used, cut, stopped
    )
    for sentence in played.told:
        (tell or (lambda words: print(words, file=sys.stderr)))(sentence)
    return played


def _fitting(env: Any, agents: Mapping[str, Player]) -> dict[str, Any]:
    """Default actions of those played by language models, after who plays whom was found to fit."""
    for name in ("possible_agents", "action_space", "reset", "step"):
        if not hasattr(env, name):
            raise UserError(f"{type(env).__name__} has no {name}: play takes a PettingZoo parallel environment")
    possible = list(env.possible_agents)
    for name in agents:
        if name not in possible:
            raise UserError(f"play: the environment has no agent {name!r}; {suggest(str(name), possible)}")
    if missing := [name for name in possible if name not in agents]:
        raise UserError(f"play: nobody plays agent {missing[0]!r}: give a language agent, a policy or a function for it")
    defaults = {}
    for name, player in agents.items():
        if isinstance(player, LanguageAgent):
            defaults[name] = player.check(name, env.action_space(name), declared_default(env, name))
        elif not isinstance(player, TeamPolicy) and not callable(player):
            raise UserError(f"play: {name!r} is played by a {type(player).__name__}: give a language agent, a policy or a function")
    return defaults


def _mask(observation: Any, info: Any) -> Any:
    """The action mask, in the observation or beside it; None where there is none."""
    for given in (observation, info):
        if isinstance(given, Mapping) and given.get("action_mask") is not None:
            return given["action_mask"]
    return None


@dataclass
class _Episode:
    """One episode on its way."""

    env: Any
    agents: Mapping[str, Player]
    defaults: dict[str, Any]
    pool: ThreadPoolExecutor
    number: int
    seed: int
    turns: dict[str, tuple[Turn, ...]] = field(default_factory=dict)
    memories: dict[int, Any] = field(default_factory=dict)
    stopped: str = ""
    lost: list[Decision] = field(default_factory=list)  # answers to a step that was never made

    def play(self, most_steps: int) -> tuple[list[Decision], bool]:
        """Its decisions, and whether it ended by itself. A budget whose fallback is to stop ends it after the last whole step."""
        observations, infos = self.env.reset(seed=self.seed)
        rng, found = np.random.default_rng(self.seed), list[Decision]()
        for step in range(most_steps):
            if not self.env.agents:
                return found, True
            alive = [a for a in self.agents if a in self.env.agents]
            try:
                made = self._decide(step, alive, observations, infos, rng)
            except BudgetRefused as error:
                self.stopped = f"stopped at episode {self.number}, step {step}: {error}"
                return found, False
            actions = {a: action for a, (action, _) in made.items()}
            observations, rewards, _, _, infos = self.env.step(actions)
            team = float(sum(float(r) for r in rewards.values()))
            found += [replace(d, reward=float(rewards.get(a, 0.0)), team_reward=team) for a, (_, d) in made.items()]
        return found, not self.env.agents

    def _decide(
        self, step: int, alive: list[str], observations: Mapping[str, Any], infos: Mapping[str, Any], rng: np.random.Generator
    ) -> dict[str, tuple[Any, Decision]]:
        """What everybody does, in the order of the players."""
        asked = {}
        for i, name in enumerate(self.agents):
            if name in alive and isinstance(self.agents[name], LanguageAgent):
                context = contextvars.copy_context()
                mask = _mask(observations[name], infos.get(name))
                asked[name] = self.pool.submit(context.run, self._ask, step, i, name, observations[name], mask)
        others = self._policies(alive, observations, infos, rng)
        made = {}
        wait(asked.values())
        if stop := next((e for f in asked.values() if isinstance(e := f.exception(), BudgetRefused)), None):
            self.lost = [self._answer(step, name, f.result())[1] for name, f in asked.items() if f.exception() is None]
            raise stop
        for name in alive:
            if name in asked:
                made[name] = self._answer(step, name, asked[name].result())
            else:
                kind, action = others[name]
                space = self.env.action_space(name)
                if not space.contains(action):
                    raise UserError(f"agent {name!r} was given the action {action!r} at step {step}, which is not in {space}")
                made[name] = (action, Decision(self.number, step, name, kind, self.seed, plain(action)))
        return made

    def _ask(self, step: int, i: int, name: str, observation: Any, mask: Any) -> Answered:
        player = self.agents[name]
        assert isinstance(player, LanguageAgent)
        base = player.model.endpoint.seed
        drawn = None if base is None else int(np.random.SeedSequence([base, self.seed, step, i]).generate_state(1)[0]) >> 1
        space: gs.Space = self.env.action_space(name)
        turns = self.turns.get(name, ())
        return player.act(name, observation, space, self.defaults[name], turns, drawn, f"{self.seed}", mask)

    def _policies(
        self, alive: list[str], observations: Mapping[str, Any], infos: Mapping[str, Any], rng: np.random.Generator
    ) -> dict[str, tuple[str, Any]]:
        """Kind and action of those that are no language models."""
        out: dict[str, tuple[str, Any]] = {}
        for name in alive:
            player = self.agents[name]
            if isinstance(player, LanguageAgent) or name in out:
                continue
            if isinstance(player, TeamPolicy):
                its = [a for a in alive if self.agents[a] is player]
                seen = {a: observations[a] for a in its}
                told = {a: infos[a] for a in its if a in infos}
                actions, self.memories[id(player)] = player.act(seen, self.memories.get(id(player)), rng, infos=told)
                out |= {a: ("policy", actions[a]) for a in its}
            else:
                out[name] = ("function", player(name, observations[name]))
        return out

    def _answer(self, step: int, name: str, answered: Answered) -> tuple[Any, Decision]:
        self.turns[name] = answered.memory
        decision = Decision(
            self.number,
            step,
            name,
            "language",
            self.seed,
            plain(answered.action),
            answered.parse != OK,
            answered.parse,
            continues=answered.continues,
            attempts=answered.attempts,
            retries=answered.retries,
            latency_us=answered.latency_us,
        )
        if (c := answered.completion) is not None:
            decision = replace(
                decision,
                prompt_ids=c.prompt_ids,
                response_ids=c.response_ids,
                logprobs=c.logprobs,
                text=c.text,
                finish_reason=c.finish_reason,
                model=c.model,
                input_tokens=c.input_tokens,
                output_tokens=c.output_tokens,
            )
        return answered.action, decision
