"""Weights & Biases: a run of theirs per training seed, in a group per run of ours; their step is the joint env step of that seed.

W&B cannot forget: of a run that goes on, steps that were sent before are not sent again, and W&B itself refuses any that is no later than
its last. Offline, every life of a run leaves a folder of its own under one id: `wandb sync --append` puts them together.
"""

import netrc
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from marlstone.core.errors import UserError
from marlstone.runs.sinks.contract import About, Ended, Sink, final_figures, returns_by_seed
from marlstone.runs.store import Point

HOME = "https://api.wandb.ai"


@dataclass(frozen=True)
class Wandb(Sink):
    """`project`, `entity`, `tags` and `group` as W&B has them (`group`, none: the run's name); `mode`: `online` or `offline`, none: what
    WANDB_MODE says, else online; `artifacts`: whether the final policies are uploaded. The key is W&B's own affair (WANDB_API_KEY, or
    `wandb login`), and stands nowhere in a run."""

    kind: ClassVar[str] = "wandb"
    package: ClassVar[str] = "wandb"
    extra: ClassVar[str] = "wandb"
    project: str = "marlstone"
    entity: str | None = None
    group: str | None = None
    tags: tuple[str, ...] = ()
    mode: Literal["online", "offline"] | None = None
    artifacts: bool = False

    def check(self) -> None:
        """Also refuses to be online without a key, since nobody would be there to type it."""
        super().check()
        if self.chosen == "online" and not _has_key():
            raise UserError('sink wandb is online and finds no key: run `wandb login`, set WANDB_API_KEY, or choose mode = "offline"')

    @property
    def chosen(self) -> Any:
        """The mode that counts."""
        return self.mode or os.environ.get("WANDB_MODE") or "online"

    def open(self, about: About) -> "WandbWriter":
        """A run of theirs per seed."""
        return WandbWriter(self, about)


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL") or HOME).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


class WandbWriter:
    """One run's seeds at W&B."""

    def __init__(self, sink: Wandb, about: About) -> None:
        import wandb

        self.sink = sink
        self.ids = {seed: about.kept.get(str(seed)) or uuid.uuid4().hex[:12] for seed in about.seeds}
        quiet = wandb.Settings(
            silent=True, console="off", x_disable_stats=True, x_disable_meta=True, disable_git=True, disable_code=True, init_timeout=30.0
        )
        self.runs: dict[int, Any] = {}
        for seed, name in self.ids.items():
            self.runs[seed] = wandb.init(
                project=sink.project, entity=sink.entity, id=name, name=f"{about.name}/seed-{seed}", group=sink.group or about.name,
                tags=sink.tags, config={**about.config, "training_seed": seed, "run": about.name}, dir=str(about.path), mode=sink.chosen,
                resume="allow", reinit="create_new", settings=quiet,
            )  # fmt: skip

    def keep(self) -> dict[str, Any]:
        """Their ids, by seed."""
        return {str(seed): name for seed, name in self.ids.items()}

    def write(self, points: Sequence[Point]) -> None:
        """One entry of their history per seed and step."""
        for (seed, step), group in groupby(points, lambda p: (p.seed, p.step)):
            self.runs[seed].log({p.name: p.value for p in group}, step=step)

    def finish(self, record: Mapping[str, Any]) -> None:
        """The record's figures go to their summaries, and the policies, if wanted, to their artifacts."""
        import wandb

        returns, figures = returns_by_seed(record), final_figures(record)
        for seed, run in self.runs.items():
            run.summary.update({**figures, **({"final/return": returns[seed]} if seed in returns else {})})
        folders = {Path(folder).name: folder for folder in record.get("policy") or ()}
        for seed, run in self.runs.items():
            if (folder := folders.get(f"seed-{seed}")) is None:
                continue
            run.summary["policy"] = folder
            if self.sink.artifacts:
                artifact = wandb.Artifact(f"policy-{self.ids[seed]}", type="model")
                artifact.add_dir(folder)
                run.log_artifact(artifact)

    def close(self, ended: Ended) -> None:
        """Finish their runs, failed ones as failed."""
        for run in self.runs.values():
            run.finish(exit_code=int(ended == "failed"))
