"""Every command in the documentation runs: each ```bash block whose lines begin with `marlstone`, at a tiny size.

The quickstart trains really, in a game that compiles quickly, and so do the page on a simulator of one's own, whose program then acts, and
those on opponents and schedules. On the other pages everything runs but the training loop: flags, files, the environment, the parts, and
whether they fit.
"""

import re
import runpy
import shlex
import sqlite3
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marlstone.cli import audit_credit, check_hacking, compare, evaluate, main, select, train, trim, tune
from marlstone.core.episodes import WholeEpisodes
from marlstone.core.ledger import Costs
from marlstone.cost.prices import PriceTable
from marlstone.evaluation import comms_laws, encoder_laws
from marlstone.evaluation.credit import laws as credit_laws
from marlstone.evaluation.learner import laws as learner_laws
from marlstone.evaluation.tune.question import question
from marlstone.runs.store import Store
from tests.cli.conftest import pretend

pytestmark = pytest.mark.usefixtures("compiled_once")  # pages that train compile in a hurry
ROOT = Path(__file__).parents[2]
REALLY = ("quickstart.md", "your-simulator.md", "opponents.md", "schedules.md")
LONG = ("opponents.md", "schedules.md")  # of those the ones whose parts have tests of their own
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOTHING_SAID = {**dict.fromkeys(("team_return", "team_return_ci95", "success", "log", "run")), "episodes": [2]}
FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.M | re.S)
TINY = "--steps 64 --seeds 2 --set rollout.envs=4 --set rollout.length=8 --set evaluate.episodes=2"


def commands(text: str) -> list[str]:
    """The lines to run, continuation lines joined."""
    blocks = [body for kind, _, body in FENCE.findall(text) if kind == "bash" and body.startswith("marlstone")]
    return [line for body in blocks for line in body.replace("\\\n", " ").splitlines() if line.startswith("marlstone")]


def tiny(line: str) -> list[str]:
    """The same command, small: the last of two flags counts."""
    words = shlex.split(line)[1:]
    if words[0] == "train":
        return words + (["--steps", "128"] if "--resume" in words else shlex.split(TINY))
    return [*words, "--episodes", "2"] if words[0] in ("evaluate", "payoff") else words


def fitting(config: Any, *rest: Any, **more: Any) -> dict[str, Any]:
    """No training, but everything that is checked before it."""
    from marlstone.training.loop import runtime_of

    runtime_of(config).close()
    return pretend(config, *rest, **more)


def fitting_audit(config: Any) -> dict[str, Any]:
    """No audit either, but what is checked before it."""
    from marlstone.evaluation.credit.audit import auditable
    from marlstone.training.loop import runtime_of

    auditable(config)
    runtime_of(config).close()
    figures = dict.fromkeys(
        ("claims", "rank_correlation", "decision_rank_correlation", "efficiency_error", "dummy_ci95", "gap", "team_return")
    )
    none = {f"{k}_ci95": None for k in ("rank_correlation", "decision_rank_correlation", "gap")}
    kinds = {"architecture": "-", "credit": "-", "learner": "-"}
    return {"env": config.env, "seeds": [1], **kinds, **figures, **none, "truth": {}, "contributions": {}}


def fitting_cases(config: Any, checkpoint: Any, episodes: int, tell: Any) -> dict[str, Any]:
    """No episodes, but every case that would be played is put over the environment."""
    from marlstone.envs.faults import with_faults
    from marlstone.evaluation.robustness.edge_cases import decider_of, standard_cases
    from marlstone.training.loop import runtime_of

    runtime, rows = runtime_of(config), []
    for case in (*standard_cases(runtime.algorithm.spec), *config.evaluate.cases):
        with_faults(case.faults, runtime.env.env)
        decider_of(runtime.algorithm, case)
        verdict = {"return_iqm": 0.0, "return_ci95": None, "loss": None, "loss_ci95": [None, None], "graceful": None}
        rows.append({"name": case.name, **verdict})
    return {
        "return_iqm": 0.0,
        "return_ci95": None,
        "seeds": [1],
        "chance": rows[0],
        "graceful_bound": config.evaluate.graceful,
        "cases": rows,
        "ood": dict.fromkeys(("declared_rate", "false_alarm_rate", "detection_rate", "return_gated", "return_ungated"), 0.0)
        | {"kinds": {}},
    }


def fitting_messages(config: Any, checkpoint: Any, episodes: int, tell: Any) -> dict[str, Any]:
    """No episodes, but whether there is something to count."""
    from marlstone.evaluation.messages.suite import refuse_silence
    from marlstone.training.loop import runtime_of

    refuse_silence(config, runtime_of(config).algorithm.spec)
    nobody: dict[str, Any] = {"chatter": {}, "chatter_bound": config.evaluate.chatter, "alarm": False, "chatter_alarms": []}
    return {"return_iqm": 0.0, "return_ci95": None, "seeds": [1], **nobody}


def fitting_selection(question: Any, folder: Path, do: Any) -> dict[str, Any]:
    """No candidate is trained, but all are fitted, and one is recommended."""
    from marlstone.config import dump
    from marlstone.evaluation.select.question_file import remembered
    from marlstone.evaluation.select.study import Study

    it = Study(question, folder, do, print)
    remembered(folder, question)
    (folder / "recommended.toml").write_text(dump(it._config(it.candidates[0], {}, 64, 1000, 2)))
    words = dict.fromkeys(("recommended", "evidence", "doubt", "config", "report"), "-")
    return {"env": question.env, "budget": question.budget.words, "seeds": question.seeds, "candidates": [], **words}


def fitting_sweep(question: Any, folder: Path, do: Any) -> dict[str, Any]:
    """No trial is trained, but the space is read, and the configuration as it is wins."""
    from marlstone.config import dump
    from marlstone.evaluation.select.question_file import remembered

    remembered(folder, question, "sweep")
    (folder / "best.toml").write_text(dump(question.config({}, 1000, 2)))
    rung = {"steps": 64, "return_iqm": 0.0, "returns": [0.0]}
    trial = {"name": "trial-0", "settings": {}, "rungs": [rung], "rank": 1, "stopped_at": None}
    figures = dict.fromkeys(("tuning_return_iqm", "return_iqm", "return_ci95", "return_worst_seed", "selection_bias", "baseline"))
    asked = {"env": "-", "configurations": 9, "tuning_seeds": 2, "seeds": [1000], "trials": [trial], "best": "trial-0", "settings": {}}
    return {**asked, **figures, "evidence": "-", "config": "-", "report": "-"}


def fitting_comparison(first: Any, second: Any, *_: Any) -> dict[str, Any]:
    """No comparison, but whether the runs are of one environment."""
    from marlstone.evaluation.paired.players import together

    together(first[0], second[0])
    figures = dict.fromkeys(("difference", "ci95", "better", "clipped", "counted", "episodes", "seeds", "bounds"))
    figures |= {"means": [None, None], "decided": False}
    return {**figures, "env": first[0].env, "runs": ["a", "b"], "steps": [1, 1], "bounds_declared": True, "agents": {}}


def fitting_trim(config: Any, checkpoint: Any, **asked: Any) -> dict[str, Any]:
    """Nothing is played, but a run that lacks something is configured, and made."""
    from marlstone.evaluation.trim.removals import Removals, config_without
    from marlstone.training.loop import runtime_of

    agents = (first := runtime_of(config)).algorithm.spec.team.agents
    first.close()
    runtime_of(config_without(config, Removals(links=frozenset({agents[:2]}), units={"hidden 0": 1}))).close()
    gone = {"kind": "link", "name": "a>b", "saved": {"bits": 1.0}, "loss": 0.0, "loss_ci95": [0.0, 0.0], "removable": True}
    whole = {"bound": asked["bound"], "loss": 0.0, "loss_ci95": [0.0, 0.0], "loss_by_seed": [0.0], "return_difference": 0.0}
    saved = {"before": {"bits": 2.0}, "after": {"bits": 1.0}, "saved_shares": {"bits": 0.5}, "saved_share": 0.5, "out": None}
    return {"removed": [gone], "candidates": [gone], "notes": [], "return_difference_ci95": [0.0, 0.0], **whole, **saved}


def fitting_check(runs: Any, *_: Any) -> dict[str, Any]:
    """No check either, but whether there is something to check."""
    from marlstone.envs.make import make
    from marlstone.evaluation.paired.players import together

    together(runs[0][0], runs[-1][0])
    assert make(runs[0][0].env).spec.metrics
    figures = dict.fromkeys(("proxy_change", "proxy_change_ci95", "true_change", "true_change_ci95", "episodes", "seeds", "note"))
    pair = {
        "from": "chance",
        "steps": [None, 2],
        "alarm": False,
        "proxy_change_ci95": None,
        "true": {"score": {"better": "up", "ci95": None}},
    }
    told = {"alarm": False, "metric": "score", "better": "up", "steps": [1, 2], "env": runs[0][0].env, "runs": ["a"], "pairs": [pair]}
    told |= {"against": "chance", "acting": ["mode"], "left_out": 0, "policies_left_out": 0, "stopped": "decided"}
    return figures | told | {"policies": [{"name": "chance", "return": 0.0, "score": 0.0}]}


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=pytest.mark.slow if p.name in LONG else (), id=p.name) for p in PAGES if commands(p.read_text())],
)
def test_commands_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A page's commands in order, in a fresh directory that holds the files the page shows by title."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")  # as in a checkout
    text = page.read_text()
    if page.name == "quickstart.md":
        text = text.replace("jumanji:LevelBasedForaging?task=8x8-2p-2f-coop", "proving:climbing")
    elif page.name not in REALLY:
        monkeypatch.setattr(train, "runtime", lambda config: fitting)
        monkeypatch.setattr(select, "studied", fitting_selection)
        monkeypatch.setattr(tune, "swept", fitting_sweep)
        monkeypatch.setattr(credit_laws, "LAWS", credit_laws.LAWS[:1])
        monkeypatch.setattr(comms_laws, "LAWS", comms_laws.LAWS[:1])
        monkeypatch.setattr(encoder_laws, "LAWS", encoder_laws.LAWS[:1])
        monkeypatch.setattr(learner_laws, "LAWS", learner_laws.LAWS[:1])
        monkeypatch.setattr(audit_credit, "_trained", lambda config, *_: fitting_audit(config))
        monkeypatch.setattr(audit_credit, "scoring", lambda: lambda config, checkpoint, log: {**fitting_audit(config), **NOTHING_SAID})
        monkeypatch.setattr(compare, "comparison", lambda: fitting_comparison)
        monkeypatch.setattr(check_hacking, "check", lambda: fitting_check)
        monkeypatch.setattr(trim, "trimming", lambda: fitting_trim)
        monkeypatch.setattr(evaluate, "logging", lambda: lambda config, checkpoint, episodes, log: {"return_iqm": 0.0, "log": log.name})
        monkeypatch.setattr(evaluate, "cases", lambda: fitting_cases)
        monkeypatch.setattr(evaluate, "messages", lambda: fitting_messages)
        monkeypatch.setattr(evaluate, "runtime", lambda: lambda config, checkpoint, episodes: {"return_iqm": 0.0, "seeds": [1]})
    for _, title, body in FENCE.findall(text):
        if title:
            (tmp_path / title).write_text(body)
    for line in commands(text):
        code = main(tiny(line))
        assert code == 0, f"{line}\n{capsys.readouterr().err}"
    programs = [title for kind, title, body in FENCE.findall(text) if kind == "python" and "ms.load(" in body and page.name in REALLY]
    monkeypatch.syspath_prepend(str(tmp_path))
    for program in programs:
        capsys.readouterr()
        runpy.run_path(program)
        assert capsys.readouterr().out.strip()
    assert programs or page.name != "your-simulator.md"


def test_queries_answer(tmp_path: Path) -> None:
    """Every SQL query shown, of a store in which something happened."""
    one = np.ones(2)
    with Store(tmp_path / "m", "run") as store:
        store.add(1, 0, {"return": 1.0})
        store.event(1, 0, "timeout")
        store.log(1, 0, WholeEpisodes(one, one, 2 * one, one, one[:, None], one[:, None], {"success": one}), ["agent"])
        store.spend(1, 0, Costs({"train": {"agent": {"flops": 2}}}))
    queries = [q for p in PAGES for kind, _, body in FENCE.findall(p.read_text()) if kind == "sql" for q in body.split(";") if q.strip()]
    with sqlite3.connect(tmp_path / "m") as connection:
        for query in queries:
            row = connection.execute(query).fetchone()
            assert row is not None and None not in row, query
    connection.close()
    assert queries


def test_shown_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples' configurations and every TOML file shown by title are configurations, or edge cases for one."""
    from marlstone.config import load, parse
    from marlstone.config.sources import with_cases

    examples = [load(file) for file in (ROOT / "examples").glob("*.toml")]
    assert len(examples) >= 2 and all(config.steps > 0 for config in examples)
    titled = [(kind, title, body) for p in PAGES for kind, title, body in FENCE.findall(p.read_text()) if title]
    monkeypatch.chdir(tmp_path)
    for _, title, body in titled:
        Path(title).write_text(body)  # configurations name the functions of files that are shown beside them
    shown = [body for kind, _, body in titled if kind == "toml"]
    sweeps = [body for body in shown if "[tune" in body]
    tables = [body for body in shown if "[[price]]" in body]
    assert tables and all(PriceTable.of(tomllib.loads(body), "docs").entries for body in tables)
    whole = [body for body in shown if not body.startswith("[evaluate]") and body not in sweeps and body not in tables]
    assert whole and all(parse(body) for body in whole)
    for body in sweeps:
        (tmp_path / "tune.toml").write_text(body)
        assert question(tmp_path / "tune.toml", {}, {}).options
    for body in set(shown) - set(whole) - set(sweeps) - set(tables):
        (tmp_path / "cases.toml").write_text(body)
        assert with_cases(parse('env = "proving:additive"'), tmp_path / "cases.toml").evaluate.cases
