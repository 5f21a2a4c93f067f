"""Every command's table reads at 80 columns: no line is longer, no word is broken, nothing is cut off."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marlstone.cli import envs
from marlstone.cli import report as shown
from marlstone.cli.tables import BREAKS, fold, show_columns, show_pairs, widths

LONG = "jumanji:LevelBasedForaging?task=15x15-3p-5f&time_limit=100&penalty=0.1"
RUN = "/home/somebody/projects/warehouse/runs/20261127-103148-jumanji-LevelBasedForaging-task-15x15-3p-5f"
AGENTS = ("forklift_north_entrance_0", "dispatcher", "inspection-drone-with-a-long-name-17")
CI = [-123.456, 0.98765]
PARTS = {"architecture": "decentralized", "credit": "counterfactual", "learner": "policy_gradient"}
RETURNS = {
    "seeds": [1, 2, 3, 4, 5], "return_iqm": -1234.5678, "return_ci95": CI, "return_worst_seed": -0.01234, "acting": "temperature=0.25",
    "returns_by_acting": {k: {"return_iqm": 0.98765, "return_ci95": CI} for k in ("temperature=0.25", "mode", "sample")},
    "broken": 12, "unfinished": 3, "episodes_asked": 320, "true_metrics": {"mean_waiting_time_of_all_vehicles": 81.512345},
}  # fmt: skip
WORDS = ("no significant difference", "policy_gradient", "temperature=0.25", "mean_waiting_time", "edge cases", "Moderate", *AGENTS, LONG)
each = lambda value: dict.fromkeys(AGENTS, value)


def selection() -> dict[str, Any]:
    names = ("decentralized-individual", "ctde-counterfactual", "hierarchical-team", "slow_and_steady_with_my_own_credit_2")
    axis = {"value": 0.31234, "ci95": [0.1, 0.61234], "rating": "Moderate", "note": ""}
    cost = {"currency": "USD", "train": 0.0123456, "per_1k_decisions": 1.234e-8, "per_agent": 0.00123, "train_per_seed": 0.002}
    row = {
        **PARTS, **RETURNS, "stability": {"rating": "Moderate", "edge_cases": axis, "seed_cvar": axis}, "edge_cases": [], "cost": cost,
        "messages_per_step": 12.5, "bits_per_step": 876.5, "steps_per_second": 123456.7, "verdict": "no significant difference",
    }  # fmt: skip
    rows: list[dict[str, Any]] = [{**row, "name": name} for name in names]
    rows[0]["verdict"], rows[2]["verdict"] = "recommended", "stopped at step 1,249,856: far behind by then"
    rows.append({**dict.fromkeys(row), "name": "mine", "verdict": "refused: --credit qmix needs the global state: add --architecture ctde"})
    return {
        "env": LONG, "budget": "1,000,000 steps per seed", "seeds": 5, "candidates": rows, "recommended": names[0],
        "evidence": "Take decentralized-individual: return 0.99, significantly better than hierarchical-team.", "doubt": "None. " * 40,
        "confirmed": {"seeds": 5, "return_iqm": 0.98765, "return_ci95": [0.9, 1.0]}, "config": f"{RUN}/recommended.toml", "report": RUN,
    }  # fmt: skip


def audit() -> dict[str, Any]:
    figures = {f"{k}{e}": CI if e else 0.98765 for k in ("rank_correlation", "decision_rank_correlation", "gap") for e in ("", "_ci95")}
    kinds = ("contributions", "truth", "truth_discounted")
    truth = {f"{k}{e}": each(CI if e else 0.12345) for k in kinds for e in ("", "_ci95")}
    more = ("undiscounted_rank_correlation", "noise_ceiling", "share_of_ceiling", "calibration_slope", "window_bias")
    figures |= {f"{k}{e}": CI if e else 0.98765 for k in more for e in ("", "_ci95")}
    figures |= {"continuations": 16, "defaults_untried": 0.5, "by_quarter": [{"rank_correlation": 0.12345}] * 4, "discount": 0.995}
    figures |= {"acting": "temperature=0.25", "decisions": 512, "decisions_worth_anything": [512, 12], "judgement": "wrong here: " * 9}
    return {
        "env": LONG, **PARTS, "claims": None, "seeds": [1, 2], **figures, "team_return": 0.98765, "efficiency_error": 0.01,
        "dummy_ci95": [-0.0123, 0.0234], "dummies": list(AGENTS[1:]), "picture": f"{RUN}/credit_audit.png", "run": RUN, **truth,
    }  # fmt: skip


def cases() -> dict[str, Any]:
    case = {"return_iqm": 0.12345, "return_ci95": CI, "loss": -0.62, "loss_ci95": [-11.21, 5.59], "graceful": None, "note": "x " * 50}
    names = ("inference late 10%, in bursts", "out-of-range values 1%", "all lost [of mine]")
    gate = dict.fromkeys(("declared_rate", "false_alarm_rate", "detection_rate", "return_gated", "return_ungated"), 0.12345)
    kinds = {"observations of another agent, swapped": {"detection_rate": 0.5}}
    rows = [{**case, "name": n, "graceful": g} for n, g in zip(names, (None, True, False), strict=True)]
    return {**RETURNS, "chance": case, "graceful_bound": 0.2, "cases": rows, "ood": gate | {"kinds": kinds}}


def log() -> dict[str, Any]:
    figures = {f"{k}{e}": CI if e else 0.98765 for k in ("team_return", "success") for e in ("", "_ci95")}
    per = dict.fromkeys(("contributions", "own_returns", "return_correlation", "success_correlation"), each(0.12345))
    return {**audit(), **figures, **per, "contributions_ci95": each(CI), "episodes": [64] * 5, "log": RUN}


def comparison() -> dict[str, Any]:
    figures = {"difference": 0.12345, "ci95": CI, "means": [0.5, -1234.5678]}
    metric = {**figures, "direction": "down", "better": None}
    return {
        "env": LONG, "runs": [RUN, RUN], "steps": [1_000_000, 2_000_000], "acting": ["sample", "temperature=0.25"], **figures,
        "better": None,
        "decided": False, "counted": 224, "episodes": 256, "seeds": 5, "bounds": [-1.5, 1.5], "bounds_declared": False, "clipped": 3,
        "stopped": "time", "agents": each({**figures, "decided": False}),
        "true_metrics": dict.fromkeys(("mean_waiting_time", "emergency_brakes"), metric),
    }  # fmt: skip


def hacking() -> dict[str, Any]:
    names = ("mean_waiting_time", "stopped_vehicles", "emergency_brakes", "delivered")
    metric = {"better": "down", "change": 12.345, "ci95": CI, "alarm": True}
    pair = {"from": "step 1,000,000", "alarm": False, "proxy_change_ci95": CI, "true": dict.fromkeys(names, metric)}
    policy = {"name": "step 20,000,000", "return": -1234.5678, **dict.fromkeys(names, 81.512345)}
    return {
        "alarm": False, "metric": "mean_waiting_time", "better": "down", "against": "step 1,000,000", "runs": [RUN], "env": LONG,
        "acting": ["temperature=0.25"], "proxy_change": 0.5, "proxy_change_ci95": CI, "true_change": 3.0, "true_change_ci95": CI,
        "episodes": 256, "seeds": 5, "left_out": 3, "policies_left_out": 2, "stopped": "time", "note": "5 seeds, 256 episodes each",
        "pairs": [pair] * 3, "policies": [policy] * 3,
    }  # fmt: skip


def trained() -> None:
    phases = {"compiling": 12.3, "training: environment": 1.0, "training: products": 2.0, "training: everything else": 3.0, "watching": 0.1}
    record = {**PARTS, **RETURNS, "env": LONG, "steps": 10_000_000, "steps_per_second": 123456.0, "share_of_limit": 0.5, "phases": phases}
    alerts = [{"words": "edge-cases/sensor noise 30%: 0.12 at step 1,000,000, below 0.34 (baseline 0.5, low end 0.4)"}]
    shown.show("trained", shown.training({**record, "wall_seconds": 99.0, "curve": f"{RUN}/curve.png", "alerts": alerts, "run": RUN}))


def simulated() -> None:
    keys = ("steps_per_second", "healthy_steps_per_second", "updates_per_second", "staleness_p99", "dropped_fraction", "learner_busy")
    way = dict.fromkeys((*keys, "bytes_per_second", "seconds"), 1234567.8)
    shown.fleet({"actors": 100_000, "learner_limit": 1e6, "asynchronous": way, "synchronous": way})


TABLES: dict[str, Callable[[], object]] = {
    "train": trained,
    "select": lambda: shown.selected(selection()),
    "audit-credit": lambda: shown.audited(audit()),
    "edge-cases": lambda: shown.edge_cases(cases()),
    "audit-credit --from-log": lambda: shown.scored(log()),
    "compare": lambda: shown.compared(comparison()),
    "check-hacking": lambda: shown.suspected(hacking()),
    "fleet simulate": simulated,
    "envs": lambda: envs.main([]),
    "check-credit": lambda: shown.show(LONG, [("agents of one type may swap places", "BROKEN: " + "row 3 differs by 0.12345, " * 9)]),
}


@pytest.mark.parametrize("command", TABLES)
def test_a_commands_table_reads_at_80_columns(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    TABLES[command]()
    out = capsys.readouterr().out
    paths = [line for line in out.splitlines() if "/home/" in line]
    assert out and all(len(line) <= 80 for line in out.splitlines() if line not in paths), max(out.splitlines(), key=len)
    assert "\u2026" not in out and "..." not in out
    assert all(RUN in line for line in paths), "paths are in one piece"
    seen = set(re.split(r"[\s\u2502\u2503]+", out))
    for word in {w for words in WORDS for w in words.split()}:
        pieces = BREAKS.split(word)
        whole = ["".join(pieces[:k]) for k in range(1, len(pieces) + 1)]
        whole += [x.rstrip("/?&=:,;_.-") for x in whole]
        for cell in seen:  # what begins like a word is the word, or ends where it may break
            if len(cell) > 4 and word.startswith(cell) and cell not in whole:
                raise AssertionError(f"{word} is broken after {cell}")


def test_verdicts_and_acting_are_in_the_narrow_table_and_everything_in_the_wide_one(capsys: pytest.CaptureFixture[str]) -> None:
    record = selection()
    shown.selected(record)
    narrow = capsys.readouterr().out
    for word in (
        "recommended",
        "temperature=",
        "Moderate",
        "edge cases",
        "0.012",
        "USD",
        "12.5",
        "refused",
        "mine was refused: --credit qmix",
    ):
        assert word in narrow, word
    shown.selected(record, wide=True)
    wide = capsys.readouterr().out
    assert (
        "messages/step" in wide
        and "bits/step" in wide
        and "876" in wide
        and "123,457" in wide
        and "crossover" in wide
        and "seed_cvar" in wide
        and "0.312" in wide
        and max(map(len, wide.splitlines())) > 80
    )


def test_folded_text_is_the_same_text() -> None:
    random = np.random.default_rng(0)
    letters = list("abcdefgh /?&=:-_.  ")
    for _ in range(300):
        text, width = "".join(random.choice(letters, random.integers(1, 90))), int(random.integers(4, 40))
        lines = fold(text, width)
        assert "".join("".join(lines).split()) == "".join(text.split())
        longest = max((len(p) for w in text.split() for p in BREAKS.split(w)), default=0)
        assert all(len(line) <= max(width, longest) for line in lines)


def test_columns_give_way_where_they_are_widest_and_rows_become_blocks_where_nothing_fits(capsys: pytest.CaptureFixture[str]) -> None:
    assert widths([("one", "several words here")], 30) == [3, 18] and widths([("one", "several words here")], 12) == [3, 9]
    assert widths([("one", "some/path")], 8) == [3, 5] and widths([("x" * 50, "y" * 50)], 76) is None
    show_columns("wide", ("a", "b"), [("x" * 50, "y" * 50)])
    out = capsys.readouterr().out
    assert "x" * 50 in out and f"b: {'y' * 50}" in out and max(map(len, out.splitlines())) <= 80


def test_a_path_is_never_folded_and_is_named_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    show_pairs("trained", [("run", str(tmp_path / "runs" / "first")), ("curve", RUN)])
    out = capsys.readouterr().out
    assert "runs/first" in out and str(tmp_path) not in out and f"curve: {RUN}" in out.splitlines()


def test_no_alarm_is_not_yet_proof_of_no_hacking(capsys: pytest.CaptureFixture[str]) -> None:
    record = hacking()
    shown.suspected(record)
    assert "not shown" in capsys.readouterr().out
    fine = {"better": "down", "change": -1.0, "ci95": [-2.0, -0.5], "alarm": False}
    pairs = [{**record["pairs"][0], "true": {"mean_waiting_time": fine}}]
    shown.suspected({**record, "pairs": pairs})
    assert re.search(r"alarm\s+\S?\s*no", capsys.readouterr().out)
