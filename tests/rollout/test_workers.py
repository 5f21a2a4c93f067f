"""Worker processes: the same rows however many they are, every fault survived and counted or refused, nothing left behind."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from marlstone.core import distributions as dist
from marlstone.core.errors import UserError
from marlstone.core.spec_json import spec_from_json, spec_to_json
from marlstone.core.types import Group, Leaf, Metric, Spec
from marlstone.envs.guards import Guards
from marlstone.envs.make import make
from marlstone.rollout.env_stepper import describe_error
from marlstone.rollout.worker_pool import EnvironmentFailed, Workers

EXAMPLES = Path(__file__).parents[1] / "envs" / "host_examples.py"
LBF = "gymnasium:lbforaging?id=Foraging-8x8-2p-2f-coop-v3"


def toy(**options):
    return f"{EXAMPLES}:toy?" + "&".join(f"{k}={v}" for k, v in options.items())


def idle(workers):
    """An action for everyone: the first."""
    out = []
    for g in workers.spec.groups:
        tail = {"Discrete": (), "Box": (g.space.width,), "MultiDiscrete": (len(getattr(g.space, "sizes", ())),)}[type(g.space).__name__]
        out.append(np.zeros((workers.b, g.count, *tail), np.float32 if "Box" in str(g.space) else np.int32))
    return tuple(out)


def roll(workers, steps, seed=0):
    """Rows from `init` on, at random among what is legal everywhere: the same whatever the number of workers."""
    rng = np.random.default_rng(seed)
    _, row = workers.init(range(workers.b))
    rows = [row]
    for _ in range(steps):
        action = tuple(rng.integers(0, 2, x.shape).astype(x.dtype) for x in idle(workers))
        rows.append(workers.step(None, action)[1])
    return rows


def gone(pid):
    """Whether a process has ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def until(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@pytest.mark.parametrize(
    ("name", "package"), [(LBF, "lbforaging"), (toy(n=3, length=3), "numpy"), ("pettingzoo:mpe2.simple_speaker_listener_v4", "mpe2")]
)
def test_rows_do_not_depend_on_the_number_of_workers(name, package):
    pytest.importorskip(package, reason="comes with an optional part")
    many = []
    for workers, b in ((1, 5), (2, 5), (3, 5)):
        with Workers(name, b, num_workers=workers) as w:
            many.append(roll(w, 60))
    for rows in many[1:]:
        for mine, theirs in zip(many[0], rows, strict=True):
            jax.tree.map(np.testing.assert_array_equal, mine, theirs)


def test_the_row_after_an_end_is_a_reset_row_with_another_seed():
    with Workers(toy(length=3, end="truncate"), 2) as w:
        assert w.spec == make(toy()).spec
        rows = roll(w, 8)
    assert all(jax.tree.leaves(jax.tree.map(lambda x: x.shape[0] == 2, rows)))
    np.testing.assert_array_equal([r.first[0] for r in rows], [1, 0, 0, 0, 1, 0, 0, 0, 1])
    np.testing.assert_array_equal([r.last[0] for r in rows], [0, 0, 0, 1, 0, 0, 0, 1, 0])
    np.testing.assert_array_equal([r.team_reward[0] for r in rows], [0, 2, 4, 6, 0, 2, 4, 6, 0])
    assert all((r.discount == 1).all() and (r.team_discount == 1).all() for r in rows)
    seeds = {float(r.obs[0]["obs"][i, 0, 2]) for r in rows for i in range(2) if r.first[i]}
    assert len(seeds) == 6  # three episodes, two environments


def test_termination_arrives_as_termination():
    with Workers(toy(length=3, end="terminate"), 1) as w:
        rows = roll(w, 4)
    assert (rows[3].discount == 0).all() and rows[3].team_discount == 0 and (rows[4].discount == 1).all()


def test_rows_are_copies_and_halves_can_be_interleaved():
    with Workers(toy(length=9), 2) as left, Workers(toy(length=9), 2) as right:
        for w in (left, right):
            w.init(range(2))
        left.send(idle(left))
        right.send(idle(right))
        one = left.receive()
        left.send(idle(left))
        two = right.receive()
        three = left.receive()
        assert one.team_reward[0] == two.team_reward[0] == 2 and three.team_reward[0] == 4
        with pytest.raises(RuntimeError, match="receive"):
            left.send(idle(left))
            left.send(idle(left))
        left.receive()
        with pytest.raises(ValueError, match="shape"):
            right.send((np.zeros((1, 2), np.int32),))


@pytest.mark.parametrize("keys", [jax.random.split(jax.random.key(0), 3), jax.random.split(jax.random.PRNGKey(0), 3), [1, 2, 3]])
def test_keys_of_every_kind_seed_environments_apart(keys):
    with Workers(toy(), 3) as w:
        _, one = w.init(keys)
        _, two = w.init(keys)
        seeds = one.obs[0]["obs"][:, 0, 2]
        assert len(set(seeds.tolist())) == 3
        np.testing.assert_array_equal(seeds, two.obs[0]["obs"][:, 0, 2])
        with pytest.raises(ValueError, match="one per environment"):
            w.init([1, 2])


def test_workers_never_import_jax(tmp_path):
    probe = tmp_path / "probe.py"
    probe.write_text(
        f"import importlib.util, sys\nspec = importlib.util.spec_from_file_location('toys', {str(EXAMPLES)!r})\n"
        "toys = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(toys)\n"
        "class Env(toys.Toy):\n"
        "    def step(self, actions):\n"
        "        out = super().step(actions)\n"
        "        assert 'jax' not in sys.modules and 'equinox' not in sys.modules\n"
        "        return out\n"
        "def env():\n    return Env()\n"
    )
    with Workers(f"{probe}:env", 1, guards=Guards(on_bad="refuse")) as w:
        roll(w, 3)


@pytest.mark.parametrize(
    ("fault", "counted"),
    [
        ("blank", "nan_observation"), ("endless", "nan_reward"), ("shape", "wrong_shape"), ("dtype", "wrong_dtype"),
        ("reward_dtype", "wrong_dtype"),
        ("bounds", "reward_bounds"), ("raise", "raised"), ("sysexit", "raised"), ("exit", "died"), ("hang", "hung"),
    ],
)  # fmt: skip
def test_every_fault_is_survived_and_counted(fault, counted):
    with Workers(toy(fault=fault, at=2), 2, guards=Guards(reward_bounds=(-100, 100), timeout=0.5), num_workers=1) as w:
        rows = roll(w, 4 if counted in ("died", "hung") else 10)
        counts = w.counts
        assert counts[counted] > 0 and sum(counts.values()) == counts[counted]
        assert all(np.isfinite(x).all() for r in rows for x in jax.tree.leaves(r))
        assert all(np.abs(r.reward).max() <= 100 for r in rows)
        if counted in ("raised", "died", "hung"):
            # The step that failed became a reset: step 1 was the last good one, and no termination was reported.
            assert rows[2].first.all() and not rows[2].reward.any() and (rows[2].discount == 1).all() and not rows[1].last.any()
            assert rows[3].team_reward[0] == 2 and w.notes and w.notes[-1]["fault"] == counted
            assert (rows[2].obs[0]["obs"][:, 0, 2] != rows[0].obs[0]["obs"][:, 0, 2]).all()  # another episode, another seed
        else:
            assert not rows[2].first.any()
        assert w.restarts == (counts[counted] if counted in ("died", "hung") else 0)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("blank", ("nan_observation", "walker_1", "obs", "nan")), ("endless", ("nan_reward", "walker_1", "reward", "inf")),
        ("shape", ("wrong_shape", "walker_1", "(5,)", "(3,)")), ("dtype", ("wrong_dtype", "walker_1", "numbers")),
        ("bounds", ("reward_bounds", "walker_1", "1e+09")), ("raise", ("environment ", "lost its mind", "host_examples.py")),
        ("exit", ("died", "status 3", "survive")), ("spin", ("hung", "0.4 s", "survive")),
    ],
)  # fmt: skip
def test_every_fault_is_refused_by_name(fault, words):
    guards = Guards(on_bad="refuse", reward_bounds=(-100, 100), timeout=0.4)
    with Workers(toy(fault=fault, at=2), 2, guards=guards) as w, pytest.raises((EnvironmentFailed, UserError)) as error:
        roll(w, 4)
    for word in words:
        assert word in str(error.value), str(error.value)


def test_a_killed_worker_is_started_anew():
    with Workers(toy(length=50), 4) as w:
        roll(w, 2)
        os.kill(w._processes[1].process.pid, signal.SIGKILL)
        _, row = w.step(None, idle(w))
        np.testing.assert_array_equal(row.first, [False, False, True, True])
        assert w.counts["died"] == 1 and w.restarts == 1
        assert not w.step(None, idle(w))[1].first.any()


def test_a_stopped_worker_is_noticed():
    with Workers(toy(length=50), 2, guards=Guards(timeout=0.4)) as w:
        roll(w, 2)
        os.kill(w._processes[0].process.pid, signal.SIGSTOP)
        assert w.step(None, idle(w))[1].first.tolist() == [True, False]
        assert w.counts["hung"] == 1


def test_slow_environments_are_not_hung():
    """The deadline is one environment's: four steps of 0.2 s pass under a timeout of 0.5 s."""
    with Workers(toy(sleep=0.2, length=50), 4, guards=Guards(timeout=0.5), num_workers=1) as w:
        roll(w, 1)
        assert not any(w.counts.values())


def test_a_reset_may_take_longer_than_a_step():
    """Episodes of three steps whose resets take 0.8 s, under a timeout of 0.5 s for steps."""
    with Workers(toy(load=0.8, length=3), 1, guards=Guards(timeout=0.5), num_workers=1) as w:
        assert sum(bool(row.first[0]) for row in roll(w, 6)) > 0
        assert not any(w.counts.values())


def test_restarts_are_a_budget():
    with Workers(toy(fault="raise", at=2), 1, guards=Guards(restarts=3)) as w, pytest.raises(EnvironmentFailed, match="restarts=3"):
        roll(w, 20)


def test_a_reset_that_never_works_stops_with_its_reason():
    with Workers(toy(fault="reset"), 1) as w, pytest.raises(EnvironmentFailed, match="reset broke"):
        roll(w, 1)


def test_names_and_constructors_that_fail_say_so():
    with pytest.raises(UserError, match="did you mean 'toy'"):
        Workers(f"{EXAMPLES}:toys", 2)
    with pytest.raises(UserError, match="walker_0"):
        Workers(f"{EXAMPLES}:unseeded", 2)
    with pytest.raises(UserError, match="name it jax:"):
        Workers(f"{EXAMPLES}:jax_env", 1)
    with pytest.raises(ValueError, match="at least 1"):
        Workers(LBF, 0)


def test_images_and_dicts_cross_processes():
    with Workers(f"{EXAMPLES}:pictures", 3) as w:
        rows = roll(w, 3)
        leaves = rows[-1].obs[0]
        assert leaves["camera/front"].shape == (3, 2, 16, 12, 3) and leaves["camera/front"].dtype == np.uint8
        assert len({x.tobytes() for x in leaves["camera/front"][:, 0]}) == 3


@pytest.mark.skipif(importlib.util.find_spec("libsumo") is None, reason="needs the extra sumo")
def test_each_simulation_of_traffic_has_a_process_of_its_own():
    with Workers("sumo:cologne3?seconds=50", 2, num_workers=1) as w:
        assert w.workers == 2
        rows = roll(w, 11)
        assert rows[10].last.all() and rows[11].first.all() and (rows[10].team_discount == 1).all()
        assert set(rows[0].metrics) == set(w.spec.metrics) == {"mean_waiting_time", "stopped"}
        assert not any(w.counts.values())


def test_nothing_is_left_behind():
    before = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    w = Workers(toy(), 2)
    pids, descriptors = [p.process.pid for p in w._processes], list(w._descriptors)
    roll(w, 2)
    w.send(idle(w))
    w.close()
    w.close()
    assert all(gone(p) for p in pids)
    for fd in descriptors:
        with pytest.raises(OSError):
            os.fstat(fd)
    assert (set(os.listdir("/dev/shm")) if before else set()) <= before
    with pytest.raises(RuntimeError, match="closed"):
        w.step(None, idle(w))


@pytest.mark.parametrize("state", ["idle", "hang", "spin"])
def test_no_orphans_when_the_parent_is_killed(state):
    fault = "none" if state == "idle" else state
    code = (
        "import sys, time, numpy as np\nfrom marlstone.rollout.worker_pool import Workers\n"
        f"w = Workers({toy(fault=fault, at=2)!r}, 2)\nw.init([1, 2])\nact = (np.zeros((2, 2), np.int32),)\nw.step(None, act)\n"
        "if sys.argv[1] != 'idle': w.send(act)\n"
        "print(*[p.process.pid for p in w._processes], flush=True)\ntime.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", code, state], stdout=subprocess.PIPE, text=True, env=environment) as parent:
        pids = [int(x) for x in parent.stdout.readline().split()]
        assert len(pids) == 2 and not any(gone(p) for p in pids)
        time.sleep(0.1)
        parent.kill()
    assert until(lambda: all(gone(p) for p in pids))


def test_a_spec_survives_json():
    group = Group(
        "g",
        ("a", "b"),
        {"x": Leaf("vector", (4,)), "eye": Leaf("image", (8, 8, 3), "uint8")},
        dist.Box(2),
        ("s", "t"),
        {"x": (3, 4)},
        (0.0, 0.0),
    )
    other = Group("h", ("c",), {"x": Leaf("vector", (1,))}, dist.MultiDiscrete((2, 3)), clock=4)
    spec = Spec((group, other), 7, 50, {"m": Metric("down", "mean")})
    assert spec_from_json(spec_to_json(spec)) == spec


def test_a_package_that_we_miss_is_the_askers_to_install_and_one_that_user_code_misses_is_not():
    ours = describe_error(ModuleNotFoundError("environment 'sumo:cologne3' needs libsumo: pip install marlstone[sumo]"), 0)
    theirs = describe_error(ModuleNotFoundError("No module named 'torch'", name="torch"), 0)
    assert ours["mistake"] and ours["text"].startswith("environment 'sumo") and not theirs["mistake"]
