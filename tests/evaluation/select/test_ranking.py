"""Who is recommended, and what is said of the doubt."""

import numpy as np
import pytest

from marlstone.evaluation.select.ranking import Returns, compared, level, recommend, standings, verdict
from marlstone.evaluation.select.rating import Rated, alike

NAMES = ("good", "twin", "poor")


def returns(center: float, spread: float = 0.02, seeds: int = 5, at: int = 0) -> Returns:
    draw = np.random.default_rng(at)
    return [(center + spread * draw.standard_normal() + 0.1 * draw.standard_normal(16)).tolist() for _ in range(seeds)]


@pytest.fixture
def ranked() -> list:
    final = {"good": returns(1.0, at=1), "twin": returns(0.99, at=2), "poor": returns(0.5, at=3), "lost": returns(0.1, at=4)}
    whole = dict.fromkeys(final, True) | {"lost": False}
    quarter = {"good": returns(0.2, at=5), "twin": returns(0.6, at=6), "poor": returns(0.4, at=7), "lost": returns(0.1, at=8)}
    return standings(final, whole, quarter)


def test_ranks_are_of_the_whole_budget_and_of_a_quarter(ranked: list) -> None:
    assert [s.name for s in ranked][2:] == ["poor", "lost"]
    assert {s.name: s.quarter for s in ranked} == {"twin": 1, "poor": 2, "good": 3, "lost": 4}
    assert [s.rank for s in ranked] == [1, 2, 3, None]
    assert all(s.worst <= s.iqm for s in ranked)


def test_of_those_not_separable_the_most_stable_then_the_cheapest_is_taken(ranked: list) -> None:
    alike = dict.fromkeys(NAMES, "High")
    cheap = {"good": 3.0, "twin": 1.0, "poor": 0.1, "lost": 0.1}
    assert recommend(ranked, alike, cheap).name == "twin"  # never the poor one, however cheap
    assert recommend(ranked, alike | {"twin": "Low"}, cheap).name == "good"
    assert recommend(ranked, alike | {"good": "Moderate"}, cheap | {"good": 0.0}).name == "twin"
    assert recommend(ranked, alike | {"twin": "Low"}, cheap, alike).name == "twin"  # the choice is by what was measured of both


def test_no_candidate_is_taken_that_another_is_significantly_better_than() -> None:
    """A wide interval is level with two that differ from each other."""
    flat = lambda x: [[x + d] * 4 for d in (-0.002, -0.001, 0.0, 0.001, 0.002)]
    final = {"wide": [[0.4], [0.6], [0.8], [1.0], [1.0]], "better": flat(0.79), "worse": flat(0.7)}
    rows = standings(final, dict.fromkeys(final, True), {})
    pairs = compared(rows)
    assert [s.name for s in rows] == ["wide", "better", "worse"]
    assert not pairs.significant("wide", "better") and not pairs.significant("wide", "worse")
    assert pairs.significant("better", "worse") and pairs.significant("worse", "better")
    assert [s.name for s in level(rows)] == ["wide", "better"]
    found = recommend(rows, {"wide": "Low", "better": "High", "worse": "High"}, {"wide": 1.0, "better": 1.0, "worse": 0.5})
    assert found.name == "better" and "significantly better than worse" in found.evidence
    assert "rated High, and preferred to wide (Low), whose return 0.8 is not significantly different" in found.evidence


def test_who_was_not_stressed_is_no_more_stable_for_it() -> None:
    axis = lambda rating: {"value": 0.0, "ci95": [0.0, 0.0], "rating": rating, "note": ""}
    both = {
        "a": Rated("Low", {"drawdown": axis("High"), "edge_cases": axis("Low")}),
        "b": Rated("Moderate", {"drawdown": axis("Moderate")}),
    }
    assert alike(both) == {"a": "High", "b": "Moderate"}
    assert alike({"a": both["a"]}) == {"a": "Low"} and alike({"a": Rated("unrated"), "b": both["b"]}) == dict.fromkeys("ab", "unrated")


def test_words_give_the_evidence_and_the_doubt(ranked: list) -> None:
    found = recommend(ranked, dict.fromkeys(NAMES, "High"), {"good": 1.0, "twin": 2.0, "poor": 3.0, "lost": 1.0})
    assert found.name == "good" and found.inseparable_from == ("twin",)
    assert "significantly better than poor" in found.evidence and "cheaper to train than twin" in found.evidence
    assert "No significant difference from it at this budget: twin (" in found.doubt and "lost stopped early" in found.doubt
    assert verdict(ranked[-1], found, 250).startswith("stopped at step 250")
    assert {s.name: verdict(s, found, None) for s in ranked[:3]} == {
        "good": "recommended", "twin": "no significant difference", "poor": "worse",
    }  # fmt: skip
    assert not any(word in found.evidence + found.doubt for word in ("surely", "nobody", "Nobody"))


def test_how_many_more_seeds_is_reported_as_what_it_means() -> None:
    draw = np.random.default_rng(3)
    base = draw.normal(1, 0.02, (5, 16))
    each = lambda gap: {"a": base.tolist(), "b": (base[::-1] - gap).tolist()}
    doubt = lambda gap: recommend(standings(each(gap), {"a": True, "b": True}, {}), {}, {"a": 0.0, "b": 1.0}).doubt
    assert "more seeds would show one" in doubt(0.008)
    assert "not distinguishable in practice: about" in doubt(0.002)
    assert "not expected to help" in doubt(0.0)
    assert "All others that ran to the end are significantly worse" in doubt(0.5)


def test_with_one_seed_no_difference_is_significant() -> None:
    alone = standings({"a": returns(1.0, seeds=1), "b": returns(0.0, seeds=1)}, {"a": True, "b": True}, {})
    found = recommend(alone, {}, {"a": 1.0, "b": 0.5})
    assert found.name == "a" and found.inseparable_from == ("b",)
    assert "With one seed no difference can be significant" in found.doubt


def test_a_known_bound_cuts_a_candidates_interval() -> None:
    final = {"a": [[1.0], [1.0], [0.6], [1.0], [0.2]]}
    loose, tight = (standings(final, {"a": True}, {}, bounds=b)[0] for b in (None, (0.0, 1.0)))
    assert loose.ci95[1] > 1 and tight.ci95 == (max(loose.ci95[0], 0.0), 1.0)
