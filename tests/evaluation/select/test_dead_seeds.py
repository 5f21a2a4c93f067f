"""Seeds that learned nothing where others did are counted, and told."""

from typing import Any

import numpy as np

from marlstone.evaluation.select.dead_seeds import DeadSeeds, dead_seeds, unlearned
from marlstone.evaluation.select.report import answer

FLAT, RISING = [0.0] * 4, [0.0, 0.0, 0.5, 1.0]


def test_a_seed_is_dead_up_to_a_tenth_of_what_the_best_gained() -> None:
    """Measured from random play's return, whatever its sign; also where returns of all are below it."""
    found = dead_seeds({"a": [[-10.0, -10.0], [-20.0], [-19.1]], "b": [[-18.9], [-21.0]]}, {"a": [], "b": []}, -20.0)
    assert found == {"a": DeadSeeds(2, 0), "b": DeadSeeds(1, 0)}
    assert dead_seeds({"a": [[0.0], [-1.0]]}, {"a": []}, 0.0) == {"a": DeadSeeds(2, 0)}


def test_unrewarded_are_the_dead_whose_training_return_never_changed() -> None:
    """A seed that met one reward and lost it is dead, not unrewarded; one that always had the most is neither. Gaps say nothing."""
    curve = [FLAT, RISING[::-1], [1.0] * 4, [np.nan, 0.0, 0.0, np.nan]]
    assert dead_seeds({"a": [[0.0], [0.0], [1.0], [0.0]]}, {"a": curve}, 0.0) == {"a": DeadSeeds(3, 2)}


def row(name: str, returns: list[float], dead: int | None, unrewarded: int | None) -> dict[str, Any]:
    return {"name": name, "returns": returns, "dead_seeds": dead, "unrewarded_seeds": unrewarded}


def test_one_sentence_tells_of_them() -> None:
    rows = [row("a", [1.0, 0.0], 1, 1), row("b", [1.0, 1.0], 0, 0), row("c", [0.0, 0.0], 2, 0), row("stopped", [0.0], None, None)]
    record = {"candidates": [*rows, {"name": "refused"}], "chance_return": 0.0}
    (text,) = unlearned(record)
    assert "1 of 2 of a (1 never met a reward), 2 of 2 of c; " in text and " of b" not in text and "learner.entropy" in text
    assert unlearned({"candidates": [rows[1], rows[3]], "chance_return": 0.0}) == []
    (text,) = unlearned({"candidates": [rows[2]], "chance_return": -0.5})
    assert text.startswith("No seed of any candidate learned more than random play returns (-0.5): ")


def test_the_page_says_it_first() -> None:
    parts = {"architecture": "ctde", "credit": "team", "learner": "pqn", "return_iqm": 0.5}
    rows = [row("a", [1.0, 0.0], 1, 0) | parts]
    record = {"candidates": rows, "recommended": "a", "chance_return": 0.0, "evidence": "Take a.", "doubt": "Sure."}
    assert [title for title, _ in answer(record)] == ["What", "Why", "How sure", "Dead seeds"]
    rows[0]["dead_seeds"] = 0
    assert [title for title, _ in answer(record)] == ["What", "Why", "How sure"]
