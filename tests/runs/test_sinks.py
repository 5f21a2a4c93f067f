"""Sinks: a service has what the store has, once and in order, across failures and resumes; and keeps nobody waiting."""

import csv
import json
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from marlstone.core.errors import UserError
from marlstone.runs.directory import RunDirectory
from marlstone.runs.sinks import About, Csv, Ended, MLflow, Sink, TensorBoard, Wandb, follower
from marlstone.runs.sinks.follower import Follower, names_of, redacted, title_of
from marlstone.runs.store import Point

SEEDS = (1000, 1001)
RECORD = {"return_iqm": 2.5, "return_ci95": [2.0, 3.0], "true_metrics": {"won": 0.5}, "seeds": list(SEEDS), "returns": [2.0, 3.0]}
Read = dict[tuple[int, str], list[tuple[int, float]]]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "BACKOFF", (0.02, 0.1))


def run_in(folder: Path) -> RunDirectory:
    return RunDirectory.create(folder / "run", 'env = "x"\n')


def about(run: RunDirectory, since: int = -1) -> About:
    return About("run", run.path, 'env = "x"\n', {"env": "x", "learner": {"lr": 1e-3}}, SEEDS, since)


def measure(run: RunDirectory, steps: Sequence[int], plus: float = 0.0) -> None:
    """Figures of both seeds at these steps, in the run's store."""
    with run.store() as store:
        for step in steps:
            for seed in SEEDS:
                store.add(step, seed, {"return": step + seed + plus, "loss/policy": -1.0 * step})


def following(run: RunDirectory, sink: Sink, since: int = -1, said: list[str] | None = None) -> Follower:
    mine = Follower(sink, names_of([sink])[0], run, about(run, since), (said if said is not None else []).append)
    mine.start()
    return mine


def until(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not what():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


def ended(follower: Follower, how: Ended = "finished", record: Mapping[str, Any] | None = RECORD, deadline: float = 30.0) -> dict[str, Any]:
    follower.ask(how, record)
    return follower.close(deadline)


def stored(run: RunDirectory) -> Read:
    out: Read = {}
    with run.store() as store:
        for name in store.names():
            for series in store.series(name):
                out[series.seed, name] = list(zip(series.step.tolist(), series.value.tolist(), strict=True))
    return out


# ---- what services have, read by their own formats and clients
def read_csv(run: RunDirectory) -> Read:
    out: Read = {}
    with (run.path / "csv" / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            out.setdefault((int(row["seed"]), row["name"]), []).append((int(row["step"]), float(row["value"])))
    return out


def tensorboard_events(folder: Path) -> list[Any]:
    """The events of a folder in TensorBoard's order, less what it forgets where a writer began anew (`SessionLog.START`)."""
    from tensorboardX.proto.event_pb2 import Event, SessionLog

    kept: list[Any] = []
    for file in sorted(folder.glob("*.tfevents.*")):
        data, at = file.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += 16 + length
            if event.session_log.status == SessionLog.START:
                kept = [e for e in kept if e.step < event.step]
            kept.append(event)
    return kept


def read_tensorboard(run: RunDirectory) -> Read:
    out: Read = {}
    for seed in SEEDS:
        for event in tensorboard_events(run.path / "tensorboard" / f"seed-{seed}"):
            for value in event.summary.value:
                if not value.tag.startswith("final/"):
                    out.setdefault((seed, value.tag), []).append((event.step, value.simple_value))
    return out


def wandb_records(file: Path) -> list[Any]:
    """The records of an offline run's file: LevelDB's log format, in blocks of 32 KiB, after a header of 7 bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole, out = file.read_bytes(), 7, b"", []
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            out.append(Record.FromString(whole))
            whole = b""
    return out


def wandb_lives(run: RunDirectory) -> dict[int, list[list[Any]]]:
    """By seed, the records of each life's folder, oldest first."""
    out: dict[int, list[list[Any]]] = {seed: [] for seed in SEEDS}
    for file in sorted((run.path / "wandb").glob("offline-run-*/*.wandb"), key=lambda p: p.stat().st_mtime_ns):
        records, until = wandb_records(file), time.monotonic() + 30
        while not any(r.WhichOneof("record_type") == "exit" for r in records) and time.monotonic() < until:
            time.sleep(0.1)  # wandb's own process may write its last records after `finish`, on a busy machine
            records = wandb_records(file)
        begun = next(r.run for r in records if r.WhichOneof("record_type") == "run")
        out[int(begun.display_name.rpartition("-")[2])].append(records)
    return out


def read_wandb(run: RunDirectory) -> Read:
    out: Read = {}
    for seed, lives in wandb_lives(run).items():
        for record in (r for records in lives for r in records if r.WhichOneof("record_type") == "history"):
            row = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            for name, value in row.items():
                if not name.startswith("_"):
                    out.setdefault((seed, name), []).append((row["_step"], value))
    return out


def mlflow_runs(run: RunDirectory) -> tuple[Any, Any, dict[int, Any]]:
    """Its client, the parent run, and the seeds' runs."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{run.path.parent / 'mlflow.db'}")
    (experiment,) = [e for e in client.search_experiments() if e.name == "marlstone"]
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
    children = {int(r.data.tags["marlstone.seed"]): r for r in runs if r is not parent}
    assert all(r.data.tags["mlflow.parentRunId"] == parent.info.run_id for r in children.values())
    return client, parent, children


def read_mlflow(run: RunDirectory) -> Read:
    client, _, children = mlflow_runs(run)
    out: Read = {}
    for seed, child in children.items():
        for name in child.data.metrics:
            if not name.startswith("final/"):
                out[seed, name] = [(m.step, m.value) for m in client.get_metric_history(child.info.run_id, name)]
    return out


SERVICES: dict[str, tuple[Sink, Callable[[RunDirectory], Read]]] = {
    "csv": (Csv(), read_csv),
    "tensorboard": (TensorBoard(), read_tensorboard),
    "wandb": (Wandb(mode="offline"), read_wandb),
    "mlflow": (MLflow(), read_mlflow),
}
PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb", "mlflow": "mlflow"}


@pytest.fixture
def service(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Sink, Callable[[RunDirectory], Read]]:
    if request.param in PACKAGES:
        pytest.importorskip(PACKAGES[request.param])
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return SERVICES[request.param]


every = pytest.mark.parametrize("service", SERVICES, indirect=True)
# MLflow, its database and SQLAlchemy warn of each other while they are imported and opened
foreign = pytest.mark.filterwarnings("ignore")


@every
@foreign
def test_a_resumed_run_goes_on_in_the_same_series(tmp_path: Path, service: Any) -> None:
    """The first life sends four steps and is killed; the run resumes from the third and measures otherwise. A service that can forget has
    what the store has; another keeps the fourth step as it was sent, and has every step once."""
    sink, read = service
    run = run_in(tmp_path)
    measure(run, (10, 20, 30, 40))
    ended(following(run, sink), "stopped", None)
    with run.store() as store:
        store.truncate(30)
    measure(run, (40, 50), plus=0.5)
    if sink.kind == "wandb":
        time.sleep(1.0)  # W&B names a life's folder by its second
    line = ended(following(run, sink, since=30))
    expected = stored(run)
    if not sink.rewinds:
        expected = {key: [(s, v - 0.5 if s == 40 and key[1] == "return" else v) for s, v in mine] for key, mine in expected.items()}
    assert read(run) == expected and expected[1000, "return"][-1] == (50, 1050.5)
    assert line["dropped"] == 0 and line["reason"] == ""


@every
@foreign
def test_a_service_has_the_configuration_and_the_record(tmp_path: Path, service: Any) -> None:
    sink, _ = service
    run = run_in(tmp_path)
    measure(run, (10,))
    assert ended(following(run, sink)) == {"name": sink.kind, "written": 4, "dropped": 0, "reason": ""}
    if sink.kind == "csv":
        assert json.loads((run.path / "csv" / "record.json").read_text()) == RECORD
    elif sink.kind == "tensorboard":
        values = {v.tag: v for e in tensorboard_events(run.path / "tensorboard") for v in e.summary.value}
        assert values["final/return_iqm"].simple_value == 2.5 and values["final/metric/won"].simple_value == 0.5
        texts = {tag: v.tensor.string_val[0].decode() for tag, v in values.items() if v.tensor.string_val}
        assert any('env = "x"' in text for text in texts.values()) and any('"return_iqm": 2.5' in text for text in texts.values())
    elif sink.kind == "wandb":
        for seed, value in zip(SEEDS, RECORD["returns"], strict=True):
            ((*records,),) = wandb_lives(run)[seed]
            begun = next(r.run for r in records if r.WhichOneof("record_type") == "run")
            assert begun.run_group == "run" and begun.project == "marlstone"
            config = {u.key: json.loads(u.value_json) for u in begun.config.update}
            assert config["learner"] == {"lr": 1e-3} and config["training_seed"] == seed
            summary = {
                ".".join(u.nested_key) or u.key: json.loads(u.value_json)
                for r in records
                if r.WhichOneof("record_type") == "summary"
                for u in r.summary.update
            }
            assert summary["final/return_iqm"] == 2.5 and summary["final/return"] == value
    else:
        client, parent, children = mlflow_runs(run)
        assert parent.info.status == "FINISHED" and parent.data.params["learner.lr"] == "0.001"
        assert parent.data.metrics["final/return_iqm"] == 2.5
        assert [children[s].data.metrics["final/return"] for s in SEEDS] == RECORD["returns"]
        assert {f.path for f in client.list_artifacts(parent.info.run_id)} == {"config.toml", "record.json"}


# ---- failures
@dataclass(frozen=True)
class Trying(Sink):
    """A service in memory, which `fails` as often as it is told, or is slow."""

    kind: ClassVar[str] = "trying"
    fails: list[int]
    got: list[Point]
    seconds: float = 0.0
    opened: tuple[list[int]] = ([],)

    def open(self, about: About) -> "TryingWriter":
        self.opened[0].append(about.since)
        return TryingWriter(self)


class TryingWriter:
    def __init__(self, sink: Trying) -> None:
        self.sink = sink

    def keep(self) -> dict[str, Any]:
        return {"id": "7"}

    def write(self, points: Sequence[Point]) -> None:
        time.sleep(self.sink.seconds)
        if self.sink.fails[0] > 0:
            self.sink.fails[0] -= 1
            raise OSError(28, "No space left on device")
        self.sink.got.extend(points)

    def finish(self, record: Mapping[str, Any]) -> None:
        return None

    def close(self, ended: Ended) -> None:
        return None


def test_what_a_sink_refuses_for_a_while_it_gets_later(tmp_path: Path) -> None:
    run, said = run_in(tmp_path), list[str]()
    measure(run, (10, 20, 30))
    sink = Trying([2], [], opened=([],))
    mine = following(run, sink, said=said)
    until(lambda: bool(sink.got))
    assert ended(mine) == {"name": "trying", "written": 12, "dropped": 0, "reason": ""}
    assert [(p.step, p.seed, p.name) for p in sink.got] == [
        (s, k, n) for s in (10, 20, 30) for k in SEEDS for n in ("loss/policy", "return")
    ]
    assert len(said) == 1 and "No space left on device" in said[0] and "training goes on" in said[0]
    assert sink.opened[0] == [-1, -1, -1]


def test_what_a_sink_never_takes_is_counted(tmp_path: Path) -> None:
    run, said = run_in(tmp_path), list[str]()
    measure(run, (10, 20))
    line = ended(following(run, Trying([10**9], []), said=said))
    assert line == {"name": "trying", "written": 0, "dropped": 8, "reason": "OSError: [Errno 28] No space left on device"}
    assert len(said) == 1


def test_a_slow_sink_is_given_up_at_its_deadline(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    measure(run, (10, 20))
    began = time.monotonic()
    line = ended(following(run, Trying([0], [], seconds=8.0)), deadline=0.2)
    assert line["dropped"] == 8 and "not done" in line["reason"] and time.monotonic() - began < 7


def test_the_newest_step_waits_until_it_is_whole(tmp_path: Path) -> None:
    run, sink = run_in(tmp_path), Trying([0], [])
    measure(run, (10, 20))
    mine = following(run, sink)
    until(lambda: mine.cursor == 10)
    with run.store() as store:
        store.add(20, SEEDS[0], {"check": 1.0})
    assert {p.step for p in sink.got} == {10}
    assert ended(mine)["written"] == 9
    assert [p.step for p in sink.got] == [10] * 4 + [20] * 5


def test_points_are_read_in_parts_that_are_whole(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    measure(run, range(1, 8))
    with run.store() as store:
        store.add(100, SEEDS[0], {"rare": 1.0})
        read, cursor = list[Point](), -1
        while points := store.after(cursor, each=3):
            assert {p.step for p in points}.isdisjoint(p.step for p in read)
            read, cursor = read + points, points[-1].step
        assert len(read) == 7 * 4 + 1 == store.count_after(-1)
        assert [p.step for p in store.after(5, each=500, newest=False)] == [6] * 4 + [7] * 4


def test_a_sink_added_to_a_run_gets_all_of_it(tmp_path: Path) -> None:
    run, sink = run_in(tmp_path), Trying([0], [])
    measure(run, (10, 20, 30))
    ended(following(run, sink, since=20))
    assert {p.step for p in sink.got} == {10, 20, 30} and json.loads((run.path / "sinks" / "trying.json").read_text())["kept"] == {
        "id": "7"
    }


# ---- refusals and secrets
def test_secrets_are_neither_kept_nor_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    shown = redacted("401 for 0123456789abcdef\nat https://me:hunter2@host/x")
    assert "0123456789abcdef" not in shown and "hunter2" not in shown and "401" in shown and "host/x" in shown
    with pytest.raises(ValueError, match=r"mlflow.uri holds a password.*MLFLOW_TRACKING_PASSWORD"):
        MLflow(uri="postgresql://me:hunter2@host/db")


def test_what_could_never_be_opened_is_refused_before_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Missing(TensorBoard):
        package: ClassVar[str] = "no_such_package_of_ours"

    with pytest.raises(UserError, match=r"needs the package no_such_package_of_ours.*pip install 'marlstone\[tensorboard\]'"):
        Missing().check()
    pytest.importorskip("wandb")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match="wandb login"):
        Wandb().check()
    Wandb(mode="offline").check()
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    Wandb().check()


def test_names_tell_sinks_and_runs_apart(tmp_path: Path) -> None:
    assert names_of([Csv(), TensorBoard(), Csv(dir="x")]) == ["csv-1", "tensorboard", "csv-2"]
    trial = tmp_path / "sel" / "trials" / "ctde-team"
    trial.mkdir(parents=True)
    assert title_of(trial) == "ctde-team"
    (tmp_path / "sel" / "question.json").write_text("{}")
    assert title_of(trial) == "sel/trials/ctde-team" and title_of(tmp_path / "sel" / "best") == "sel/best"


def test_no_thread_is_left_behind(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    measure(run, (10,))
    ended(following(run, replace(Csv())))
    assert not [t for t in threading.enumerate() if t.name == "sink csv"]
