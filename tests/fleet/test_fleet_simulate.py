"""The simulated fleet keeps the laws that any fleet keeps, and agrees with formulas where there are some."""

import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from marlstone.cli import main
from marlstone.core.errors import UserError
from marlstone.fleet.forecast import forecast, limit
from marlstone.fleet.scenario import Scenario, Service, flag
from marlstone.fleet.simulate import Outcome, chunk_seconds, simulate

EXACT = Service(row_spread=0.0, row_seconds=0.01, update_seconds=0.1, weights_bytes=1e6, chunk_bytes=1e5, bandwidth=1e8, latency=0.003)
LOCAL = dataclasses.replace(EXACT, bandwidth=math.inf, latency=0.0)
ONE = Scenario(actors=1, envs=2, length=30, batch=2, queue=2)
CHUNK = 0.3
"""Seconds of a trajectory of these two."""
TROUBLED = {"stalled_fraction": 0.2, "death_fraction_per_minute": 0.3, "deadline": 4.0, "restart": 2.0}


def outcomes(service: Service, scenario: Scenario, seconds: float = 60.0, **more: int) -> tuple[Outcome, Outcome]:
    """Asynchronous and synchronous, cheaply."""
    run = lambda synchronous: simulate(service, scenario, seconds, synchronous=synchronous, **{"events": 60_000, **more})
    return run(False), run(True)


def test_one_actor_without_noise_is_the_closed_form() -> None:
    """Asynchronous: what takes longer, acting (fetch, unroll, send) or updating. Synchronous: one after the other."""
    acting = (0.01 + 0.003) + CHUNK + (0.002 + 0.003)
    for update in (0.1, 0.7):
        found = outcomes(dataclasses.replace(EXACT, update_seconds=update), ONE, 600.0)
        for outcome, period in zip(found, (max(acting, update), acting + update)):
            assert outcome.steps_per_second == pytest.approx(2 * 30 / period, rel=0.003)
            assert outcome.learner_busy == pytest.approx(update / period, rel=0.003)
            assert outcome.updates_per_second == pytest.approx(1 / period, rel=0.003)


def test_bytes_are_chunks_and_weights() -> None:
    """One actor fetches every version where acting takes longer: a put and the weights per update, either way."""
    for outcome in outcomes(EXACT, ONE, 600.0):
        assert outcome.bytes_per_second == pytest.approx(outcome.updates_per_second * (2 * 1e5 + 1e6), rel=0.003)


def test_weights_are_fetched_only_where_newer() -> None:
    """Ten puts make an update: the weights cross the link once in ten."""
    found = outcomes(EXACT, dataclasses.replace(ONE, batch=20), 1200.0)[0]
    assert found.bytes_per_second == pytest.approx(found.updates_per_second * (10 * 2 * 1e5 + 1e6), rel=0.01)


def test_a_full_queue_holds_actors_back() -> None:
    """No more is put than is trained, and a trajectory waits for those in the queue and those of its siblings, never for more."""
    fleet = Scenario(actors=40, envs=1, length=30, batch=1, queue=8, max_staleness=10**6)
    found = outcomes(dataclasses.replace(EXACT, weights_bytes=0.0), fleet, 120.0)[0]
    assert found.bytes_per_second == pytest.approx(found.updates_per_second * 1e5, rel=0.01)
    assert 40 <= found.staleness_p99 <= 48


def test_a_slow_link_is_shared_and_never_exceeded() -> None:
    """A hundred actors on it get what it carries; each way has the bandwidth for itself."""
    slow = dataclasses.replace(EXACT, bandwidth=2e6, weights_bytes=0.0)
    fleet = Scenario(actors=100, envs=2, length=30, batch=10, max_staleness=10**6)
    for outcome in outcomes(slow, fleet):
        assert outcome.steps_per_second <= 2e6 / 1e5 * 30 * 1.001
        assert outcome.bytes_per_second <= 2e6 * 1.001
    assert outcomes(slow, fleet)[0].steps_per_second == pytest.approx(2e6 / 1e5 * 30, rel=0.02)


@pytest.mark.parametrize("trouble", [{}, TROUBLED], ids=["healthy", "troubled"])
def test_bounds(trouble: dict[str, float]) -> None:
    """Nothing exceeds what the learner can train, nor what healthy actors could make."""
    for actors in (1, 4, 16, 64):
        fleet = Scenario(actors=actors, envs=2, length=30, batch=16, queue=32, **trouble)
        for outcome in outcomes(LOCAL, fleet):
            assert outcome.steps_per_second <= limit(LOCAL, fleet) * 1.0001
            assert outcome.steps_per_second <= actors * 2 * 30 / CHUNK * 1.01
            assert 0 <= outcome.learner_busy <= 1.0001


def test_more_actors_make_more_until_the_learner_is_busy() -> None:
    """Asynchronous throughput rises with actors, and stays at the limit; the queue then makes trajectories staler, dropped beyond the
    limit."""
    service = dataclasses.replace(LOCAL, row_spread=0.5)
    found = [outcomes(service, Scenario(actors=n, envs=1, length=30, batch=8, queue=64, max_staleness=9))[0] for n in (4, 8, 16, 48, 96)]
    rates = [o.steps_per_second for o in found]
    assert rates[1] > 1.9 * rates[0] and rates[2] > 1.8 * rates[1]
    assert rates[3] == pytest.approx(8 * 30 / 0.1, rel=0.01) and rates[4] == pytest.approx(8 * 30 / 0.1, rel=0.01)
    assert found[4].staleness_p99 > found[0].staleness_p99 and found[4].staleness_p99 <= 9
    assert found[0].dropped_fraction == 0 < found[4].dropped_fraction


def test_queue_is_md1() -> None:
    """Many actors that each put rarely are nearly a Poisson stream, the learner a server of fixed time: wait = rho u / (2 (1 - rho))."""
    service = Service(row_seconds=10.0, row_spread=1.0, update_seconds=0.002, bandwidth=math.inf, latency=0.0)
    for rho in (0.5, 0.75):
        actors = round(rho * 10 / 0.002)
        fleet = Scenario(actors=actors, envs=1, length=1, batch=1, queue=100_000, max_staleness=10**6)
        found = simulate(service, fleet, events=300_000)
        assert found.learner_busy == pytest.approx(rho, rel=0.01)
        assert found.queue_seconds == pytest.approx(rho * 0.002 / (2 * (1 - rho)), rel=0.03)


def test_barrier_is_the_slowest_of_all() -> None:
    """Synchronous rounds take the expected maximum of the actors' trajectories, known by integration, and the update."""
    service, fleet = dataclasses.replace(LOCAL, row_spread=1.0), Scenario(actors=50, envs=2, length=10, batch=100)
    from scipy.stats import lognorm

    sigma = math.sqrt(math.log1p(math.expm1(1.0) / 10))
    t = np.linspace(0, 2, 20_001)
    longest = np.trapezoid(1 - lognorm.cdf(t, sigma, scale=0.1 * math.exp(-(sigma**2) / 2)) ** 50, t)
    found = simulate(service, fleet, synchronous=True, events=200_000)
    assert found.steps_per_second == pytest.approx(50 * 2 * 10 / (longest + 0.1), rel=0.01)


def test_a_chunk_has_its_rows_mean_and_variance() -> None:
    rng = np.random.default_rng(1)
    service, fleet = Service(row_seconds=0.01, row_spread=0.8), Scenario(length=16)
    found = chunk_seconds(service, fleet, rng.standard_normal(200_000))
    rows = 0.01 * np.exp(0.8 * rng.standard_normal((200_000, 16)) - 0.32)
    assert found.mean() == pytest.approx(rows.sum(1).mean(), rel=0.01)
    assert found.std() == pytest.approx(rows.sum(1).std(), rel=0.03)


def test_one_stalled_actor_without_supervision() -> None:
    """It stops the synchronous fleet for good, and costs the asynchronous one its share."""
    healthy = Scenario(actors=20, envs=1, length=30, batch=20)
    asynchronous, synchronous = outcomes(LOCAL, dataclasses.replace(healthy, stalled_fraction=1 / 20, supervised=False), 600.0)
    assert synchronous.steps_per_second == 0 and synchronous.learner_busy == 0
    assert asynchronous.steps_per_second == pytest.approx(outcomes(LOCAL, healthy, 600.0)[0].steps_per_second * 19 / 20, rel=0.01)


def test_supervised_stalls_and_deaths_cost_the_time_they_take() -> None:
    """An actor makes a trajectory or fails: lives of mean 1 / rate, then the time it is gone, and half a trajectory or so lost."""
    fleet = Scenario(actors=50, envs=1, length=30, batch=20, **TROUBLED)
    asynchronous, synchronous = outcomes(LOCAL, fleet, 3600.0, events=150_000)
    life, gone = 60 / 0.5, (0.2 * (4 + 2) + 0.3 * 2) / 0.5
    assert asynchronous.steps_per_second == pytest.approx(50 * 30 / CHUNK * (life - CHUNK / 2) / (life + gone), rel=0.01)
    assert synchronous.steps_per_second < 0.5 * outcomes(LOCAL, fleet.healthy)[1].steps_per_second


def test_one_actor_that_dies() -> None:
    """Either way it loses half a trajectory and the restart at every death; what it loses while the learner updates, the learner hides."""
    fleet = Scenario(actors=1, envs=1, length=30, batch=1, death_fraction_per_minute=3.0, restart=2.0)
    for outcome, period in zip(outcomes(LOCAL, fleet, 36_000.0, events=100_000), (CHUNK, CHUNK + 0.1)):
        lost = CHUNK / 2 * CHUNK / period
        assert outcome.steps_per_second == pytest.approx(30 / period * (20 - lost) / (20 + 2), rel=0.01)


def test_restarts_double_and_are_capped() -> None:
    fleet = Scenario(restart=2.0, longest_restart=10.0, deadline=5.0)
    assert [fleet.down(False, k) for k in range(5)] == [2, 4, 8, 10, 10]
    assert fleet.down(True, 0) == 7 and dataclasses.replace(fleet, supervised=False).down(False, 0) == math.inf


def test_stragglers_hold_up_the_barrier_only() -> None:
    fleet = Scenario(actors=20, envs=1, length=30, batch=20, straggler_fraction=0.1, straggler_factor=5.0)
    asynchronous, synchronous = outcomes(LOCAL, fleet, 600.0)
    assert asynchronous.steps_per_second == pytest.approx(30 / CHUNK * (18 + 2 / 5), rel=0.02)
    assert synchronous.steps_per_second == pytest.approx(20 * 30 / (5 * CHUNK + 0.1), rel=0.02)


def test_same_seed_same_answer() -> None:
    fleet = Scenario(actors=30, **TROUBLED)
    first, again, other = (forecast(Service(), fleet, 60.0, seed, 30_000) for seed in (1, 1, 2))
    assert repr(first) == repr(again) and repr(first) != repr(other)


def test_events_end_it_early() -> None:
    fleet = Scenario(actors=50)
    assert simulate(Service(), fleet, 1e6, events=20_000).seconds < 100
    assert simulate(Service(), fleet, 5.0, events=10**6).seconds == 5.0


def test_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """One line of JSON with both ways, a picture where `--out` says, and times from a run, which flags override."""
    (tmp_path / "fleet.json").write_text(json.dumps({"row_seconds": 0.02, "update_seconds": 0.3, "steps": 5, "latency": None}))
    asked = "--actors 8 --stalled-fraction 0.1 --death-fraction-per-minute 0.05 --events 2000 --update-seconds 0.2"
    words = ["fleet", "simulate", *asked.split(), "--run", str(tmp_path)]
    assert main([*words, "--json", "--out", str(tmp_path / "new")]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    record = json.loads(out)
    fields = {"steps_per_second", "healthy_steps_per_second", "staleness_p99", "learner_busy", "bytes_per_second"}
    assert fields <= set(record["asynchronous"]) and fields <= set(record["synchronous"])
    assert record["service"]["row_seconds"] == 0.02 and record["service"]["update_seconds"] == 0.2
    assert record["picture"] == str(tmp_path / "new" / "fleet.png")
    assert Path(record["picture"]).read_bytes().startswith(b"\x89PNG")
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "asynchronous" in shown and "staleness" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--actors 0", "--actors is 0: give at least 1"),
        ("--actors 100001", "--actors is 100001: give at most 100,000"),
        ("--actors many", "invalid int value: 'many'"),
        ("--stalled-fraction 1.5", "--stalled-fraction is 1.5: give at most 1"),
        ("--row-seconds nan", "--row-seconds is nan: give more than 0"),
        ("--update-seconds inf", "--update-seconds is inf: give at most"),
        ("--queue 3", "--queue is 3: an actor puts 4 trajectories at once, so give at least 4"),
        ("--events 1", "--events is 1: give at least 1000"),
        ("--seconds inf", "--seconds is inf: give a finite number"),
        ("--run nowhere", "nowhere/fleet.json cannot be read (No such file or directory): give the directory of a run"),
        ("--actor 4", "did you mean '--actors'?"),
    ],
)
def test_mistakes(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, with the flag, the value and the remedy."""
    assert main(["fleet", "simulate", *words.split()]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"), [("{", "is no JSON"), ("[1]", "has none of row_seconds"), ('{"latency": "x"}', "latency is 'x'")]
)
def test_a_run_that_measured_nothing(text: str, said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "fleet.json").write_text(text)
    assert main(["fleet", "simulate", "--run", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


def test_fleet_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fleet"]) == 2 and main(["fleet", "--help"]) == 0
    assert "simulate" in capsys.readouterr().out
    assert main(["fleet", "stimulate"]) == 2
    assert "did you mean 'simulate'?" in capsys.readouterr().err


def test_help_says_every_unit(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(["fleet", "simulate", "--help"])
    assert leaving.value.code == 0
    shown = capsys.readouterr().out
    fields = [f for kind in (Scenario, Service) for f in dataclasses.fields(kind) if f.metadata]
    assert all(flag(f.name) in shown and "default" in shown for f in fields)
    assert "bytes/s" in shown and "seconds" in shown


def test_no_jax() -> None:
    """Neither the answer nor a mistake brings JAX."""
    code = "import sys; from marlstone.cli import main; main(sys.argv[1:]); assert 'jax' not in sys.modules"
    for words in ("--actors 4 --events 1000 --json", "--actors 0 --json"):
        subprocess.run([sys.executable, "-c", code, "fleet", "simulate", *words.split()], check=True, capture_output=True)


def test_fields_are_checked_in_python_too() -> None:
    with pytest.raises(UserError, match="--bandwidth is 0: give more than 0"):
        Service(bandwidth=0)
