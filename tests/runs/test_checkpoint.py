"""Checkpoints: exact, atomic, and refused with a name and an offer when one bit is not as written."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marlstone.core.errors import UserError
from marlstone.core.records import record
from marlstone.runs.arrays import ARRAYS, MANIFEST
from marlstone.runs.checkpoint import (
    CheckpointError,
    discard_after,
    latest_good,
    listed,
    load,
    newest,
    read,
    save,
    verify,
)
from marlstone.runs.leaves import fit, leaves, parameters_sha256


@record
class Nets:
    w: Any
    b: Any


@record
class State:
    nets: tuple[Nets, ...]
    key: Any
    more: dict[str, Any]
    memory: Any = None


def state(seed: int = 0, width: int = 4) -> State:
    random = np.random.default_rng(seed)
    array = lambda *s: jnp.asarray(random.normal(size=s), jnp.float32)
    more = {
        "half": array(3).astype(jnp.bfloat16),
        "count": np.int64(2**40 + seed),
        "python": 7 + seed,
        "flag": True,
        "rate": 0.1,
        "host": np.asfortranarray(random.normal(size=(3, 5))),
        "empty": jnp.zeros((0, 2)),
        "keys": jax.random.split(jax.random.key(seed), (2, 3)),
        "old_key": jax.random.PRNGKey(seed),
    }
    return State((Nets(array(width, 3), None), Nets(array(2, 3), array(3))), jax.random.key(seed, impl="rbg"), more)


def test_round_trip_is_exact(tmp_path: Path) -> None:
    meta = {"steps": [1, 2], "lr": 0.1, "name": "ü"}
    path = save(tmp_path, 100, state(), meta)
    tree, found = load(path, state(1))
    assert found == meta
    assert parameters_sha256(tree) == parameters_sha256(state()) != parameters_sha256(state(1))
    assert jax.tree.structure(tree) == jax.tree.structure(state())
    for (name, a), b in zip(leaves(tree).items(), jax.tree.leaves(state()), strict=True):
        assert a.dtype == (str(b.dtype) if hasattr(b, "dtype") else str(np.asarray(b).dtype)), name
    assert type(tree.more["python"]) is int and type(tree.more["flag"]) is bool and type(tree.more["count"]) is np.int64
    assert type(tree.more["host"]) is np.ndarray and tree.nets[0].b is None
    assert jax.random.key_impl(tree.key) == "rbg"
    assert jnp.array_equal(jax.random.normal(tree.more["keys"][1, 2]), jax.random.normal(state().more["keys"][1, 2]))


def test_like_may_be_shapes_only(tmp_path: Path) -> None:
    make = lambda: {"w": jnp.ones((2, 3)), "key": jax.random.key(3)}
    path = save(tmp_path, 0, make(), {})
    tree, _ = load(path, jax.eval_shape(make))
    assert parameters_sha256(tree) == parameters_sha256(make())


def test_keeps_the_newest(tmp_path: Path) -> None:
    for step in (5, 10, 1_000_000_000_000, 20):
        save(tmp_path, step, {"x": jnp.ones(step % 7)}, {}, keep=3)
    assert [p.name for p in listed(tmp_path)] == ["step-000000000010", "step-000000000020", "step-1000000000000"]
    assert latest_good(tmp_path).step == newest(tmp_path).step == 1_000_000_000_000
    assert [p.name for p in discard_after(tmp_path, 10)] == ["step-000000000020", "step-1000000000000"]
    assert latest_good(tmp_path).step == 10


def test_the_same_step_is_replaced(tmp_path: Path) -> None:
    save(tmp_path, 5, {"x": jnp.zeros(2)}, {})
    path = save(tmp_path, 5, {"x": jnp.ones(2)}, {})
    assert load(path, {"x": jnp.zeros(2)})[0]["x"].sum() == 2


@pytest.mark.parametrize(
    ("like", "says"),
    [
        (lambda: state(width=5), "nets.0.w' has shape (4, 3), this configuration needs (5, 3)"),
        (lambda: {"nets": 1}, "'nets'"),
        (lambda: State(state().nets, state().key, state().more, jnp.zeros(1)), "lacks 'memory'"),
        (lambda: State(state().nets, jax.random.key(0), state().more), "key<"),
    ],
)
def test_another_configuration_is_refused(tmp_path: Path, like: Any, says: str) -> None:
    path = save(tmp_path, 1, state(), {})
    with pytest.raises(CheckpointError) as error:
        load(path, like())
    assert says in str(error.value) and str(path) in str(error.value)


def test_leaves_that_are_no_arrays_are_refused(tmp_path: Path) -> None:
    for bad in ("text", object(), np.array([None])):
        with pytest.raises(UserError, match="'x'"):
            save(tmp_path, 1, {"x": bad}, {})
    assert not list(tmp_path.iterdir())


def test_fit_takes_what_fits(tmp_path: Path) -> None:
    path = save(tmp_path, 1, {"a": jnp.ones(3), "b": jnp.ones(2), "c": jnp.ones(1)}, {})
    tree, taken, kept = fit(read(path), {"a": jnp.zeros(3), "b": jnp.zeros(4), "d": jnp.zeros(1)})
    assert (taken, kept) == (["a"], ["b", "d"]) and tree["a"].sum() == 3 and tree["b"].sum() == 0


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    save(folder, 1, state(1), {"n": 1})
    save(folder, 2, state(2), {"n": 2})
    return folder


def _damaged(folder: Path, name: str, harm: Any) -> None:
    """Harm a file of the newest checkpoint; it must be refused by name, and the older one offered and found."""
    file = folder / "step-000000000002" / name
    before = file.read_bytes()
    try:
        harm(file, before)
        for act in (lambda: load(file.parent, state()), lambda: newest(folder), lambda: verify(file.parent)):
            with pytest.raises(CheckpointError) as error:
                act()
            text = str(error.value)
            assert str(file) in text and f"resume from {folder / 'step-000000000001'} instead" in text and "\n" not in text
        assert latest_good(folder).meta == {"n": 1}
    finally:
        file.write_bytes(before)


fuzz = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@fuzz
@given(name=st.sampled_from([ARRAYS, MANIFEST]), where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_flipped_bit(two: Path, name: str, where: float, bit: int) -> None:
    def flip(file: Path, data: bytes) -> None:
        i = int(where * len(data))
        file.write_bytes(data[:i] + bytes([data[i] ^ (1 << bit)]) + data[i + 1 :])

    _damaged(two, name, flip)


@fuzz
@given(name=st.sampled_from([ARRAYS, MANIFEST]), where=st.floats(0, 1, exclude_max=True))
def test_truncated(two: Path, name: str, where: float) -> None:
    _damaged(two, name, lambda file, data: file.write_bytes(data[: int(where * len(data))]))


@pytest.mark.parametrize("name", [ARRAYS, MANIFEST])
@pytest.mark.parametrize("content", [None, b"", b"[]", b"{}", b'{"manifest_sha256": NaN}', b"[" * 3000])
def test_missing_or_nonsense(two: Path, name: str, content: bytes | None) -> None:
    _damaged(two, name, lambda file, _: file.unlink() if content is None else file.write_bytes(content))


def test_nothing_good_left(tmp_path: Path) -> None:
    path = save(tmp_path, 1, {"x": jnp.ones(2)}, {})
    (path / ARRAYS).unlink()
    with pytest.raises(CheckpointError, match="no other checkpoint"):
        newest(tmp_path)
    assert latest_good(tmp_path) is None
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        newest(tmp_path / "none")


WRITER = """
import sys, numpy as np
from pathlib import Path
from marlstone.runs.checkpoint import save
for step in range(1, 100000):
    save(Path(sys.argv[1]), step, {"x": np.full(300_000, step, np.float32)}, {"step": step})
    print(step, flush=True)
"""


def test_kill_while_writing_leaves_the_last_good(tmp_path: Path) -> None:
    """SIGKILL at random moments of a loop of saves: what `save` had returned from is there, whole."""
    dice = random.Random(0)
    for trial in range(3):
        folder = tmp_path / str(trial)
        with subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True, env=os.environ) as writer:
            assert writer.stdout is not None
            for _ in range(dice.randint(2, 6)):
                writer.stdout.readline()
            time.sleep(dice.uniform(0, 0.02))
            writer.send_signal(signal.SIGKILL)
            said = [int(line) for line in writer.stdout.read().split()]
        good = latest_good(folder)
        assert good is not None and good.step >= max(said, default=1) and good.meta == {"step": good.step}
        assert (load(good.path, {"x": np.zeros(300_000, np.float32)})[0]["x"] == good.step).all()
        save(folder, 10**6, {"x": np.zeros(1)}, {})
        assert {p.name.split("-")[0] for p in folder.iterdir()} == {"step"}
