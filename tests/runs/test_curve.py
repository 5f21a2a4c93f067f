"""The learning curve is drawn for any number of seeds, ragged and with gaps, and only when there is something to draw."""

from pathlib import Path

import numpy as np
import pytest

from marlstone.runs.curve import draw, on_grid
from marlstone.runs.store import Series


def series(seed: int, points: int = 40) -> Series:
    steps = np.arange(1, points + 1) * 1000
    return Series(seed, steps, np.tanh(steps / 2e4) + 0.1 * np.random.default_rng(seed).normal(size=points))


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_draws(tmp_path: Path, seeds: int) -> None:
    path = draw(tmp_path / "curve.png", [series(i, 40 + i) for i in range(seeds)], "climbing")
    assert path is not None and path.read_bytes()[:4] == b"\x89PNG"
    assert [p.name for p in tmp_path.iterdir()] == ["curve.png"]


def test_nothing_to_draw(tmp_path: Path) -> None:
    assert draw(tmp_path / "curve.png", [], "x") is None
    assert draw(tmp_path / "curve.png", [Series(0, np.array([1]), np.array([np.nan]))], "x") is None
    assert not list(tmp_path.iterdir())


def test_grid_averages_bins_and_carries_gaps() -> None:
    a = Series(0, np.array([10, 20, 30, 40]), np.array([1.0, 3.0, np.nan, 5.0]))
    b = Series(1, np.array([20, 40]), np.array([0.0, 1.0]))
    steps, returns = on_grid([a, b], points=2)
    assert steps.tolist() == [20, 40] and returns.tolist() == [[2.0, 5.0], [0.0, 1.0]]
    steps, returns = on_grid([a, b], points=4)
    assert returns[0].tolist() == [1.0, 3.0, 3.0, 5.0] and np.isnan(returns[1, 0])
