"""A whole selection, in a real process that is killed and goes on; and what a trial's stop rests on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marlstone.evaluation.select.study import with_proof
from marlstone.evaluation.select.trial import MEASURED, QUARTER, far_below, kept
from marlstone.stats.intervals import interval

CANDIDATES = """
defaults = false
[[candidates]]
name = "good"
architecture = { kind = "ctde", body = { kind = "mlp", hidden = [16] } }
credit = "team"
learner = { kind = "policy_gradient", lr = 1e-2 }
tries = [{}]
[[candidates]]
name = "apart"
architecture = { kind = "decentralized", body = { kind = "mlp", hidden = [16] } }
credit = "team"
learner = { kind = "policy_gradient", lr = 1e-2 }
tries = [{}]
[[candidates]]
name = "hopeless"
architecture = { kind = "ctde", body = { kind = "mlp", hidden = [16] } }
credit = "team"
tries = [{}]
faults = [{ kind = "action_loss", rate = 1.0 }]
[[candidates]]
name = "unfit"
architecture = "decentralized"
credit = "counterfactual"
"""
FEW = ("--set", "rollout.envs=16", "--set", "rollout.length=18", "--set", "evaluate.logged=2")
ROWS = 16 * 18


def begun(folder: Path, out: str, *more: str) -> subprocess.Popen[str]:
    (folder / "c.toml").write_text(CANDIDATES)
    words = [sys.executable, "-m", "marlstone", "select", "--env", "proving:additive?rows=2", "--candidates", "c.toml", "--quick"]
    words += ["--budget", str(40 * ROWS), "--seeds", "2", "--episodes", "32", "--out", out, "--json", *FEW, *more]
    env = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "true"}
    return subprocess.Popen(words, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], bytes]:
    """A selection killed in one of its trials and begun again, on Ray: its folder, its record, and the first trial's result before that."""
    folder = tmp_path_factory.mktemp("select")
    first, place = begun(folder, "out"), folder / "out" / "trials"
    until = time.monotonic() + 300
    while not (place / "good" / MEASURED).is_file() and first.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    before = (place / "good" / MEASURED).read_bytes()
    assert not (place / "hopeless" / MEASURED).is_file()
    out, err = begun(folder, "out", "--fleet", "ray").communicate(timeout=500)
    assert out.count("\n") == 1, err
    assert "expected time: about " in err
    return folder, json.loads(out), before


def test_a_killed_selection_goes_on_and_repeats_nothing(killed: tuple[Path, dict[str, Any], bytes]) -> None:
    folder, record, before = killed
    assert (folder / "out" / "trials" / "good" / MEASURED).read_bytes() == before
    assert {"env", "budget", "candidates", "recommended", "inseparable_from", "report", "config", "wall_seconds"} <= set(record)
    assert json.loads((folder / "out" / "result.json").read_text()) == record
    assert not list((folder / "out").rglob(".partial-*"))


def test_rows_say_what_each_was_worth_and_why_the_others_are_not_there(killed: tuple[Path, dict[str, Any], bytes]) -> None:
    rows = {row["name"]: row for row in killed[1]["candidates"]}
    assert set(rows) == {"good", "apart", "hopeless", "unfit"}
    assert rows["unfit"]["verdict"].startswith("refused: ") and "add --architecture ctde" in rows["unfit"]["verdict"]
    stopped = rows["hopeless"]
    assert 0.2 * 40 * ROWS <= stopped["stopped_at"] < 40 * ROWS and stopped["rank"] is None and stopped["rank_at_quarter"] == 3
    assert kept(Path(killed[0] / "out" / "trials" / "hopeless"), QUARTER)["step"] == stopped["stopped_at"]  # type: ignore[index]
    for name in ("good", "apart"):  # of each architecture one runs to its end
        assert rows[name]["stopped_at"] is None and 0.6 * 40 * ROWS < rows[name]["steps"][0] <= 40 * ROWS
    assert {rows["good"]["rank"], rows["apart"]["rank"]} == {1, 2}
    assert (rows["good"]["dead_seeds"], rows["good"]["unrewarded_seeds"], stopped["dead_seeds"]) == (0, 0, None)
    assert all(rows[k]["cost"]["train"] > 0 and rows[k]["stability"]["rating"] == "unrated" for k in ("good", "apart"))
    best = rows[killed[1]["recommended"]]
    assert best["edge_cases"] and best["verdict"] == "recommended" and "seed_iqr" in best["stability"]


def test_the_page_stands_alone_and_the_recommendation_is_a_configuration(killed: tuple[Path, dict[str, Any], bytes]) -> None:
    from marlstone.config import load

    page = Path(killed[1]["report"]).read_text()
    assert page.count("<img ") >= 4 and "src='data:image/png;base64," in page
    assert "http" not in page.replace("http-equiv", "")
    config = load(killed[1]["config"])
    assert (config.env, config.steps, config.seeds) == ("proving:additive?rows=2", 40 * ROWS, 2)
    assert killed[1]["evidence"] in page.replace("&#x27;", "'")


def test_a_trial_is_hopeless_only_if_its_whole_interval_is() -> None:
    wide = [[0.0], [1.0], [0.2], [0.8], [0.5]]
    assert not far_below(wide, 0.9) and far_below([[0.1], [0.12], [0.09], [0.1], [0.11]], 0.9)
    assert far_below([[0.1]], 0.9) and not far_below([[1.0]], 0.9)
    between = [[0.1], [0.5], [0.2], [0.3], [0.4]]
    bar = np.mean([interval(between, level)[1][1] for level in (0.95, 0.9875)])
    assert far_below(between, bar, 0.95) and not far_below(between, bar, 0.9875)  # four that may be stopped: a stricter level each


def test_what_the_proof_showed_becomes_doubt() -> None:
    fell = {"budgets": 3, "collapsed": True, "words": "far below", "fell_back": 0.5}
    other = {"return_iqm": 0.25, "separable_from_first": True}
    assert with_proof("Sure.", {}) == "Sure."
    assert with_proof("Sure.", {"soak": fell | {"collapsed": False}, "confirmed": other | {"separable_from_first": False}}) == "Sure."
    assert "fell back" in with_proof("Sure.", {"soak": fell}) and "0.25" in with_proof("Sure.", {"confirmed": other})
