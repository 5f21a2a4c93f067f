"""The laws that ship: every credit method keeps them, the newcomer's too; and each law catches the method that breaks it."""

import functools
import json
from pathlib import Path

import pytest

from marlstone.cli import main
from marlstone.config import kinds
from marlstone.credit import Credit
from marlstone.evaluation.credit import laws as credit_laws
from marlstone.evaluation.credit.law_cases import Specimen, specimen
from marlstone.evaluation.credit.laws import LAWS
from marlstone.evaluation.laws import judged, title

ROOT = Path(__file__).parents[2]
NEWCOMER, BROKEN = f"{ROOT}/examples/my_credit.py:MyCredit", f"{Path(__file__).parent}/broken.py"
SMALL = {"architecture.body.hidden": "[4]", "env": "proving:additive?rows=3"}  # compiles in half of the usual game's time
USUAL = {k: v for k, v in SMALL.items() if k != "env"}  # groups of every kind, for methods that look at observations and actions
FREE = "its parameters know agents apart"
MAY_SKIP = {
    "agents of one type may swap places": {"qmix": FREE, "qplex": FREE},
    "every parameter learns": dict.fromkeys(
        ("individual", "team", "counterfactual", "difference", "measured", "vdn"), "it has no parameters"
    ),
}
CAUGHT = dict(zip(
    LAWS,
    ("OnePayForAll", "Whim", "FirstComeFirstServed", "Idle", "Generous", "Haunted", "SeedPlacement", "Proud", "Dice", "Growing", "Diary"),
    strict=True,
))  # fmt: skip

small = functools.cache(lambda kind: specimen(kind, USUAL if kind in ("attention", NEWCOMER) else SMALL))


@pytest.fixture(scope="module", params=[*kinds.names(Credit), NEWCOMER], ids=[*kinds.names(Credit), "my_credit.py"])
def method(request: pytest.FixtureRequest) -> tuple[str, Specimen]:
    return request.param, small(request.param)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_every_method_keeps_every_law(method: tuple[str, Specimen], law: object) -> None:
    """A law is skipped only where its reason is known."""
    kind, subject = method
    verdict = judged(law, subject)  # type: ignore[arg-type]
    if verdict.held is None and verdict.law == "shares add up to the return":
        assert subject.credit.claims == "worth"
    elif verdict.held is None:
        assert verdict.says.startswith(MAY_SKIP.get(verdict.law, {}).get(kind, "nothing may be skipped here")), verdict
    else:
        assert verdict.held, verdict


@pytest.mark.parametrize(("law", "name"), CAUGHT.items(), ids=CAUGHT.values())
def test_a_law_catches_who_breaks_it(law: object, name: str) -> None:
    verdict = judged(law, small(f"{BROKEN}:{name}"))  # type: ignore[arg-type]
    assert verdict.held is False and len(verdict.says) > 20, verdict


def test_the_command_says_what_holds(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """0 where all laws hold, 3 where one is broken, 2 for a mistake; the cheap laws alone, the others are run above."""
    monkeypatch.setattr("marlstone.rollout.placement.prepare", lambda: None)
    cheap = (LAWS[0], credit_laws.agents_of_one_type_may_swap_places, credit_laws.shares_add_up_to_the_return)
    monkeypatch.setattr(credit_laws, "LAWS", cheap)
    assert main(["check-credit", f"{BROKEN}:FirstComeFirstServed", "--json"]) == 3
    record = json.loads(capsys.readouterr().out)
    assert record["broken"] == [title(cheap[1])] and [x["held"] for x in record["laws"]] == [True, False, None]
    assert (record["env"], record["architecture"], record["learner"]) == ("proving:pair", "ctde", "policy_gradient")
    assert main(["check-credit", f"{BROKEN}:OnePayForAll"]) == 3
    shown = " ".join(capsys.readouterr().out.replace("\u2502", " ").split())
    assert "BROKEN: discount has shape [14] where [14, 4] is asked" in shown and shown.count("it cannot be asked") == 2
    assert main(["check-credit", "individual", "--architecture", "decentralized", "--set", "learner.lr=1e-3"]) == 0
    assert "skipped: it claims no shares" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["atention"], "did you mean 'attention'"),
        (["qplex", "--env", "proving:pair"], "choose another"),
        (["counterfactual", "--architecture", "decentralized"], "add --architecture ctde"),
        (["team", "--architecture", "hierarchical"], "leave out --architecture"),
        (["team", "--env", "pettingzoo:mpe2.simple_spread_v3"], "written in JAX"),
    ],
)
def test_what_cannot_be_checked_is_refused(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-credit", *words]) == 2
    assert says in capsys.readouterr().err
