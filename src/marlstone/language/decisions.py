"""What agents decided, a line of JSON each: enough to train on, to audit, and to play an episode again.

| field | meaning |
|---|---|
| `episode step agent` | when and who; `seed` of the episode's reset |
| `kind` | `language`, `policy` or `function` |
| `action` | as JSON; `taken_default`: the declared default, since there was no usable answer |
| `parse` | `ok`, or why the answer was not used (`language.parsers.STATUSES`); empty for others than language models |
| `prompt_ids response_ids logprobs` | as sampled |
| `text finish_reason model` | the answer, as the endpoint tells it |
| `continues` | whether `prompt_ids` begin with the prompt and the answer of the agent's decision before, id by id |
| `reward team_reward` | of this step |
| `input_tokens output_tokens attempts retries latency_us` | what it took |
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from marlstone.core.errors import UserError
from marlstone.runs.json_line import one_line


@dataclass(frozen=True)
class Decision:
    """One agent's decision in one step; fields as in this module's table."""

    episode: int
    step: int
    agent: str
    kind: str
    seed: int
    action: Any
    taken_default: bool = False
    parse: str = ""
    prompt_ids: tuple[int, ...] = ()
    response_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    text: str = ""
    finish_reason: str = ""
    model: str = ""
    continues: bool = False
    reward: float = 0.0
    team_reward: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    attempts: int = 0
    retries: int = 0
    latency_us: int = 0

    @property
    def sampled(self) -> bool:
        """Whether a language model answered, so that there is something to train on."""
        return bool(self.response_ids)


_TUPLES = ("prompt_ids", "response_ids", "logprobs")


def write_decisions(path: str | Path, decisions: Iterable[Decision]) -> Path:
    """A line of JSON each. Returns the file. Raises `UserError` where it is already there."""
    file = Path(path)
    try:
        with file.open("x") as out:
            out.writelines(one_line(asdict(d)) + "\n" for d in decisions)
    except FileExistsError as error:
        raise UserError(f"{file} exists already: name a new file for the decisions") from error
    return file


def read_decisions(path: str | Path) -> tuple[Decision, ...]:
    """What `write_decisions` wrote. Raises `UserError`, naming the line, for anything else."""
    known, found = {f.name for f in fields(Decision)}, list[Decision]()
    try:
        lines = Path(path).read_text().splitlines()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): name a file that write_decisions wrote") from error
    for number, line in enumerate(lines, 1):
        try:
            given = json.loads(line)
            if not isinstance(given, dict) or set(given) != known:
                raise ValueError("fields differ")
            values: dict[str, Any] = {k: tuple(v) if k in _TUPLES else v for k, v in given.items()}
            found.append(Decision(**values))
        except (ValueError, TypeError) as error:
            raise UserError(f"{path}, line {number} is no decision ({error}): name a file that write_decisions wrote") from error
    return tuple(found)
