"""Play in the grounds in which knowing has a price, held against their optimum step by step: what each decision lost, and which episodes
were exactly optimal.

The optimum is that of prices that stay as they are now (`changes` of the configuration are left out): what an agent can know which was
trained where they stay. So a change in mid-episode is one that nobody could plan for, and what counts is what is done about it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from marlstone.config import RunConfig
from marlstone.core.errors import UserError
from marlstone.core.types import Trajectory
from marlstone.core.usage import CALLS, LEAF, PRICE, READS
from marlstone.envs.proving.priced_memory import PricedMemory
from marlstone.envs.proving.priced_optimum import (
    AWRY,
    GUESS,
    NONE,
    READ,
    RIGHT,
    WAIT,
    Choice,
    MemoryOptimum,
    MemoryState,
    Priced,
    ToolsOptimum,
    ToolsState,
)
from marlstone.envs.proving.priced_tools import AGENTS, PHASES, STAKES, PricedTools
from marlstone.tools.contract import levels_of
from marlstone.tools.layout import PRICES, TOOLS


@dataclass(frozen=True)
class PricedPlay:
    """One episode, as whose turn it is saw and did it, `[t]`: the `stake`, what was `said` (0: nothing) and `call`ed (-1: nothing, else the
    tool's place, or `READ`), the `reward` and `cost` that followed; prices' levels `[t I]`; `fresh [t T]`, whether a tool's
    result has just come (of the memory: `[t 0]`)."""

    stake: np.ndarray
    said: np.ndarray
    call: np.ndarray
    reward: np.ndarray
    cost: np.ndarray
    level: np.ndarray
    fresh: np.ndarray

    @property
    def changed(self) -> bool:
        """Whether a price changed on the way."""
        return bool((self.level != self.level[0]).any())


@dataclass(frozen=True)
class PricedJudge:
    """The optimum of a configuration, and what play loses against it. Raises `UserError` for another environment, and tools that the
    optimum does not know."""

    config: RunConfig

    def __post_init__(self) -> None:
        _ = self.optimum

    @cached_property
    def _ground(self) -> PricedTools | PricedMemory:
        from marlstone.envs.make import make

        made = make(self.config.env)
        if not isinstance(made, PricedTools | PricedMemory):
            raise UserError(
                f"{self.config.env} is no ground in which knowing has a price: use proving:priced_tools or proving:priced_memory"
            )
        return made

    @cached_property
    def optimum(self) -> ToolsOptimum | MemoryOptimum:
        """Of prices that stay as they are."""
        ground, config, weight = self._ground, self.config, self.config.cost.weight
        if isinstance(ground, PricedTools):
            if not config.tools or config.memory.slots or any(t.attempts > 1 or len(set(t.latencies)) > 1 or t.calls for t in config.tools):
                raise UserError(
                    "the optimum of proving:priced_tools is of tools of one attempt and one latency, limited by team_calls, and no memory"
                )
            items = tuple(Priced(levels_of(t.price), 0.0, t.latencies[0], t.failure, t.team_calls) for t in config.tools)
            return ToolsOptimum(items, weight, ground.rounds, ground.symbols)
        memory = config.memory
        if memory.slots != 1 or not memory.automatic or memory.stores != "shown" or levels_of(memory.write_price) != (0.0,) or config.tools:
            raise UserError(
                "the optimum of proving:priced_memory is of a memory of one slot, automatic, which stores 'shown' for nothing, and no tools"
            )
        items = (Priced(levels_of(memory.read_price), calls=memory.reads),)
        return MemoryOptimum(items, weight, ground.rounds, ground.symbols)

    # ---- what was played
    @property
    def _levels(self) -> list[np.ndarray]:
        return [np.asarray(item.prices, np.float32) for item in self.optimum.items]

    def _level(self, price: np.ndarray) -> np.ndarray:
        """Levels of prices `[t I]` as agents see them, in the order of the optimum's items."""
        return np.stack([np.abs(price[:, i, None] - known).argmin(-1) for i, known in enumerate(self._levels)], axis=1)

    def plays(self, trajectory: Trajectory) -> list[PricedPlay]:
        """Of whole episodes, `[b t ...]`, each from its first step on."""
        length = PHASES * self._ground.rounds
        obs, action, out = trajectory.step.obs[0], np.asarray(trajectory.action[0]), []
        for b in range(action.shape[0]):
            seen = {k: np.asarray(x[b]) for k, x in obs.items()}
            who = self._turns(length)
            rows = np.arange(length)
            reward = np.asarray(trajectory.step.team_reward[b])[1 : length + 1]
            used = seen[LEAF][1 : length + 1].sum(1)
            made = seen[LEAF][rows + 1, who]
            mine = {k: x[rows, who] for k, x in seen.items() if k != LEAF}
            out.append(self._play(mine, action[b][rows, who, 0], action[b][rows, who, 1], reward, made, used[:, PRICE]))
        return out

    def _turns(self, length: int) -> np.ndarray:
        agents = AGENTS if isinstance(self._ground, PricedTools) else 1
        return (np.arange(length) // PHASES) % agents

    def _play(
        self, seen: Mapping[str, np.ndarray], said: np.ndarray, choice: np.ndarray, reward: np.ndarray, made: np.ndarray, cost: np.ndarray
    ) -> PricedPlay:
        stake = np.where(seen["task"][:, 0] == STAKES[1], 1, 0)
        level = self._level(seen[PRICES])
        if isinstance(self.optimum, ToolsOptimum):
            size = self.config.tools[0].size
            each = seen[TOOLS].reshape(len(said), len(self.config.tools), -1)
            fresh = (each[..., size] > 0) & (each[..., size + 1] == 1)
            call = np.where(made[:, CALLS] > 0, choice - 1, NONE)
            return PricedPlay(stake, said, call, reward, cost, level, fresh)
        call = np.where(choice == 1, READ, NONE)
        return PricedPlay(stake, said, call, reward, cost, level, np.zeros((len(said), 0), bool))

    def deployed_play(self, rows: Sequence[tuple[Mapping[str, Any], np.ndarray, Any, Any, float]]) -> PricedPlay:
        """One episode of a policy as it is deployed, from each step's observations by agent, own actions `[n]`, what the policy's memory
        held of tools when it saw them (None at the first) and after it had acted, and the reward that followed. Prices must not change."""
        who, agents = self._turns(len(rows)), list(rows[0][0])
        task = np.stack([obs[agents[i]]["task"] for i, (obs, *_) in zip(who, rows, strict=True)])
        said = np.array([did[i] for i, (_, did, *_) in zip(who, rows, strict=True)])
        cost, reward = np.array([after.used[:, PRICE].sum() for *_, after, _ in rows]), np.array([r for *_, r in rows])
        stake = np.where(task[:, 0] == STAKES[1], 1, 0)
        level = self._level(np.stack([after.price for *_, after, _ in rows]))
        if isinstance(self.optimum, MemoryOptimum):
            call = np.array([READ if a.used[i, READS] else NONE for i, (*_, a, _) in zip(who, rows, strict=True)])
            return PricedPlay(stake, said, call, reward, cost, level, np.zeros((len(rows), 0), bool))
        call = np.array([int(a.called[i].argmax()) if a.called[i].any() else NONE for i, (*_, a, _) in zip(who, rows, strict=True)])
        none = np.zeros(len(self.config.tools), bool)
        fresh = np.stack([none if b is None else b.valid[i] & (b.age[i] == 0) for i, (_, _, b, *_) in zip(who, rows, strict=True)])
        return PricedPlay(stake, said, call, reward, cost, level, fresh)

    def decisions(self, play: PricedPlay) -> list[tuple[ToolsState | MemoryState, Choice]]:
        """Where each decision was made, and which, as the optimum knows them."""
        optimum = self.optimum
        return self._with_tools(optimum, play) if isinstance(optimum, ToolsOptimum) else self._with_memory(play)

    def regrets(self, play: PricedPlay) -> np.ndarray:
        """What each decision lost in expectation, `[t]`; 0 where it was optimal."""
        return np.array([self.optimum.regret(x, choice) for x, choice in self.decisions(play)])

    def _with_tools(self, o: ToolsOptimum, play: PricedPlay) -> list[Any]:
        calls = pending = (0,) * len(o.items)
        x, answered, out = o.begun(0, 0, calls, calls), False, list[Any]()
        for t in range(len(play.said)):
            level, stake = tuple(int(k) for k in play.level[t]), int(play.stake[t])
            if t % PHASES == 0:
                x = o.begun(t, stake, calls, level)
            else:
                came = any(play.fresh[t, k] and pending[k] == 1 for k in range(len(o.items)))
                left = tuple(max(0, p - 1) for p in pending)
                x = ToolsState(t, stake, x.knows or came, answered, left, calls, level)
            said = self._said(play, t, x.knows) if not x.answered else WAIT
            call = int(play.call[t])
            out.append((x, (said, call)))
            answered = x.answered or said != WAIT
            calls = tuple(c + (k == call) for k, c in enumerate(calls))
            pending = tuple(o.items[k].latency if k == call else left for k, left in enumerate(x.pending))
        return out

    def _with_memory(self, play: PricedPlay) -> list[Any]:
        knows, reads, out = False, 0, list[Any]()
        for t in range(len(play.said)):
            phase, call = t % PHASES, int(play.call[t])
            knows = knows and phase > 0
            stake = 0 if phase == 0 else int(play.stake[t])
            x = MemoryState(t, stake, knows, reads, tuple(int(k) for k in play.level[t]))
            out.append((x, (self._said(play, t, knows) if phase == PHASES - 1 else WAIT, call)))
            knows = knows or (call == READ and phase > 0)
            reads += call == READ
        return out

    @staticmethod
    def _said(play: PricedPlay, t: int, knows: bool) -> str:
        if play.said[t] == 0:
            return WAIT
        return GUESS if not knows else RIGHT if play.reward[t] > 0 else AWRY

    def verdict(self, plays: list[PricedPlay]) -> dict[str, Any]:
        """`episodes`; `value`, what the best play is worth in expectation; `regret_share`, expected loss as a share of that; `exact`, the
        share of episodes without one decision that lost; `returns`, `cost` and `objective` as played; `changed`, the same shares of
        episodes in which a price changed (None: none did)."""
        if not plays:
            return {"episodes": 0}
        lost = np.array([self.regrets(p).sum() for p in plays])
        returns, cost = np.array([p.reward.sum() for p in plays]), np.array([p.cost.sum() for p in plays])
        shares = lambda lost: {
            "episodes": len(lost),
            "regret_share": float(lost.mean() / self.optimum.value),
            "exact": float((lost == 0).mean()),
        }
        changed = np.array([p.changed for p in plays])
        return {
            **shares(lost), "value": self.optimum.value, "returns": float(returns.mean()), "cost": float(cost.mean()),
            "objective": float((returns - self.optimum.weight * cost).mean()),
            "changed": shares(lost[changed]) if changed.any() else None,
        }  # fmt: skip
