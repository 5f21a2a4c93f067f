"""Figures as people read them."""

import pytest

from marlstone.api.display import duration, words
from marlstone.cli.report import between, number, returns, scored
from marlstone.runs.progress import Progress


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (float("nan"), "-"),
        (43270.4, "43,270"),
        (0.98765, "0.9877"),
        (20480, "20,480"),
        (-61.43, "-61.43"),
        (1e-5, "1e-05"),
        ("x", "x"),
    ],
)
def test_number(value: object, shown: str) -> None:
    assert number(value) == shown


def test_between() -> None:
    assert between([0.5, 1.0]) == "0.5 to 1" and between([None, None]) == between(None) == "-"


def test_returns_name_true_metrics() -> None:
    rows = dict(returns({"seeds": [1, 2], "return_iqm": 1.0, "true_metrics": {"waiting": 0.9}}))
    assert rows["return, IQM of 2 seeds"] == "1" and rows["waiting (true metric)"] == "0.9"


def test_progress_words() -> None:
    assert words(Progress("compiling", 0, 10)) == "compiling"
    assert (
        words(Progress("training", 1000, 5000, 2, 100.0, -3.14159)) == "step 1,000 of 5,000 x 2 seeds, 100 steps/s, return -3.14, ETA 1:20"
    )
    assert duration(4000) == "1:06:40"


def test_what_is_said_of_a_log_has_no_truth_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    agents = {"left": 1.25, "right": None}
    each = ("contributions", "own_returns", "return_correlation", "success_correlation")
    record = dict.fromkeys(("env", "architecture", "credit", "learner", "log", "run"), "-") | dict.fromkeys(each, agents)
    record |= {"claims": "shares", "seeds": [1, 2], "episodes": [3, 4], "efficiency_error": 0.125, "success": 0.5, "team_return": 2.0}
    record |= {
        "success_ci95": [0.25, 0.75],
        "team_return_ci95": [None, None],
        "contributions_ci95": {"left": [1, 2], "right": [None, None]},
    }
    scored(record)
    out = capsys.readouterr().out
    assert all(x in out for x in ("a log cannot be stepped again", "12.50%", "0.5 [0.25 to 0.75]", "3, 4", "1.25", "1 to 2", "2 seeds"))
