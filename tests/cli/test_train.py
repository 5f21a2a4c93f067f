"""`marlstone train` and `evaluate`, around training: flags, refusals, records, resume, interruption."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marlstone.config import RunConfig, dump, parse
from tests.cli.conftest import Result, record

Command = Callable[..., Result]
ENV = ("--env", "proving:climbing")


def test_a_run(marlstone: Command, tmp_path: Path) -> None:
    done = record(
        marlstone("train", *ENV, "--steps", "100", "--seeds", "2", "--out", "a", "--set", "learner.lr=1e-3", "--body", "gru", "--json")
    )
    run = tmp_path / "a"
    assert (
        done["run"] == str(run) and done["seeds"] == [1000, 1001] and done["purpose"] == "reporting" and done["return_ci95"] == [None, 1.0]
    )
    assert json.loads((run / "result.json").read_text()) == done
    config = parse((run / "config.toml").read_text())
    assert config.learner.lr == 1e-3 and type(config.architecture.body).__name__ == "Gru" and config.out is None
    again = record(marlstone("train", "a/config.toml", "--out", "b", "--json"))
    assert again["x"] == done["x"] and (tmp_path / "b/config.toml").read_text() == (run / "config.toml").read_text()


def test_tables_and_progress(marlstone: Command) -> None:
    code, out, err = marlstone("train", *ENV, "--steps", "1e3")
    assert code == 0 and "return, IQM of 5 seeds" in out and "runs/" in out
    assert "ETA" in err and "step 100 of 1,000 x 5 seeds" in err
    code, out, _ = marlstone("evaluate", next(w for w in out.split() if w.startswith("runs/")))
    assert code == 0 and "return, one seed" in out


def test_runs_without_a_name_do_not_meet(marlstone: Command) -> None:
    first, second = (record(marlstone("train", *ENV, "--steps", "1", "--json"))["run"] for _ in range(2))
    assert first != second


def test_resume_and_from(marlstone: Command, tmp_path: Path) -> None:
    whole = record(marlstone("train", *ENV, "--steps", "100", "--checkpoint-every", "20", "--out", "whole", "--json"))
    record(marlstone("train", *ENV, "--steps", "60", "--checkpoint-every", "20", "--out", "part", "--json"))
    code, _, err = marlstone("train", "--resume", "part")
    assert code == 2 and "already trained to step 60 of 60" in err
    resumed = record(marlstone("train", "--resume", "part", "--steps", "100", "--json"))
    assert resumed["resumed_from_step"] == 60 and resumed["x"] == whole["x"]
    assert parse((tmp_path / "part/config.toml").read_text()).steps == 100
    back = record(marlstone("train", "--resume", "whole/checkpoints/step-000000000060", "--steps", "80", "--json"))
    assert back["resumed_from_step"] == 60
    assert sorted(p.name for p in (tmp_path / "whole/checkpoints").iterdir())[-1] == "step-000000000080"
    fresh = record(marlstone("train", "--from", "whole", "--credit", "team", "--steps", "10", "--out", "new", "--json"))
    assert fresh["resumed_from_step"] == 0 and fresh["x"] == 90 and fresh["env"] == "proving:climbing"
    for words, says in (
        (("--resume", "whole", "--credit", "team"), "credit would change it"),
        (("--resume", "whole", "--from", "part"), "--resume and --from"),
        (("whole/config.toml", "--resume", "whole"), "both given"),
        (("--resume", "nowhere"), "does not exist"),
    ):
        code, _, err = marlstone("train", *words)
        assert code == 2 and says in err


def test_a_damaged_checkpoint(marlstone: Command, tmp_path: Path) -> None:
    record(marlstone("train", *ENV, "--steps", "60", "--checkpoint-every", "20", "--out", "run", "--json"))
    file = tmp_path / "run/checkpoints/step-000000000060/arrays.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    code, out, err = marlstone("train", "--resume", "run", "--steps", "80")
    good = tmp_path / "run/checkpoints/step-000000000040"
    assert (code, out) == (2, "") and str(file) in err and f"resume from {good} instead" in err
    assert record(marlstone("train", "--resume", str(good), "--steps", "60", "--json"))["x"] == 60


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "env is missing"),
        ((*ENV, "--stepps", "1"), "unknown flag '--stepps'; did you mean '--steps'?"),
        ((*ENV, "--fleet", "locl"), "did you mean 'local'"),
        ((*ENV, "--actors", "3"), "add --fleet local"),
        ((*ENV, "--fleet", "local", "--set", "fleet.actors=3", "--actors", "2"), "give one"),
        ((*ENV, "--address", "x"), "add --fleet"),
        ((*ENV, "--from-log", "x"), "unknown flag '--from-log'"),
        ((*ENV, "--step", "5"), "did you mean '--steps'"),
        ((*ENV, "--steps"), "expected one argument"),
        ((*ENV, "--steps", "many"), "steps = many: expected a whole number"),
        ((*ENV, "--credit", "qmixx"), "there is no such credit"),
        ((*ENV, "--set", "learner.lr"), "write --set learner.lr=1e-3"),
        ((*ENV, "--set", "learner.lr=1", "--set", "learner.lr=2"), "given twice"),
        ((*ENV, "--steps", "5", "--set", "steps=5"), "give one"),
        ((*ENV, "--tuning", "--seed", "3"), "--tuning is --seed 0"),
        ((*ENV, "--seed", "999", "--seeds", "2"), "reporting seeds"),
        (("none.toml",), "none.toml cannot be read"),
        (("a.toml", "b.toml"), "one argument too many"),
        (("--env", "proving:refused"), "this environment is refused"),
    ],
)
def test_mistakes(marlstone: Command, tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    """Exit code 2, one message on one line, nothing left behind."""
    code, out, err = marlstone("train", *words)
    assert (code, out) == (2, "") and says in err and err.count("\n") == 1 and err.startswith("error: ")
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]
    code, out, err = marlstone("train", *words, "--json")
    assert code == 2 and says in json.loads(out)["error"]


def test_tuning(marlstone: Command) -> None:
    assert record(marlstone("train", *ENV, "--steps", "1", "--tuning", "--json"))["purpose"] == "tuning"


def test_never_over_another_run(marlstone: Command) -> None:
    record(marlstone("train", *ENV, "--steps", "1", "--out", "a", "--json"))
    code, _, err = marlstone("train", *ENV, "--steps", "1", "--out", "a")
    assert code == 2 and "already holds a run" in err


TOML = dump(RunConfig(env="proving:climbing", steps=10))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mangled_files(marlstone: Command, tmp_path: Path, data: st.DataObject) -> None:
    """Bytes of a configuration changed at random: it trains, or exits 2 with one message. Never a traceback."""
    text = bytearray(TOML.encode())
    for _ in range(data.draw(st.integers(1, 5))):
        i = data.draw(st.integers(0, len(text) - 1))
        text[i : i + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3) | st.sampled_from([b"=", b"[", b'"', b"\n", b"."]))
    (tmp_path / "run.toml").write_bytes(text)
    code, out, err = marlstone("train", "run.toml", "--steps", "10", "--checkpoint-every", "10", "--seed", "1000", "--seeds", "1")
    assert code in (0, 2) and "Traceback" not in err
    assert code == 0 or (out == "" and err.count("\n") == 1)


INTERRUPTED = """
import os, signal, sys, time
from marlstone.cli import main, train
from tests.cli.conftest import pretend

def slow(config, run, *, progress, **rest):
    def tell(p):
        progress(p)
        if p.step == 30:
            os.kill(os.getpid(), signal.SIGINT)
    return pretend(config, run, progress=tell, **rest)

train.runtime, before = lambda config: slow, signal.getsignal(signal.SIGINT)
code = main(["train", "--env", "a:b", "--steps", "100", "--out", sys.argv[1]] + sys.argv[2:])
assert signal.getsignal(signal.SIGINT) is before
sys.exit(code)
"""


@pytest.mark.parametrize("as_json", [True, False])
def test_interrupt(tmp_path: Path, as_json: bool) -> None:
    """Ctrl-C: a checkpoint, a word on how to go on, and its own exit code; also where whoever started us ignores it."""
    words = [sys.executable, "-c", INTERRUPTED, str(tmp_path / "run"), *(["--json"] if as_json else [])]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2])
    assert done.returncode == 130, done.stderr
    assert "stopping after a checkpoint" in done.stderr and "Traceback" not in done.stderr
    assert (tmp_path / "run/checkpoints/step-000000000030").is_dir()
    if as_json:
        assert json.loads(done.stdout)["stopped"] is True
    else:
        assert "--resume" in done.stdout


@pytest.mark.slow
def test_a_command_trains_on_every_core(tmp_path):
    """Recorded by the run itself, in a process of its own: JAX must not be asked for devices before the cores are declared."""
    import json
    import os
    import subprocess
    import sys

    small = "--steps 64 --seeds 2 --set rollout.envs=4 --set rollout.length=8 --set evaluate.episodes=2"
    words = f"train --env proving:climbing {small}".split()
    run = tmp_path / "run"
    done = subprocess.run([sys.executable, "-m", "marlstone", *words, "--out", str(run)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(json.loads((run / "versions.json").read_text())["machine"]["devices"]) == len(os.sched_getaffinity(0))


def test_a_run_that_was_killed_after_its_last_checkpoint_is_finished(marlstone: Command, tmp_path: Path) -> None:
    record(marlstone("train", *ENV, "--steps", "60", "--checkpoint-every", "20", "--out", "run", "--json"))
    (tmp_path / "run/result.json").unlink()
    assert record(marlstone("train", "--resume", "run", "--json"))["steps"] == 60
    assert (tmp_path / "run/result.json").is_file()


def test_short_and_long_names_of_one_field_are_not_both_given(marlstone: Command) -> None:
    code, _, err = marlstone("train", *ENV, "--body", "gru", "--set", "architecture.body=mlp")
    assert code == 2 and "--body and --set architecture.body are both given" in err
