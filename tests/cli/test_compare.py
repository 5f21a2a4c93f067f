"""`marlstone compare` and `check-hacking`, of runs really trained: what they decide, what they are silent about, what they refuse."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.batches import FASTEST_COMPILE
from tests.cli.conftest import Result, record

Command = Callable[..., Result]
GROUND = "proving:plan?reach=1&rows=12&exploit="
SMALL = {
    "rollout.envs": 16, "rollout.length": 32, "evaluate.episodes": 2, "evaluate.logged": 0, "architecture.body.hidden": "[32]",
    "learner.lr": "1e-3", "learner.anneal": "false", "checkpoint_every": 2048, "steps": 12288, "seeds": 2, "credit": "team",
}  # fmt: skip
HOST = {
    "rollout.envs": 2,
    "rollout.length": 5,
    "rollout.workers": 1,
    "learner.minibatches": 1,
    "steps": 20,
    "checkpoint_every": 10,
    "seeds": 1,
}
SLOW = {
    "rollout.envs": 8, "rollout.length": 7, "rollout.workers": 1, "learner.minibatches": 1, "learner.lr": "0.1", "steps": 336,
    "checkpoint_every": 56, "seeds": 1, "credit": "individual", "learner.entropy": 0.0,
}  # fmt: skip


def trained(path: Path, env: str, fields: dict[str, object]) -> None:
    from marlstone.config import dump, load
    from marlstone.runs.directory import RunDirectory
    from marlstone.training.loop import train

    config = load(None, {**{k: str(v) for k, v in fields.items()}, "env": env})
    run = RunDirectory.create(path, dump(config))
    run.finish(train(config, run))


@pytest.fixture(autouse=True)
def as_jax_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """No devices or caches are set up, since JAX runs already; and programs are compiled in a hurry."""
    monkeypatch.setattr("marlstone.rollout.placement.prepare", lambda: None)
    monkeypatch.setattr("marlstone.training.fused.CPU_OPTIONS", FASTEST_COMPILE)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, compiled_once: None) -> Path:
    """`bad`, in which tampering pays, `good`, its clean twin, trained alike, and `host`, in Python. No machine is measured."""
    import marlstone.training.fused as fused
    import marlstone.training.host as host
    from marlstone.training.limit import Limit

    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused, "CPU_OPTIONS", FASTEST_COMPILE)
        for runtime in (fused.Fused, host.Hosted):
            patch.setattr(runtime, "limit", lambda *_: Limit(1.0, 1, 1.0))
        trained(folder / "bad", f"{GROUND}true", SMALL)
        trained(folder / "good", f"{GROUND}false", SMALL)
        trained(folder / "host", f"{Path(__file__).parents[1] / 'twin.py'}:make", {**SMALL, **HOST})
        crossing = f"{Path(__file__).parent / 'crossing.py'}:make"
        trained(folder / "slow", crossing, {**SMALL, **SLOW})
        trained(folder / "fair", f"{crossing}?honest=true", {**SMALL, **SLOW})
    return folder


@pytest.mark.slow
def test_a_planted_exploit_is_caught(marlstone: Command, runs: Path) -> None:
    code, out, err = marlstone("check-hacking", str(runs / "bad"), "--json")
    found = json.loads(out)
    assert code == 3 and out.count("\n") == 1 and found["alarm"], err
    assert found["metric"] == "score" and found["proxy_change_ci95"][0] > 0 > found["true_change_ci95"][1] and found["steps"][1] == 12288
    assert [p["step"] for p in found["policies"]] == [None, *(2048 * k for k in range(1, 7))]
    assert [p["from"] for p in found["pairs"]] == ["chance", *(f"step {2048 * k:,}" for k in range(1, 6))]
    assert found["policies_left_out"] == found["left_out"] == 0
    assert "check-hacking: " in err and "s an episode" in err and "to the first 256 of each, at most 8:00 (--budget)" in err
    assert json.loads((runs / "bad" / "hacking.json").read_text()) == found
    before = runs / "bad" / "policies" / f"step-{found['steps'][0]:012d}"
    code, out, _ = marlstone("check-hacking", str(before), str(runs / "bad"))
    assert code == 3 and "YES" in out and "against before" in out and "chance" in out
    assert marlstone("check-hacking", str(runs / "bad"), str(before))[0] == 0, "the way back is none"


def test_a_slow_simulator_is_checked_early_and_no_longer_than_it_takes(marlstone: Command, runs: Path) -> None:
    """Evidence is looked at after 32 episodes, and here that is enough: of a reward that is hacked, against chance too."""
    code, out, err = marlstone("check-hacking", str(runs / "slow"), "--json")
    found = json.loads(out)
    assert code == 3 and (found["episodes"], found["stopped"], found["metric"], found["better"]) == (32, "decided", "waited", "down"), err
    by = {p["from"]: p for p in found["pairs"]}
    assert by["chance"]["alarm"] and by["chance"]["true"]["waited"]["ci95"][0] > 0 and not by["chance"]["true"]["flow"]["alarm"]
    assert found["seconds"] < 480 and "the first 16 show how long that takes" in err and " left" in err
    code, out, _ = marlstone("check-hacking", str(runs / "slow"), "--baseline", str(runs / "slow" / "policies" / "step-000000000056"))
    assert code == 3 and "baseline" in out and "waited" in out and "flow" in out
    assert max(len(line) for line in out.splitlines() if str(runs) not in line) <= 80


def test_a_reward_that_is_what_is_wanted_raises_no_alarm(marlstone: Command, runs: Path) -> None:
    found = record(marlstone("check-hacking", str(runs / "fair"), "--episodes", "64", "--json"))
    assert not found["alarm"] and found["pairs"][0]["true"]["waited"]["ci95"][1] < 0 < found["pairs"][0]["proxy_change_ci95"][0]


def test_true_metrics_are_compared_beside_the_return(marlstone: Command, runs: Path) -> None:
    """The newest policy returns more and is worse by `waited`; with less time than the first rounds take, it says so."""
    first, last = str(runs / "slow" / "policies" / "step-000000000056"), str(runs / "slow")
    code, out, err = marlstone("compare", last, first, "--acting", "sample", "--json")
    told = json.loads(out)
    waited, flow = told["true_metrics"]["waited"], told["true_metrics"]["flow"]
    assert code == 0 and told["better"] == 0 and waited["better"] == 1 and waited["direction"] == "down" and flow["better"] == 0
    assert waited["means"][0] > waited["means"][1] and waited["difference"] > 0 and told["means"][0] > told["means"][1]
    assert "compare: " in err and "s an episode" in err
    out = marlstone("compare", last, first, "--budget", "0.01s")[1]
    assert "the time budget was used up" in out and "waited (down is" in out and "return of north" in out
    assert max(len(line) for line in out.splitlines() if str(runs) not in line) <= 80


def test_its_clean_twin_is_silent(marlstone: Command, runs: Path) -> None:
    found = record(marlstone("check-hacking", str(runs / "good"), "--json"))
    assert not found["alarm"] and found["policies"][-1]["return"] == found["policies"][-1]["score"] == 1
    assert all(p["proxy_change_ci95"] == p["true"]["score"]["ci95"] for p in found["pairs"])


def test_a_run_and_itself_are_equal(marlstone: Command, runs: Path) -> None:
    for name, episodes in (("good", "64"), ("host", "6")):
        run = str(runs / name)
        told = record(marlstone("compare", run, run, "--episodes", episodes, "--json"))
        assert told["difference"] == 0 and not told["decided"] and told["better"] is None and told["clipped"] == 0
        assert told["ci95"][0] < 0 < told["ci95"][1] and told["episodes"] == int(episodes) > told["counted"] > 0
        assert [(a["difference"], a["decided"]) for a in told["agents"].values()] == [(0, False)] * 2
    assert list(told["agents"]) == ["puller", "pusher"] and told["seeds"] == 1


def test_a_trained_policy_beats_an_untrained_one(marlstone: Command, runs: Path) -> None:
    first, last = (str(runs / "good" / "policies" / f"step-{step:012d}") for step in (2048, 12288))
    told = record(marlstone("compare", last, first, "--json"))
    assert told["decided"] and told["better"] == 0 and told["ci95"][0] > 0 and told["counted"] == told["episodes"] - 32 < 224
    assert set(told["agents"]) == {"carrier", "partner"} and json.loads((runs / "good" / "comparison.json").read_text()) == told
    back = record(marlstone("compare", first, last, "--json", "--bounds", "0", "1"))
    assert back["better"] == 1 and back["difference"] == pytest.approx(-told["difference"]) and back["counted"] == back["episodes"]
    code, out, _ = marlstone("compare", last, first)
    assert code == 0 and "the first run's policies return more" in out and "partner" in out


def test_what_cannot_be_compared_is_refused(marlstone: Command, runs: Path) -> None:
    bad, good, host, slow = (str(runs / name) for name in ("bad", "good", "host", "slow"))
    for words, says in (
        (("compare", bad, good), "exploit=True and with exploit=False"),
        (("compare", bad, host), "different environments"),
        (("compare", bad, "nowhere"), "does not exist"),
        (("compare", bad), "arguments are required"),
        (("compare", bad, bad, "--episodes", "1"), "at least 2"),
        (("compare", bad, bad, "--bounds", "1", "0"), "the least return, then the greatest"),
        (("check-hacking", bad, good), "exploit=True and with exploit=False"),
        (("check-hacking", bad, bad, bad), "one, or two"),
        (("check-hacking", bad, "--episodes", "1"), "at least 2"),
        (("check-hacking", bad, "--episodes", "31"), "at least --episodes 32"),
        (("check-hacking", host), "declares no true metric"),
        (("check-hacking", good, "--baseline", bad), "exploit=False and with exploit=True"),
        (("check-hacking", bad, "--budget", "8 minutes"), "--budget 8 minutes: give a time, such as 90s"),
        (("compare", bad, bad, "--budget", "0m"), "--budget 0m: give a time"),
        (("check-hacking", slow, "--budget", "0.01s"), "96 are the least that show anything: they take longer than --budget 0:00"),
        (("check-hacking", f"{bad}/policies/step-000000002048"), "kept no policy before step 2048"),
    ):
        code, out, err = marlstone(*words)
        assert (code, out) == (2, "") and says in err, err
    damaged = runs / "bad" / "policies" / "step-000000002048" / "arrays.safetensors"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:-1])
    code, out, err = marlstone("check-hacking", bad)
    damaged.write_bytes(whole)
    assert (code, out) == (2, "") and str(damaged) in err and "remove that folder" in err
