"""Figures as people read them."""

import pytest

from marlstone.cli.display import duration, words
from marlstone.cli.report import between, number, returns
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
