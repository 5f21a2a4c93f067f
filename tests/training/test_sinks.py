"""A run that trains tells its sinks, stops and goes on with them, and never stops for one that fails."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from marlstone.cli import main
from marlstone.config import load, parse
from marlstone.config.toml import dump
from marlstone.core.errors import UserError
from marlstone.runs.directory import RunDirectory
from marlstone.runs.sinks import Csv, MLflow, TensorBoard, Wandb

SMALL = ("rollout.envs=4", "rollout.length=8", "evaluate.episodes=2", "evaluate.logged=0", "architecture.body.hidden=[8]")
TINY = "--seeds 2 " + " ".join(f"--set {x}" for x in SMALL)
pytestmark = pytest.mark.usefixtures("compiled_once")
TRAIN = ["train", "--env", "proving:additive?rows=2", *TINY.split()]
OWN = '''
from dataclasses import dataclass
from pathlib import Path

from marlstone.runs.sinks import About, Sink


@dataclass(frozen=True)
class Lines(Sink):
    """A line of text per figure."""

    file: str = "lines.txt"
    broken: bool = False

    def open(self, about: About) -> "Lines":
        return self

    def keep(self):
        return {}

    def write(self, points):
        if self.broken:
            raise ConnectionError("the server has gone")
        with Path(self.file).open("a") as out:
            out.writelines(f"{p.step} {p.seed} {p.name} {p.value}\\n" for p in points)

    def finish(self, record):
        Path(self.file).with_suffix(".done").write_text(str(record["return_iqm"]))

    def close(self, ended):
        pass
'''


def rows_of(run: Path) -> list[tuple[str, ...]]:
    with (run / "csv" / "metrics.csv").open() as file:
        return [(r["seed"], r["step"], r["name"], r["value"]) for r in csv.DictReader(file)]


def stored(run: Path) -> set[tuple[str, ...]]:
    with RunDirectory.open(run).store() as store:
        return {
            (str(s.seed), str(step), name, "" if value != value else repr(float(value)))
            for name in store.names()
            for s in store.series(name)
            for step, value in zip(s.step.tolist(), s.value.tolist(), strict=True)
        }


@pytest.mark.slow
def test_sinks_follow_a_run_that_is_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """CSV, and a sink of the user's added when the run goes on, have what the store has; one that fails is counted; the record says all."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    out = ["--out", "run", "--json"]
    assert main([*TRAIN, "--steps", "64", "--sink", "csv", *out]) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["sinks"] == [{"name": "csv", "written": len(stored(tmp_path / "run")), "dropped": 0, "reason": ""}]
    assert main(["train", "--resume", "run", "--steps", "128", "--sink", "own.py:Lines", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    rows = rows_of(tmp_path / "run")
    assert len(rows) == len(set(rows)) and set(rows) == stored(tmp_path / "run")
    assert {x["name"] for x in record["sinks"]} == {"csv", "Lines"}
    assert len((tmp_path / "lines.txt").read_text().splitlines()) == len(rows)
    assert float((tmp_path / "lines.done").read_text()) == record["return_iqm"]
    config = load(tmp_path / "run" / "config.toml")
    assert [type(s).__name__ for s in config.sinks] == ["Csv", "Lines"]
    assert main(["runs", "export", "run", "--to", "own.py:Lines", "--set", "file=again.txt"]) == 0
    assert not (tmp_path / "again.txt").exists()  # it has them all, and nothing is sent twice
    assert "0 figures sent" in capsys.readouterr().out
    (tmp_path / "run" / "sinks" / "Lines.json").unlink()
    assert main(["runs", "export", "run", "--to", "own.py:Lines", "--set", "file=again.txt"]) == 0
    assert sorted((tmp_path / "again.txt").read_text()) == sorted((tmp_path / "lines.txt").read_text())
    assert main(["runs", "export", "run", "--to", "own.py:Lines", "--set", "lines=again.txt"]) == 2
    (tmp_path / "run" / "sinks" / "Lines.json").unlink()
    assert main(["runs", "export", "run", "--to", "own.py:Lines", "--set", "broken=true"]) == 1


def test_a_sink_that_fails_stops_no_training(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "run.toml").write_text('env = "proving:additive?rows=2"\n[[sinks]]\nkind = "own.py:Lines"\nbroken = true\n')
    assert main(["train", "run.toml", *TINY.split(), "--steps", "64", "--out", "run"]) == 0
    out = capsys.readouterr()
    assert out.err.count("the server has gone") == 1 and "training goes on" in out.err
    assert "sink: Lines" in out.out and "dropped" in out.out
    (line,) = json.loads((tmp_path / "run" / "result.json").read_text())["sinks"]
    assert line == {"name": "Lines", "written": 0, "dropped": len(stored(tmp_path / "run")), "reason": line["reason"]} and line["dropped"]


def test_sinks_survive_toml() -> None:
    sinks = (TensorBoard(dir="tb"), Wandb(mode="offline", tags=("a", "b")), MLflow(experiment="x"), Csv())
    text = 'env = "proving:additive"\n' + "".join(
        f'[[sinks]]\nkind = "{k}"\n{more}\n'
        for k, more in (
            ("tensorboard", 'dir = "tb"'),
            ("wandb", 'mode = "offline"\ntags = ["a", "b"]'),
            ("mlflow", 'experiment = "x"'),
            ("csv", ""),
        )
    )
    config = parse(text)
    assert config.sinks == sinks and parse(dump(config)) == config


@pytest.mark.parametrize(
    ("sink", "words"),
    [("tensorbord", "did you mean 'tensorboard'"), ("own.py:Nothing", "defines no class 'Nothing'"), ("own.py:Plain", "is no Sink")],
)
def test_what_is_no_sink_is_refused(sink: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text("from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Plain:\n    x: int = 1\n")
    with pytest.raises(UserError, match=words):
        load(None, {"env": "proving:additive", "sink": json.dumps([sink])})


def test_a_missing_package_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused before anything is made, by `train` and by `select`."""
    monkeypatch.chdir(tmp_path)
    text = """
from dataclasses import dataclass
from marlstone.runs.sinks import Sink
@dataclass(frozen=True)
class Far(Sink):
    package = 'no_such_one'
"""
    (tmp_path / "own.py").write_text(text)
    for command in (["train", "--out", "run"], ["select", "--quick", "--out", "sel"]):
        assert main([*command, "--env", "proving:additive", "--sink", "own.py:Far"]) == 2
        assert "needs the package no_such_one" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "__pycache__") == ["own.py"]


def test_a_fleet_tells_its_sinks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fleet: Any = ["--fleet", "local", "--set", "fleet.actors=1"]
    assert main([*TRAIN, "--steps", "64", "--seeds", "1", "--sink", "csv", *fleet, "--out", str(tmp_path / "run"), "--json"]) == 0
    (line,) = json.loads(capsys.readouterr().out)["sinks"]
    assert set(rows_of(tmp_path / "run")) == stored(tmp_path / "run") and line["written"] == len(stored(tmp_path / "run"))
