"""A selection from what a person asks to the record: the question put together, and studied in a folder."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from marlstone.core.errors import UserError
from marlstone.envs.make import absolute, is_jax
from marlstone.evaluation.select import BUDGET, QUICK_BUDGET, SEEDS
from marlstone.evaluation.select.prices import Prices
from marlstone.evaluation.select.question import DEFAULTS, OURS, QUICK, Budget, Candidate, Question, read_candidates
from marlstone.runs.files import write_atomic
from marlstone.runs.json_line import one_line


def question(
    env: str, *, budget: str | None = None, quick: bool = False, candidates: str | Path | None = None,
    settings: Mapping[str, str] | None = None, acting: str | None = None, **numbers: int,
) -> Question:  # fmt: skip
    """What `marlstone select` is asked.

    Args: `budget`: joint steps, or time, per seed of each candidate, or a price for all; `quick`: few candidates, untuned; `candidates`: a
    TOML file of more, or other ones; `settings`: fields of every candidate's runs; `acting`: how policies are deployed; `numbers`: `seeds`,
    `seed`, `episodes`. Raises `UserError`.
    """
    chosen: tuple[Candidate, ...] = QUICK if quick else DEFAULTS
    prices = Prices()
    if candidates is not None:
        chosen, prices = read_candidates(candidates, quick)
    common = dict(settings or {}) | ({} if acting is None else {"acting": acting})
    if stray := sorted(set(common) & set(OURS)):
        raise UserError(f"--set {stray[0]}={common[stray[0]]} is for the question to say: see marlstone select --help")
    short: dict[str, Any] = {"tuning": 0.0, "survivors": 3, "soak": 0, "confirm": False} if quick else {}
    spent = Budget.read(budget or (QUICK_BUDGET if quick else BUDGET), prices)
    more = {"seeds": SEEDS, **short, **numbers}
    return Question(absolute(env), spent, chosen, common=tuple(sorted(common.items())), prices=prices, **more)


def lanes(asked: Question) -> int:
    """How many jobs at once on this machine: one a core where environments and networks share one, else one."""
    import jax

    sharded = [s.get("rollout", {}).get("shards", 1) for s in (c.settings for c in asked.candidates)]
    alone = not is_jax(asked.env) or jax.default_backend() != "cpu" or max(sharded) > 1 or "rollout.shards" in dict(asked.common)
    return 1 if alone else jax.local_device_count()


def timed(folder: Path, study: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The record of `study`, with the seconds that all its parts took so far; kept in `folder` as `result.json`."""
    from marlstone.evaluation.select.question_file import QUESTION

    file = folder / "seconds"
    before, began = float(file.read_text()) if file.is_file() else 0.0, time.perf_counter()
    try:
        record = study()
    finally:
        if (folder / QUESTION).is_file():
            write_atomic(file, f"{before + time.perf_counter() - began:.1f}\n".encode())
    record["wall_seconds"] = round(before + time.perf_counter() - began, 1)
    write_atomic(folder / "result.json", (one_line(record) + "\n").encode())
    return record


def studied(asked: Question, folder: Path, do: Callable[..., None], say: Callable[[str], None]) -> dict[str, Any]:
    """Study, and write the report."""
    from marlstone.evaluation.select.report import write_report
    from marlstone.evaluation.select.study import Study

    record = Study(asked, folder, do, say).run()
    return {**record, "report": str(write_report(folder / "report.html", record, folder))}
