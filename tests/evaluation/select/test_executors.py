"""Jobs side by side in real processes: lost ones go on, asked ones stop at a checkpoint, broken ones say why."""

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from marlstone.config import dump, load
from marlstone.core.errors import Failure, UserError
from marlstone.evaluation.select.executors import Beside
from marlstone.evaluation.select.trial import CHANCE, MEASURED, QUARTER, Job, Stopped
from marlstone.runs.checkpoint import newest
from marlstone.runs.progress import Progress

FEW = {
    "env": "proving:additive?rows=2", "architecture.body.hidden": "[8]", "rollout.envs": "8", "rollout.length": "8", "seeds": "2",
    "credit": "team", "evaluate.logged": "0", "evaluate.episodes": "4",
}  # fmt: skip


def job(folder: Path, name: str, rivals: tuple[str, ...] = (), light: bool = True, **fields: str) -> Job:
    return Job(str(folder / name), str(folder), dump(load(None, {**FEW, **fields})), rivals=rivals, light=light, chance=True)


def lanes() -> list[int]:
    """Processes of lanes below this one."""
    found = []
    for p in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if p.name.isdigit() and b"select.executors:lane" in (p / "cmdline").read_bytes():
                above = int((p / "stat").read_text().rpartition(")")[2].split()[1])
                found += [int(p.name)] if above == os.getpid() else []
    return found


class Watched:
    """Shown progress; `act` is called at every report of training."""

    def __init__(self, act: object = None) -> None:
        self.act, self.seen, self.said = act, list[str](), list[str]()

    @contextlib.contextmanager
    def __call__(self) -> Iterator[object]:
        def report(progress: Progress, name: str) -> None:
            self.seen.append(f"{name} {progress.phase}")
            if progress.phase == "training" and callable(self.act):
                self.act()

        yield report


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")


@pytest.mark.slow
def test_a_job_whose_process_is_killed_goes_on_and_one_waits_for_its_rivals_quarter(tmp_path: Path) -> None:
    killed: list[int] = []

    def kill() -> None:
        if not killed:
            killed.append(lanes()[0])
            os.kill(killed[0], signal.SIGKILL)

    watched = Watched(kill)
    a = job(tmp_path, "a", light=False, steps="4096", checkpoint_every="512")
    jobs = [a, job(tmp_path, "waits", (a.folder,), steps="64"), job(tmp_path, "b", steps="512")]
    Beside(watched.said.append, watched, lambda: False, 2)(jobs, "training")
    assert all(j.done for j in jobs) and not lanes()
    assert sum("it goes on in another" in line for line in watched.said) == 1
    first = {name: i for i, (name, _) in reversed(list(enumerate(line.split() for line in watched.seen)))}
    assert {"a done", "b done", "waits done"} <= set(watched.seen) and first["b"] < first["waits"]
    (tmp_path / "b" / MEASURED).unlink()  # as if killed after its end: its speed, which it is for, is not known
    Beside(watched.said.append, watched, lambda: False, 2)(jobs, "training")
    assert watched.seen.count("a done") == 1 and watched.seen.count("b done") == 2
    assert json.loads((tmp_path / "b" / MEASURED).read_text())["record"]["steps_per_second"] > 0


@pytest.mark.slow
def test_asked_to_stop_all_stop_at_checkpoints_and_a_broken_job_says_why(tmp_path: Path) -> None:
    asked: list[bool] = []
    watched = Watched(lambda: asked.append(True))
    jobs = [job(tmp_path, name, steps="400000") for name in ("a", "b", "c")]
    with pytest.raises(Stopped, match="goes on from here"):
        Beside(watched.said.append, watched, lambda: bool(asked), 2)(jobs, "training")
    assert not lanes() and not Path(jobs[2].folder).exists()
    begun = [j for j in jobs[:2] if any((Path(j.folder) / "checkpoints").glob("step-*"))]
    assert begun and all(0 < newest(Path(j.folder) / "checkpoints").step < 400000 for j in begun)
    broken = Job(str(tmp_path / "broken"), str(tmp_path), "env = 3")
    with pytest.raises((UserError, Failure), match="env"):
        Beside(watched.said.append, watched, lambda: False, 2)([broken], "training")
    assert not lanes()


def test_what_is_hopeless_is_told_by_the_best_rival_that_came_so_far(tmp_path: Path) -> None:
    late = Job("late", str(tmp_path), "", rivals=(str(tmp_path / "a"), str(tmp_path / "b")))
    (tmp_path / CHANCE).write_text(json.dumps({"chance": 0.0}))
    for name, returns in (("a", [[1.0], [1.0]]), ("b", [[2.0], [2.0]])):
        assert not late.ready
        (tmp_path / name).mkdir()
        (tmp_path / name / QUARTER).write_text(json.dumps({"returns": returns, "share": 0.25}))
    assert late.ready and late.bar(0.25) == 1.5  # a quarter of what the best gained over chance, below it
    (tmp_path / "b" / QUARTER).rename(tmp_path / "b" / MEASURED)  # it was done before it had a quarter
    assert late.ready and late.bar(0.25) == 0.75
    assert late.bar(0.2) is None  # they had trained for longer: that is no comparison
    assert Job("free", str(tmp_path), "").ready and Job("free", str(tmp_path), "").bar(0.25) is None
