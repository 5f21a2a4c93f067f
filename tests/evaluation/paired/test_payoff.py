"""Who beats whom: known policies of a known game, and what cannot be played says why."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marlstone.architectures import Decentralized, Mlp
from marlstone.cli import main
from marlstone.cli.payoff import show
from marlstone.core.errors import UserError
from marlstone.envs.make import make
from marlstone.evaluation.paired.payoff import _mean, payoff
from marlstone.rollout.sides import Sides
from tests.rollout.test_opponents import artifact

pytestmark = pytest.mark.usefixtures("compiled_once")
RPS = "proving:rps?rows=2"
PENNIES = f"{Path(__file__).parents[2] / 'training' / 'pennies.py'}:make"


def pure(env: str, folder: Path, side: str, action: int, k: int) -> str:
    """A policy that always plays one action."""
    other = "blue" if side == "red" else "red"
    made = Sides("", {other: "random"}).over(make(env))
    return str(artifact(made, folder, Decentralized(Mlp((4,))), [[30.0 * (i == action) for i in range(k)]]))


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory, compiled_once: None) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("pure")
    return payoff([*(pure(RPS, home / name, "red", i, 3) for i, name in enumerate(("rock", "paper", "scissors"))), "random"], RPS, 8)


def test_the_matrix_is_the_games(record: dict[str, Any]) -> None:
    """Rows play red, columns blue, though all were trained as red; each side's return is its own."""
    means = np.array([[cell["team"]["mean"] for cell in row] for row in record["cells"]])
    np.testing.assert_allclose(means[:3, :3], [[0, -1, 2], [1, 0, -1], [-2, 1, 0]], atol=1e-6)
    assert record["cells"][0][2]["team"]["ci95"] == [2.0, 2.0]
    theirs = np.array([[cell["opponents"]["mean"] for cell in row] for row in record["cells"]])
    np.testing.assert_allclose(theirs, -means, atol=1e-6)
    low, high = record["cells"][0][3]["team"]["ci95"]
    assert low < means[0, 3] < high  # chance varies


def test_equal_opponents_meet_equal_episodes(record: dict[str, Any]) -> None:
    """Random play is drawn from the same keys in every cell, so that rows differ by the rows' policies alone: rock earns 0, -1 or 2 where
    paper earns 1, 0 or -1."""
    rock, paper, scissors = (record["cells"][i][3]["team"]["mean"] for i in range(3))
    shares = np.linalg.solve([[0, -1, 2], [1, 0, -1], [1, 1, 1]], [rock, paper, 1])
    assert (shares >= -1e-6).all()
    assert scissors == pytest.approx(-2 * shares[0] + shares[1], abs=1e-5)


def test_python_steps_it_too_and_unlike_policies_are_left_out(tmp_path: Path) -> None:
    heads = pure(PENNIES, tmp_path / "heads", "red", 0, 2)
    rock = pure(RPS, tmp_path / "rock", "red", 0, 3)
    found = payoff([heads, rock], PENNIES, 4, team="red")
    assert found["cells"][0][0]["team"]["mean"] == 5
    assert found["cells"][0][1] is found["cells"][1][0] is None
    assert "agent 'red_0': it observes" in found["cannot"][f"{rock} as team"]


def test_the_table_fits_80_columns(record: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    show({**record, "runs": ["runs/rock", "runs/paper", "runs/scissors", "random"]})
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("[2, 2]" in line for line in lines)


def test_refusals(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="one team only, player_0, player_1: say who the rows play"):
        payoff(["random"], "proving:climbing", 2)
    assert main(["payoff", "random", "random"]) == 2
    assert "whose environment would be known: name one by --env" in capsys.readouterr().err


def test_the_interval_is_over_episodes() -> None:
    """Student's, of episodes averaged over seeds; those that did not end are left out."""
    x = np.array([[1.0, 2.0, np.nan, 6.0], [3.0, 2.0, np.nan, np.nan]])
    told = _mean(x)
    assert (told["mean"], told["episodes"]) == (pytest.approx(10 / 3), 3)
    half = 4.302653 * np.std([2, 2, 6], ddof=1) / np.sqrt(3)
    assert told["ci95"][1] - told["mean"] == pytest.approx(half, rel=1e-5)
