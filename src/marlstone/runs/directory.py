"""A run is one directory: it alone says what was done, and it alone continues it.

- `config.toml`: the resolved configuration; `marlstone train RUN/config.toml` repeats the run
- `files.json`: the user's files that it names: where they lay, and their hashes
- `spec.json`: who observes and does what in its environment
- `versions.json`: Python, packages, machine
- `metrics.sqlite`: what was measured (`runs.store`)
- `checkpoints/`: the whole train state of the last three checkpoints (`runs.checkpoint`)
- `policies/`: what acted at every checkpoint (`runs.policies`)
- `policy/`: every seed's final policy as it is deployed, a folder each that acts without JAX (`policy.policy`)
- `best/`: the best policies so far on validation episodes, where they are kept (`training.validation`)
- `account.sqlite`: what was spent of its budgets, where they are of no other account (`cost.accounts`)
- `seconds`: how long all its lives took so far (`runs.lifetime`)
- `result.json`: the record that `--json` printed
- `curve.png`: the learning curve
- `sinks/`: how far each service has been told (`runs.sinks`); what is written locally lies beside it, such as `tensorboard/`
"""

import contextlib
import errno
import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marlstone.core.errors import UserError
from marlstone.runs.checkpoint import discard_after, listed, step_of
from marlstone.runs.files import sweep, write_atomic
from marlstone.runs.json_line import one_line
from marlstone.runs.store import Store
from marlstone.runs.versions import versions

CONFIG = "config.toml"
ACCOUNT = "account.sqlite"


@dataclass(frozen=True)
class RunDirectory:
    """A run's directory. `path` is absolute; every file of the run lies inside it."""

    path: Path

    @classmethod
    def create(cls, path: str | Path, config: str, files: Mapping[str, Any] | None = None) -> "RunDirectory":
        """Start a run at `path` with its resolved configuration (TOML text) and what is known of the user's files that it names.

        Raises `UserError` where something is already there: a run is never overwritten.
        """
        target = Path(path).expanduser().absolute()
        if target.exists() and not target.is_dir():
            raise UserError(f"out = {str(path)!r} is a file: name a directory that does not exist yet")
        if target.is_dir() and (target / CONFIG).exists():
            begun = cls(target.resolve())
            if begun.claimed_elsewhere:
                raise UserError(f"out = {str(path)!r} is a run that another process is training: leave it alone, or name another directory")
            if listed(begun.checkpoints) or begun.metrics.is_file() or begun.result.is_file():
                remedy = f"continue it with --resume {path}, or name another directory"
                if not listed(begun.checkpoints):
                    remedy = "it ended before its first checkpoint, so name another directory, or remove it"
                raise UserError(f"out = {str(path)!r} already holds a run: {remedy}")
            with begun.claimed():  # killed before it began
                begun.abandon()
        if target.is_dir() and any(target.iterdir()):
            raise UserError(f"out = {str(path)!r} is not empty: name another directory")
        try:
            (target / "checkpoints").mkdir(parents=True)
        except OSError as error:
            raise UserError(f"out = {str(path)!r} cannot be made: {error.strerror}: name a directory you may write to") from error
        run = cls(target.resolve())
        run.write(CONFIG, config)
        run.write("files.json", json.dumps(files or {}, indent=2) + "\n")
        run.write("versions.json", json.dumps(versions(), indent=2) + "\n")
        return run

    @classmethod
    def open(cls, path: str | Path) -> "RunDirectory":
        """An existing run; raises `UserError` where there is none."""
        target = Path(path).expanduser()
        if not (target / CONFIG).is_file():
            found = "is no run: it has no config.toml" if target.is_dir() else "does not exist"
            raise UserError(f"run {str(path)!r} {found}: give the directory that `marlstone train` printed")
        return cls(target.resolve())

    def within(self, name: str) -> Path:
        """The path of a file of this run. Raises `UserError` for a name that leads out of the run, by `..`, `/` or a link."""
        target = (self.path / name).resolve()
        if target == self.path or not target.is_relative_to(self.path):
            raise UserError(f"file {name!r} lies outside run {self.path}: give a name inside it")
        return target

    def write(self, name: str, text: str) -> Path:
        """Write a text file of this run, atomically."""
        target = self.within(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, text.encode())
        return target

    def finish(self, record: Mapping[str, Any]) -> Path:
        """Keep the record that `--json` prints."""
        return self.write("result.json", one_line(record) + "\n")

    def record(self) -> dict[str, Any] | None:
        """What `finish` kept; None where the run has not ended."""
        return json.loads(self.result.read_text()) if self.result.is_file() else None

    def store(self) -> Store:
        """The run's own metrics store. It holds one run, under a fixed name, so that the directory may be renamed."""
        return Store(self.metrics, "run")

    def rewind(self, step: int, config: str, files: Mapping[str, Any] | None = None) -> None:
        """Forget what was recorded after `step`, where the run resumes under `config`, from the user's `files` as they are now: another
        future begins there."""
        self.write(CONFIG, config)
        if files is not None:
            self.write("files.json", json.dumps(files, indent=2) + "\n")
        discard_after(self.checkpoints, step)
        discard_after(self.policies, step)
        discard_after(self.best, step)
        self.result.unlink(missing_ok=True)
        with self.store() as store:
            store.truncate(step)

    def stopped(self, env: str, seeds: tuple[int, ...]) -> dict[str, Any]:
        """The record of a run that was stopped: the `steps` of its newest checkpoint, 0 where there is none."""
        kept = listed(self.checkpoints)
        return {"run": str(self.path), "env": env, "steps": step_of(kept[-1]) if kept else 0, "seeds": list(seeds), "stopped": True}

    def abandon(self) -> None:
        """Undo `create`, unless there is a checkpoint. Removes this run's own files only."""
        if listed(self.checkpoints):
            return
        sweep(self.checkpoints)
        for folder in (self.policies, self.best):
            discard_after(folder, -1)
            sweep(folder)
        for name in (
            CONFIG,
            "files.json",
            "spec.json",
            "versions.json",
            "metrics.sqlite",
            "metrics.sqlite-wal",
            "metrics.sqlite-shm",
            *(f"{ACCOUNT}{end}" for end in ("", "-wal", "-shm", "-turn")),
            "seconds",
            ".claim",
        ):
            self.within(name).unlink(missing_ok=True)
        for name in ("fleet", "sinks", "tensorboard", "csv", "wandb"):
            shutil.rmtree(self.within(name), ignore_errors=True)
        for folder in (self.checkpoints, self.policies, self.best, self.path):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    @property
    def config(self) -> Path:
        """The resolved configuration, TOML."""
        return self.within(CONFIG)

    @property
    def versions(self) -> Path:
        """Python, packages and machine, JSON."""
        return self.within("versions.json")

    @property
    def metrics(self) -> Path:
        """The metrics store, SQLite."""
        return self.within("metrics.sqlite")

    @property
    def checkpoints(self) -> Path:
        """The folder of the last three checkpoints."""
        return self.within("checkpoints")

    @property
    def policies(self) -> Path:
        """The folder of what acted at every checkpoint, for `compare` and `check-hacking`."""
        return self.within("policies")

    @property
    def best(self) -> Path:
        """The folder of the best policies so far on validation episodes."""
        return self.within("best")

    @property
    def artifacts(self) -> Path:
        """Frozen policies, `seed-K` each, as `marlstone.Policy.load` reads them."""
        return self.path / "policy"

    @property
    def result(self) -> Path:
        """The record that `--json` prints; there once the run is finished."""
        return self.within("result.json")

    @property
    def seconds(self) -> Path:
        """How long the run took so far, over all its lives."""
        return self.within("seconds")

    @property
    def curve(self) -> Path:
        """The picture of the learning curve."""
        return self.within("curve.png")

    @property
    def spec(self) -> Path:
        """Who observes and does what in its environment, JSON."""
        return self.within("spec.json")

    @property
    def claimed_elsewhere(self) -> bool:
        """Whether a process is writing to this run now."""
        if not (claim := self.within(".claim")).is_file():
            return False
        with claim.open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                return True
        return False

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold this run alone while writing to it. The claim ends with the process, however that ends.

        Raises `UserError` where another process holds it.
        """
        with self.within(".claim").open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                raise UserError(f"run {self.path} is being written by another process: wait for it, or stop it") from error
            sweep(self.path)
            yield
