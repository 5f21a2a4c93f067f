"""What is left when something goes wrong: the same episodes, paired; losses of the span; and the table."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from marlstone.cli import main
from marlstone.config import Case, RunConfig, dump, load
from marlstone.config.schema import Evaluation, Rollout
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.core.types import Spec
from marlstone.envs.faults import ActionLoss, Death, Dropout, Noise, RewardNoise
from marlstone.envs.make import make
from marlstone.envs.managed import Managers
from marlstone.evaluation.robustness import edge_cases as suite
from marlstone.evaluation.robustness.edge_cases import chance_return, decider_of, edge_cases, judged, standard_cases
from marlstone.play.action_selectors import Chance
from marlstone.play.evaluator import Episodes
from marlstone.play.inference_faults import Late
from marlstone.runs.checkpoint import save
from marlstone.runs.directory import RunDirectory
from marlstone.training.loop import runtime_of

LINE = f"{Path(__file__).parents[2] / 'twin.py'}:make"
pytestmark = pytest.mark.usefixtures("compiled_once")


def config(env: str, **changes: Any) -> RunConfig:
    words = {"env": env, "seed": "0", "seeds": "2", "learner.minibatches": "2", "architecture.body.hidden": "[8]", "credit": "team"}
    return replace(load(None, words), **{"rollout": Rollout(4, 8, 1), "evaluate": Evaluation(8, 0), "steps": 64, **changes})


def test_the_standard_cases_leave_out_what_an_environment_refuses() -> None:
    names = lambda spec: {case.name for case in standard_cases(spec)}
    every = names(make("proving:additive").spec)
    assert len(every) == 15
    assert names(Managers().over(make("proving:pair")).spec) == every
    one: Spec = make("proving:dials").spec
    alone = replace(one, groups=(replace(one.groups[0], agents=("dial_0",), types=("dials",)),))
    assert every - names(alone) == {"an agent dies", "an agent comes late"}
    pixels = {"picture": one.groups[0].observation["picture"]}
    assert every - names(replace(one, groups=(replace(one.groups[0], observation=pixels),))) == {"NaN values 1%"}
    unknown = replace(one, horizon=None)
    assert names(unknown) == every


def test_a_verdict_is_yes_no_or_not_shown() -> None:
    """By the whole interval of the loss: below the bound, above it, or across it."""
    nominal, chance = np.ones((5, 4)), np.zeros((5, 4))
    by = lambda lost: nominal - lost
    near = np.full((5, 4), 0.1) + np.linspace(-0.01, 0.01, 5)[:, None]
    told = judged(nominal, by(near), chance, 0.2)
    assert told["graceful"] is True and told["loss"] == pytest.approx(0.1) and len(told["loss_per_seed"]) == 5 and told["note"] == ""
    assert judged(nominal, by(near + 0.4), chance, 0.2)["graceful"] is False
    wide = judged(nominal, by(near + np.array([-0.6, -0.2, 0, 0.2, 0.6])[:, None]), chance, 0.2)
    assert wide["loss_ci95"][0] < 0.2 < wide["loss_ci95"][1] and wide["graceful"] is None and "more seeds" in wide["note"]
    alone = judged(nominal[:1], by(near)[:1], chance[:1], 0.2)
    assert alone["graceful"] is None and alone["loss_ci95"] == [None, None] and alone["loss"] is not None and "one seed" in alone["note"]
    nothing = judged(chance, chance, nominal, 0.2)
    assert [nothing[k] for k in ("loss", "loss_ci95", "loss_per_seed", "graceful")] == [None, [None, None], None, None]
    assert "train longer" in nothing["note"]


def test_what_is_not_shown_to_be_learned_leaves_every_loss_not_shown() -> None:
    """Undisturbed play barely above chance: a loss of -60% of such a span says nothing, and is no failure either."""
    random = np.random.default_rng(0)
    nominal = 0.02 + 0.05 * random.normal(size=(5, 1)) + 0.01 * random.normal(size=(5, 8))
    nominal += 0.02 - nominal.mean()
    told = judged(nominal, nominal + 0.012, np.zeros((5, 8)), 0.2)
    assert told["loss"] is not None and told["loss_ci95"] == [None, None] and told["graceful"] is None
    assert "evaluate.episodes" in told["note"] and "train longer" in told["note"]


def test_the_uncertainty_of_the_span_is_in_the_loss() -> None:
    """Each seed loses exactly what the others lose, but what they had learned differs."""
    learned = np.array([0.5, 0.8, 1.0, 1.2, 1.5])[:, None] * np.ones((5, 4))
    told = judged(learned, learned - 0.19, np.zeros((5, 4)), 0.2)
    assert told["loss"] == pytest.approx(0.19) and told["loss_ci95"][0] < 0.16 and told["loss_ci95"][1] > 0.25
    assert told["graceful"] is None


class Told:
    """A runtime that returns what it is told: 5 by policy, 1 by chance, less in every case; seed 1 always a little more."""

    def __init__(self) -> None:
        self.algorithm = SimpleNamespace(spec=make("proving:dummy").spec)

    def evaluate(self, state: Any, episodes: int, act: str = "mode", *, decider: Any = None, faults: Any = ()) -> Any:
        each = {Chance: 1.0, Late: 4.0}.get(type(decider), 5.0 - 2 * len(faults))
        returns, zero = np.array([[0.0], [0.2]]) + each + np.zeros(episodes), np.zeros((2, episodes))
        return Episodes(returns, zero[..., None], zero, {}, zero == 0)

    def under_each(self, state: Any, episodes: int, faults: Any, act: str) -> Any:
        for fault in faults:
            yield self.evaluate(state, episodes, faults=(fault,))


def test_losses_are_parts_of_the_span() -> None:
    cases = Case("one", (ActionLoss(),)), Case("late", late=0.5), Case("two", (ActionLoss(), Dropout()))
    rows = edge_cases(Told(), None, config("proving:dummy"), 3, "mode", cases)
    assert [row["name"] for row in rows] == ["one", "late", "two"]
    np.testing.assert_allclose([row["loss"] for row in rows], [2 / 4, 1 / 4, 4 / 4])
    np.testing.assert_allclose([row["loss_per_seed"] for row in rows], [[0.5] * 2, [0.25] * 2, [1.0] * 2])
    np.testing.assert_allclose(rows[0]["return_iqm"], 3.1)
    assert not any(row["graceful"] for row in rows)
    bad = edge_cases(Told(), None, config("proving:dummy"), 3, "mode", cases, chance=np.full((2, 3), 6.0))
    assert all(row["loss"] is None and row["graceful"] is None for row in bad), "no better than chance"
    assert chance_return(Told(), None, 3) == pytest.approx(1.1)


def test_cases_are_played_in_pairs() -> None:
    """Policies as they begin: what is no fault costs nothing, and losing every action is the same as never deciding in time."""
    asked = config("proving:dummy?sigma=0")
    runtime = runtime_of(asked)
    state = runtime.start()
    told: list[str] = []
    cases = (
        Case("nothing", (Noise(0.0),)), Case("lost", (ActionLoss(1.0),)), Case("late", late=1.0),
        Case("drift", options={"sigma": 3.0}),
    )  # fmt: skip
    chance = chance_return(runtime, state, 8)
    nominal = np.asarray(runtime.evaluate(state, 8).team_return, float)
    # whatever the policies earn: as if they earned two whole returns more than chance
    shifted = nominal - nominal.mean(1, keepdims=True) + chance + 2
    low = np.full_like(nominal, chance)
    by = {x["name"]: x for x in edge_cases(runtime, state, asked, 8, "mode", cases, nominal=shifted, chance=low, tell=told.append)}
    assert told == ["nothing", "lost", "late", "drift"] and by["lost"]["return_iqm"] == by["late"]["return_iqm"]
    for i in range(2):
        assert by["nothing"]["loss_per_seed"][i] == pytest.approx((chance + 2 - nominal[i].mean()) / 2, abs=1e-5)
    assert by["lost"]["loss"] == pytest.approx((chance + 2 - by["lost"]["return_iqm"]) / 2, abs=1e-5) and by["lost"]["loss"] > 0.5
    assert by["drift"]["return_iqm"] != by["nothing"]["return_iqm"]
    again = edge_cases(runtime, state, asked, 8, "mode", cases[:1])
    assert again[0]["loss"] in (None, 0.0), "undisturbed, to the bit"
    with pytest.raises(UserError, match="case 'many', fault 'death': agents is 9, of a team of 4"):
        edge_cases(runtime, state, asked, 8, "mode", (Case("many", (Death(9),)),), nominal=shifted, chance=low)
    with pytest.raises(UserError, match="its horizon would be 4 instead of 8"):
        edge_cases(runtime, state, asked, 8, "mode", (Case("short", options={"rows": 4}),), nominal=shifted, chance=low)
    with pytest.raises(ValueError, match="no option 'sgma'"):
        edge_cases(runtime, state, asked, 8, "mode", (Case("typo", options={"sgma": 4}),), nominal=shifted, chance=low)


def test_what_a_case_cannot_be() -> None:
    with pytest.raises(UserError, match="falsify the return"):
        Case("paid", (RewardNoise(),))
    it = runtime_of(config("proving:additive")).algorithm
    with pytest.raises(UserError, match="longer bursts"):
        decider_of(it, Case("x", late=0.9, bursts=2.0))


def few(spec: Spec) -> tuple[Case, ...]:
    return Case("sensors gone", (Dropout(1.0),)), Case("inference late", late=0.5, fallback="last", bursts=3.0)


@pytest.mark.slow
@pytest.mark.parametrize("env", ["proving:additive?rows=3", LINE], ids=["jax", "host"])
def test_the_suite_of_a_trained_run(env: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A run trained in either kind of environment, with a case of its own; the table, and the record with the return fields."""
    monkeypatch.setattr(suite, "standard_cases", few)
    drift = {"length": 3} if env == LINE else {}
    own = Case("all lost [of mine]", (ActionLoss(1.0),), options=drift)
    asked = config(env, evaluate=Evaluation(4, 0, cases=(own,), graceful=0.3))
    run = RunDirectory.create(tmp_path / "run", dump(asked))
    runtime = runtime_of(asked)
    save(run.checkpoints, 0, runtime.placement.trim(runtime.start()), {})  # as if it had been trained
    runtime.close()
    assert main(["evaluate", str(run.path), "--episodes", "3", "--suite", "edge-cases", "--json"]) == 0
    out, err = capsys.readouterr()
    record = json.loads(out)
    assert [case["name"] for case in record["cases"]] == ["sensors gone", "inference late", "all lost [of mine]"]
    assert "evaluating: chance" in err and out.count("\n") == 1 and json.loads((run.path / "evaluation.json").read_text()) == record
    assert {"return_iqm", "return_ci95", "return_worst_seed", "true_metrics", "agent_returns"} <= set(record) and len(
        record["returns"]
    ) == 2
    assert {"return_iqm", "return_ci95", "loss", "loss_ci95", "loss_per_seed", "graceful"} <= set(record["cases"][0])
    assert record["graceful_bound"] == 0.3 and record["episodes"] == 3
    if env == LINE:
        x, total = 0.5, 0.0
        for _ in range(3):  # rows, as the case's option says; both agents doing the default
            x = 0.8 * x - 0.25 + 0.125 + 0.1
            total += x - x * x
        assert record["cases"][2]["return_iqm"] == pytest.approx(total, rel=1e-4)
    table(record, capsys)


def table(record: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    from marlstone.cli.report import edge_cases as show

    verdicts = (True, False, None)
    rows = [{**c, "loss": 0.25, "loss_ci95": [0.1, 0.4], "graceful": g} for c, g in zip(record["cases"], verdicts, strict=True)]
    show({**record, "cases": rows})
    out = capsys.readouterr().out
    cases, gate = out.split("out of distribution")
    assert "false alarms" in gate and "return with the gate, without" in gate
    lines = [line for line in cases.splitlines() if "\u2502" in line]
    column = lambda k: " ".join(filter(None, (line.split("\u2502")[k].strip() for line in lines)))
    assert column(1) == "undisturbed chance sensors gone inference late all lost [of mine]"
    assert column(-2) == "yes no not shown" and "25.0%" in out and "at most 30%" in " ".join(out.split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--suite", "edge-case"], "did you mean 'edge-cases'?"),
        (["--suite", "credit", "--log", "there"], "give one at a time"),
        (["--cases", "mine.toml"], "add --suite edge-cases"),
    ],
)
def test_mistakes(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "nowhere", *words]) == 2
    assert says in capsys.readouterr().err
