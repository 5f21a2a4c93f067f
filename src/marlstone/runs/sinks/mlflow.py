"""MLflow: a parent run per run of ours, with its configuration and record, and a child run per training seed, with its metrics.

MLflow cannot forget: of a run that goes on, steps that were sent before are not sent again; a metric sent twice with the same step, time
and value is one in its store.
"""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from marlstone.runs.json_line import plain
from marlstone.runs.sinks.contract import About, Ended, Sink, final_figures, flat, returns_by_seed
from marlstone.runs.store import Point

PARENT = "mlflow.parentRunId"
STATUS: Mapping[Ended, str] = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
MOST, LONGEST = 900, 5000  # metrics of one request, characters of a parameter: a little below MLflow's limits


@dataclass(frozen=True)
class MLflow(Sink):
    """`uri`: of its tracking server or database (none: MLFLOW_TRACKING_URI, else `mlflow.db` beside the run's directory); `experiment`: the
    name that runs are filed under; `artifacts`: whether the final policies are uploaded. Names and passwords belong into
    MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD; a `uri` that holds one is refused."""

    kind: ClassVar[str] = "mlflow"
    package: ClassVar[str] = "mlflow"
    extra: ClassVar[str] = "mlflow"
    uri: str | None = None
    experiment: str = "marlstone"
    artifacts: bool = False

    def __post_init__(self) -> None:
        if self.uri is not None and urlsplit(self.uri).password is not None:
            raise ValueError(
                "mlflow.uri holds a password, which would lie in the run's configuration: leave it out, and set MLFLOW_TRACKING_URI, or "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )

    def open(self, about: About) -> "MLflowWriter":
        """Their runs, new ones or those of an earlier life."""
        return MLflowWriter(self, about)


def _named(name: str) -> str:
    """`name` in the characters that MLflow takes."""
    return re.sub(r"[^\w\-. :/]", "_", name)


class MLflowWriter:
    """One run and its seeds at MLflow."""

    def __init__(self, sink: MLflow, about: About) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read while it is imported
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        from mlflow.tracking import MlflowClient

        self.sink = sink
        home = about.path.parent
        uri = sink.uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"
        self.client = MlflowClient(tracking_uri=uri)
        if (found := self.client.get_experiment_by_name(sink.experiment)) is not None:
            experiment = found.experiment_id
        else:
            files = (home / "mlartifacts").as_uri() if uri.startswith("sqlite:") else None
            experiment = self.client.create_experiment(sink.experiment, artifact_location=files)
        begun = "parent" in about.kept
        self.parent: str = about.kept["parent"] if begun else self._run(experiment, about.name, {"marlstone.run": str(about.path)})
        self.seeds: dict[int, str] = {}
        for seed in about.seeds:
            tags = {PARENT: self.parent, "marlstone.seed": str(seed)}
            self.seeds[seed] = about.kept.get(str(seed)) or self._run(experiment, f"{about.name}/seed-{seed}", tags)
        if begun:
            for run in (self.parent, *self.seeds.values()):
                self.client.update_run(run, status="RUNNING")
        else:
            self._describe(about)

    def keep(self) -> dict[str, Any]:
        """Their ids: the parent's, and by seed."""
        return {"parent": self.parent, **{str(seed): run for seed, run in self.seeds.items()}}

    def write(self, points: Sequence[Point]) -> None:
        """Metrics of each seed's run, in requests of at most `MOST`."""
        from mlflow.entities import Metric

        for seed, group in groupby(sorted(points, key=lambda p: p.seed), lambda p: p.seed):
            mine = [Metric(_named(p.name), p.value, round(1000 * p.time), p.step) for p in group]
            for i in range(0, len(mine), MOST):
                self.client.log_batch(self.seeds[seed], metrics=mine[i : i + MOST])

    def finish(self, record: Mapping[str, Any]) -> None:
        """The record's figures, itself as `record.json`, and the policies, if wanted."""
        for name, value in final_figures(record).items():
            self.client.log_metric(self.parent, _named(name), value)
        for seed, value in returns_by_seed(record).items():
            self.client.log_metric(self.seeds[seed], "final/return", value)
        self.client.log_dict(self.parent, plain(record), "record.json")
        for folder in record.get("policy") or ():
            seed = int(Path(folder).name.removeprefix("seed-"))
            self.client.set_tag(self.seeds[seed], "marlstone.policy", folder)
            if self.sink.artifacts:
                self.client.log_artifacts(self.seeds[seed], folder, "policy")

    def close(self, ended: Ended) -> None:
        """Say how their runs ended."""
        for run in (*self.seeds.values(), self.parent):
            self.client.set_terminated(run, STATUS[ended])

    def _run(self, experiment: str, name: str, tags: dict[str, str]) -> str:
        return str(self.client.create_run(experiment, run_name=name, tags=tags).info.run_id)

    def _describe(self, about: About) -> None:
        """The configuration, field by field and as text."""
        from mlflow.entities import Param

        params = [Param(_named(k), str(v)[:LONGEST]) for k, v in flat(about.config).items() if str(v)]
        for i in range(0, len(params), 90):
            self.client.log_batch(self.parent, params=params[i : i + 90])
        self.client.log_text(self.parent, about.toml, "config.toml")
