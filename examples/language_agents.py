"""Two language models and a plain function at a crossing, credit for each of them, and a file that a trainer reads.

python examples/language_agents.py                                       # with a stub of a model, served by this program
python examples/language_agents.py http://127.0.0.1:8000/v1 MODEL        # with yours: vLLM, or any endpoint that returns token ids
"""

import sys
from pathlib import Path
from typing import Any, ClassVar

import gymnasium.spaces as gs
import numpy as np
from pettingzoo import ParallelEnv

from marlstone.language.agents import LanguageAgent
from marlstone.language.credit import default_action
from marlstone.language.decisions import write_decisions
from marlstone.language.endpoint import Endpoint, LanguageModel
from marlstone.language.export import export
from marlstone.language.on_policy import check_on_policy
from marlstone.language.parsers import Choice
from marlstone.language.playing import play

sys.path.insert(0, str(Path(__file__).parent))
from stub_language_model import Stub

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789 .,"  # gymnasium's own are without the space


class Crossing(ParallelEnv):
    """Cars wait on two roads. Who goes alone lets its cars pass and is paid for them; if both go, they crash. Nobody hears the bell."""

    metadata: ClassVar[dict[str, Any]] = {"name": "crossing"}
    possible_agents: ClassVar[list[str]] = ["north", "east", "bell"]
    default_actions: ClassVar[dict[str, Any]] = {"north": "wait", "east": 0, "bell": 0}

    def observation_space(self, agent: str) -> gs.Space:
        """A sentence, or for the bell nothing."""
        return gs.Discrete(1) if agent == "bell" else gs.Text(80, charset=LETTERS)

    def action_space(self, agent: str) -> gs.Space:
        """A word for north; its number for east; for the bell whether to ring."""
        return gs.Text(8) if agent == "north" else gs.Discrete(2)

    def _seen(self) -> dict[str, Any]:
        n, e = self.cars["north"], self.cars["east"]
        words = lambda here, across: f"{here} cars here, {across} across. go or wait"
        return {"north": words(n, e), "east": words(e, n), "bell": 0}

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Six moments of a new morning."""
        self.random, self.agents, self.left = np.random.default_rng(seed), list(self.possible_agents), 6
        self.cars = {"north": int(self.random.integers(1, 4)), "east": int(self.random.integers(1, 4))}
        return self._seen(), {a: {} for a in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Any]]:
        """One moment."""
        goes = {"north": actions["north"] == "go", "east": actions["east"] == 1}
        rewards = dict.fromkeys(self.agents, 0.0)
        for road in goes:
            if all(goes.values()):
                rewards[road] = -2.0
            elif goes[road]:
                rewards[road], self.cars[road] = float(self.cars[road]), 0
            self.cars[road] += int(self.random.integers(0, 3))
        self.left -= 1
        over, agents = self.left == 0, self.agents
        self.agents = [] if over else agents
        return self._seen(), rewards, dict.fromkeys(agents, over), dict.fromkeys(agents, False), {a: {} for a in agents}


def main(url: str, model: str, folder: Path) -> None:
    """Play, check, and write what a trainer reads."""
    words = ("wait", "go")
    asked = LanguageModel(Endpoint(model, url, max_tokens=16, seed=0))
    both = LanguageAgent(asked, Choice(words), system="you are a traffic light", turns=1)
    played = play(Crossing(), {"north": both, "east": both, "bell": lambda agent, seen: 0}, episodes=4)
    check = check_on_policy(asked, played.decisions, tolerance=0.0 if model == "stub" else 0.05).require()
    write_decisions(folder / "decisions.jsonl", played.decisions)
    lines = export(folder / "train.jsonl", played.decisions, default_action(played.decisions, Crossing), run="crossing")
    print(f"team returns {played.returns}, by agent {played.agent_returns}")
    print(f"answers {played.parses}, used {played.amounts}")
    print(f"{check.tokens} tokens on policy, largest |log ratio| {check.largest}; {lines} lines in {folder / 'train.jsonl'}")


if __name__ == "__main__":
    import tempfile

    out = Path(tempfile.mkdtemp())
    if len(sys.argv) > 2:
        main(sys.argv[1], sys.argv[2], out)
    else:
        with Stub() as stub:
            main(stub.url, "stub", out)
