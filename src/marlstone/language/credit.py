"""What each decision of a language model was worth: the reward that its trainer reads, one number a decision, never the same for all.

| credit | reward of agent i's decision at step t | what it needs |
|---|---|---|
| `individual` | r_i(t), as the environment pays agent i | - |
| `team` | R(t) = the sum of r_j(t) over agents: the same for all, a control | - |
| `default_action` | sum over s >= t of R(s) - R(s with a_i(t) := default) | an environment that can be replayed |
| `leave_one_out` | the whole episode's R less the same with every a_i := default; at i's last decision, 0 before | the same |
| `difference` | f(a(t)) - f(a(t) with a_i(t) := default) | R as a function f of the joint action |

`default_action` and `leave_one_out` replay recorded episodes: the same reset seed, the same actions of everybody else, one agent's action
exchanged. Others do not react (asking their models again would cost as much as playing), so what i's action made others do is left out:
it is the aristocrat's difference reward with the declared default, not the contribution that audits measure by playing on. A
decision that took the default action has credit 0, exactly.

Source: Wolpert and Tumer 2001, Optimal payoff functions for members of collectives (difference rewards).
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium.spaces as gs
import numpy as np

from marlstone.core.errors import UserError, suggest
from marlstone.language.agents import declared_default
from marlstone.language.decisions import Decision
from marlstone.language.parsers import in_space

STEP, TO_GO, EPISODE = "step", "to_go", "episode"
"""What a reward is of: its step, all that followed, or the whole episode (at the agent's last decision)."""
TeamReward = Callable[[int, int, Mapping[str, Any]], float]
Joint = dict[str, Any]


@dataclass(frozen=True)
class Credit:
    """Rewards of decisions, in their order.

    Attributes:
      name: of the method.
      of: `step`, `to_go` or `episode`.
      rewards: one a decision; None where the decision was no language model's.
    """

    name: str
    of: str
    rewards: tuple[float | None, ...]


def individual(decisions: Sequence[Decision]) -> Credit:
    """Each agent's own reward."""
    return Credit("individual", STEP, tuple(d.reward if d.kind == "language" else None for d in decisions))


def team(decisions: Sequence[Decision]) -> Credit:
    """The team's reward, the same for all."""
    return Credit("team", STEP, tuple(d.team_reward if d.kind == "language" else None for d in decisions))


def difference(decisions: Sequence[Decision], team_reward: TeamReward, defaults: Mapping[str, Any]) -> Credit:
    """By a function of the joint action: `team_reward(episode, step, actions)`, with actions by agent as they were recorded.

    Raises `UserError` where the function is not the reward that was recorded, or an agent has no default.
    """
    joint, rewards = _joint(decisions), list[float | None]()
    for d in decisions:
        if d.kind != "language":
            rewards.append(None)
            continue
        actions = joint[d.episode][d.step]
        real = float(team_reward(d.episode, d.step, actions))
        if not np.isclose(real, d.team_reward, rtol=1e-9, atol=1e-9):
            raise UserError(
                f"difference: team_reward gives {real} for episode {d.episode}, step {d.step}, where {d.team_reward} was recorded: "
                "give the environment's own function"
            )
        without = {**actions, d.agent: _default(defaults, d.agent)}
        rewards.append(real - float(team_reward(d.episode, d.step, without)))
    return Credit("difference", STEP, tuple(rewards))


def default_action(
    decisions: Sequence[Decision], make_env: Callable[[], Any], defaults: Mapping[str, Any] | None = None, horizon: int | None = None
) -> Credit:
    """By replaying each episode with one decision exchanged for the default action.

    Args: `make_env`: the environment that was played; `defaults`: by agent, else what it declares; `horizon`: steps counted, the decision's
    own included (None: to the end of what was recorded). Costs one replay of the episode for each decision that took another action.
    Raises `UserError` where the environment, with the same seed and actions, does not do the same.
    """
    if horizon is not None and horizon < 1:
        raise ValueError(f"default_action(horizon={horizon}): give 1 or more steps, or None for all")
    replays, rewards = _Replays(decisions, make_env, defaults), list[float | None]()
    for d in decisions:
        if d.kind != "language":
            rewards.append(None)
            continue
        real = replays.recorded(d.episode)
        till = None if horizon is None else d.step + horizon
        without = replays.exchanged(d.episode, d.agent, d.step)
        rewards.append(0.0 if without is None else _total(real[d.step : till]) - _total(without[d.step : till]))
    return Credit("default_action", TO_GO, tuple(rewards))


def leave_one_out(decisions: Sequence[Decision], make_env: Callable[[], Any], defaults: Mapping[str, Any] | None = None) -> Credit:
    """By replaying each episode with all of one agent's decisions exchanged; arguments and errors as of `default_action`."""
    replays, rewards = _Replays(decisions, make_env, defaults), list[float | None]()
    last = {(d.episode, d.agent): i for i, d in enumerate(decisions)}
    for i, d in enumerate(decisions):
        if d.kind != "language":
            rewards.append(None)
        elif last[d.episode, d.agent] != i:
            rewards.append(0.0)
        else:
            without = replays.exchanged(d.episode, d.agent, None)
            rewards.append(0.0 if without is None else _total(replays.recorded(d.episode)) - _total(without))
    return Credit("leave_one_out", EPISODE, tuple(rewards))


def _total(rewards: Sequence[float]) -> float:
    return float(sum(rewards))


def _joint(decisions: Sequence[Decision]) -> dict[int, list[Joint]]:
    """Episode to step to everybody's recorded action."""
    joint: dict[int, list[Joint]] = defaultdict(list)
    for d in decisions:
        steps = joint[d.episode]
        if d.step == len(steps):
            steps.append({})
        if d.step != len(steps) - 1:
            raise UserError(f"decisions of episode {d.episode} are not in order at step {d.step}: give them as play returned them")
        steps[d.step][d.agent] = d.action
    return dict(joint)


def _default(defaults: Mapping[str, Any], agent: str) -> Any:
    if agent not in defaults or defaults[agent] is None:
        raise UserError(f"agent {agent!r} has no default action to compare with: give defaults[{agent!r}]; {suggest(agent, defaults)}")
    return defaults[agent]


class _Replays:
    """Recorded episodes, played again in one environment."""

    def __init__(self, decisions: Sequence[Decision], make_env: Callable[[], Any], defaults: Mapping[str, Any] | None) -> None:
        self.joint, self.env = _joint(decisions), make_env()
        self.seeds = {d.episode: d.seed for d in decisions}
        self.told: dict[int, list[float]] = defaultdict(list)
        for d in decisions:
            rewards = self.told[d.episode]
            if d.step == len(rewards):
                rewards.append(d.team_reward)
        self.defaults: dict[str, Any] = {}
        for agent in self.env.possible_agents:
            given = declared_default(self.env, agent) if defaults is None else defaults.get(agent)
            if given is not None:
                self.defaults[agent] = self._taken(agent, given)
        self.checked: set[int] = set()

    def recorded(self, episode: int) -> list[float]:
        """Team rewards by step, after a replay has shown them once more."""
        if episode not in self.checked:
            found = self._play(episode, self.joint[episode])
            if found != self.told[episode]:
                at = next(
                    (t for t, (a, b) in enumerate(zip(found, self.told[episode])) if a != b), min(len(found), len(self.told[episode]))
                )
                raise UserError(
                    f"the environment cannot be replayed: with the seed and actions of episode {episode} it gave other rewards than were "
                    f"recorded, from step {at} on. Credit by replaying needs all its randomness to come from reset(seed=...)"
                )
            self.checked.add(episode)
        return self.told[episode]

    def exchanged(self, episode: int, agent: str, step: int | None) -> list[float] | None:
        """Team rewards where the agent's action at `step` (None: at all) is its default; None where it was."""
        self.recorded(episode)
        default = _default(self.defaults, agent)
        space, actions, changed = self.env.action_space(agent), list[Joint](), False
        for t, joint in enumerate(self.joint[episode]):
            if agent in joint and (step is None or t == step):
                changed = changed or not _same(in_space(joint[agent], space), default)
                joint = {**joint, agent: default}
            actions.append(joint)
        return self._play(episode, actions) if changed else None

    def _play(self, episode: int, actions: Sequence[Joint]) -> list[float]:
        """Team rewards, of as many steps as were recorded; agents that live longer than they did take their defaults."""
        self.env.reset(seed=self.seeds[episode])
        rewards = list[float]()
        for joint in actions:
            if not self.env.agents:
                break
            taken = {a: self._taken(a, joint[a]) if a in joint else _default(self.defaults, a) for a in self.env.agents}
            _, given, _, _, _ = self.env.step(taken)
            rewards.append(float(sum(float(r) for r in given.values())))
        return rewards

    def _taken(self, agent: str, value: Any) -> Any:
        """A recorded action as the agent's space takes it."""
        space: gs.Space = self.env.action_space(agent)
        action = in_space(value, space)
        if action is None:
            raise UserError(f"agent {agent!r}: {value!r} is no action of {space}, so the episode cannot be replayed")
        return action


def _same(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b))
