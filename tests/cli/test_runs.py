"""Runs are found, looked at, put away: by what their directories say, and never while they are trained."""

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from marlstone.runs.catalog import described, runs_in
from marlstone.runs.directory import RunDirectory
from tests.cli.conftest import Result

Command = Callable[..., Result]


@pytest.fixture
def twenty(marlstone: Command, tmp_path: Path) -> Path:
    """Twenty runs of two environments and three methods, one of them stopped, in folders of their own."""
    assert marlstone("train", "--env", "proving:climbing", "--credit", "team", "--steps", "64", "--out", "first")[0] == 0
    record, config = json.loads((tmp_path / "first" / "result.json").read_text()), (tmp_path / "first" / "config.toml").read_text()
    for i in range(20):
        credit, env = ("team", "individual", "counterfactual")[i % 3], ("climbing", "additive")[i % 2]
        where = tmp_path / "runs" / f"{'old/' if i > 15 else ''}r{i:02d}"
        shutil.copytree(tmp_path / "first", where)
        (where / "config.toml").write_text(
            config.replace("proving:climbing", f"proving:{env}").replace('kind = "team"', f'kind = "{credit}"')
        )
        said = {"env": f"proving:{env}", "return_iqm": float(i), "return_ci95": [i - 1, i + 1], "acting": "mode"}
        (where / "result.json").write_text(json.dumps(record | said))
    (tmp_path / "runs" / "r03" / "result.json").unlink()
    (tmp_path / "runs" / "notes").mkdir()
    return tmp_path / "runs"


def test_the_three_best_of_twenty(marlstone: Command, twenty: Path) -> None:
    code, out, _ = marlstone("runs", "list", "--sort", "return", "--top", "3", "--json")
    assert code == 0 and [Path(x["run"]).name for x in json.loads(out)["runs"]] == ["r19", "r18", "r17"]
    code, out, _ = marlstone("runs", "list", "--env", "climbing", "--with", "team", "--sort", "return", "--json")
    assert [Path(x["run"]).name for x in json.loads(out)["runs"]] == ["r18", "r12", "r06", "r00"]
    code, out, _ = marlstone("runs", "list", "--state", "stopped", "--json")
    (stopped,) = json.loads(out)["runs"]
    assert stopped["run"].endswith("r03") and stopped["return_iqm"] is None and stopped["steps"] > 0
    code, out, _ = marlstone("runs", "list")
    assert code == 0 and "20 runs" in out and max(map(len, out.splitlines())) <= 80 and "r16" in out
    code, out, _ = marlstone("runs", "show", "runs/r05")
    assert code == 0 and "proving:additive" in out and "finished" in out


def test_curves_of_several_runs_in_one_picture(marlstone: Command, twenty: Path) -> None:
    code, out, err = marlstone("runs", "compare", "runs/r00", "runs/r02", "--out", "both.png")
    assert code == 0 and "both.png" in out and (twenty.parent / "both.png").read_bytes()[:4] == b"\x89PNG" and not err
    assert "r00" in out and max(map(len, out.splitlines()[:-1])) <= 80
    assert "different environments" in marlstone("runs", "compare", "runs/r00", "runs/r01")[2]


def test_the_best_of_a_folder_are_drawn(marlstone: Command, twenty: Path) -> None:
    code, out, _ = marlstone("runs", "compare", "runs", "--top", "3", "--out", "best.png", "--json")
    told = json.loads(out)
    assert code == 0 and [Path(x["run"]).name for x in told["runs"]] == ["r19", "r18", "r17"] and Path(told["picture"]).is_file()
    (twenty / "r15" / "result.json").write_text((twenty / "old" / "r17" / "result.json").read_text())
    assert "note: 1 more run tied with the last one shown by return" in marlstone("runs", "list", "--sort", "return", "--top", "3")[2]
    assert marlstone("runs", "compare", "runs", "--top", "0")[0] == 2
    assert marlstone("runs", "compare", "runs/notes")[0] == 2


def test_what_is_archived_comes_back_and_what_is_deleted_is_gone(marlstone: Command, twenty: Path) -> None:
    before = {p.relative_to(twenty): p.read_bytes() for p in (twenty / "r00").rglob("*") if p.is_file()}
    code, out, _ = marlstone("runs", "archive", "runs/r00", "--to", "kept", "--delete")
    assert code == 0 and not (twenty / "r00").exists()
    assert marlstone("runs", "archive", "runs/r01", "--to", "kept")[0] == 0 and (twenty / "r01").is_dir()
    assert "exists already" in marlstone("runs", "archive", "runs/r01", "--to", "kept")[2]
    with tarfile.open(twenty.parent / "kept" / "r00.tar.gz") as file:
        file.extractall(twenty, filter="data")
    assert before == {p.relative_to(twenty): p.read_bytes() for p in (twenty / "r00").rglob("*") if p.is_file()}
    code, out, _ = marlstone("runs", "delete", "runs/r00", "runs/r01")
    assert code == 0 and "nothing was removed" in out and (twenty / "r00").is_dir()
    assert json.loads(marlstone("runs", "delete", "runs/r00", "--json")[1])["removed"] is False and (twenty / "r00").is_dir()
    (kept,) = json.loads(marlstone("runs", "archive", "runs/r02", "--to", "kept", "--json")[1])["archived"]
    assert Path(kept["file"]).stat().st_size == kept["bytes"] and not kept["deleted"]
    assert marlstone("runs", "delete", "runs/r00", "--yes")[0] == 0 and not (twenty / "r00").exists()


def test_a_run_that_is_trained_is_left_alone(marlstone: Command, twenty: Path) -> None:
    run = RunDirectory.open(twenty / "r02")
    with run.claimed():
        assert described(run).state == "training"
        for words in (("delete", "runs/r02", "--yes"), ("archive", "runs/r02")):
            code, _, err = marlstone("runs", *words)
            assert code == 2 and "being trained" in err and run.path.is_dir()


def test_mistakes_and_damage(marlstone: Command, twenty: Path) -> None:
    (twenty / "r04" / "result.json").write_text("{")
    states = {x.run.path.name: x.state for x in runs_in(twenty)}
    assert states["r04"] == "damaged" and states["r03"] == "stopped" and len(states) == 20
    for words, said in (
        (("list", "nowhere"), "nowhere"), (("list", "--sort", "retun"), "return"), (("lst",), "list"), (("show", "runs/notes"), "no run"),
        (("list", "--top", "0"), "--top"),
    ):  # fmt: skip
        code, _, err = marlstone("runs", *words)
        assert code == 2 and said in err, err
