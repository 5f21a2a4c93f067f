"""Decisions with our credit as trainers of language models read them: a line of JSON for each answer, ids and log-probs as sampled.

| field | meaning |
|---|---|
| `rollout_id` | run and episode |
| `group` | the reset seed: rollouts of one task, for group baselines (GRPO) |
| `agent turn last` | whose, which of its decisions in the episode, and whether it is the last; answers alone are counted |
| `step` | joint step of the environment |
| `model` | as the endpoint names it |
| `prompt_ids response_ids logprobs` | never tokenized again |
| `continues` | `prompt_ids` begin with the ids of the turn before, so turns may be joined into one sequence |
| `reward` | this agent's, by `credit` |
| `credit reward_of` | the method, and what the reward is of: `step`, `to_go` (do not sum again) or `episode` |
| `team_reward` | of the step, the same for all |
| `parse` | `ok`, or why the default action was taken |
| `finish_reason input_tokens output_tokens` | as the endpoint says |

`layout="triplets"` writes `{"prompt": {"token_ids"}, "response": {"token_ids", "logprobs", "log_probs"}, "reward", "metadata"}` in place of
it: the fields of Agent Lightning's `Triplet`, whose versions read log-probs by either name; all else is in `metadata`.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from marlstone.core.errors import UserError
from marlstone.language.credit import Credit
from marlstone.language.decisions import Decision
from marlstone.runs.json_line import one_line

Layout = Literal["flat", "triplets"]


def export(path: str | Path, decisions: Sequence[Decision], credit: Credit, run: str = "run", layout: Layout = "flat") -> int:
    """Write one line for each answer of a language model. Returns how many.

    Raises `UserError` where the file is already there, credit and decisions do not belong together, or a reward is no finite number.
    """
    if layout not in ("flat", "triplets"):
        raise UserError(f"export(layout={layout!r}): choose flat or triplets")
    lines = list(training_rows(decisions, credit, run))
    try:
        with Path(path).open("x") as out:
            out.writelines(one_line(_triplet(row) if layout == "triplets" else row) + "\n" for row in lines)
    except FileExistsError as error:
        raise UserError(f"{path} exists already: name a new file for the export") from error
    return len(lines)


def training_rows(decisions: Sequence[Decision], credit: Credit, run: str = "run") -> Iterator[dict[str, Any]]:
    """The same as dictionaries."""
    if len(credit.rewards) != len(decisions):
        raise UserError(f"credit has {len(credit.rewards)} rewards and there are {len(decisions)} decisions: compute it of these decisions")
    total = Counter((d.episode, d.agent) for d in decisions if d.sampled)
    turns: Counter[tuple[int, str]] = Counter()
    for d, reward in zip(decisions, credit.rewards):
        if not d.sampled:
            continue
        if reward is None or not math.isfinite(reward):
            raise UserError(f"episode {d.episode}, step {d.step}, agent {d.agent!r}: its reward by {credit.name} is {reward}")
        turn = turns[d.episode, d.agent]
        turns[d.episode, d.agent] += 1
        yield {
            "rollout_id": f"{run}/{d.episode}",
            "group": d.seed,
            "agent": d.agent,
            "turn": turn,
            "last": turn + 1 == total[d.episode, d.agent],
            "step": d.step,
            "model": d.model,
            "prompt_ids": d.prompt_ids,
            "response_ids": d.response_ids,
            "logprobs": d.logprobs,
            "continues": d.continues,
            "reward": reward,
            "credit": credit.name,
            "reward_of": credit.of,
            "team_reward": d.team_reward,
            "parse": d.parse,
            "finish_reason": d.finish_reason,
            "input_tokens": d.input_tokens,
            "output_tokens": d.output_tokens,
        }


def _triplet(row: dict[str, Any]) -> dict[str, Any]:
    own = ("prompt_ids", "response_ids", "logprobs", "reward")
    return {
        "prompt": {"token_ids": row["prompt_ids"]},
        "response": {"token_ids": row["response_ids"], "logprobs": row["logprobs"], "log_probs": row["logprobs"]},
        "reward": row["reward"],
        "metadata": {k: v for k, v in row.items() if k not in own},
    }
