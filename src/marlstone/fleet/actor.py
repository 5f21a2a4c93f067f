"""An actor: latest -> unroll -> put, for ever. Its environments are its own; it waits for nobody but the learner's queue.

`HostActor` steps environments that only Python can step and acts in NumPy: its process never imports JAX. `ReferenceActor`
runs the fused runtime's own unroll, compiled, for environments written in JAX and for policies that NumPy cannot run.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from marlstone.comms.plain import channel_to_json
from marlstone.core.records import replace
from marlstone.core.spec_json import spec_to_json
from marlstone.core.types import Spec, Step, Trajectory
from marlstone.envs.faults import fault_to_json
from marlstone.envs.guards import FAULTS
from marlstone.envs.own_metrics import metric_to_json
from marlstone.fleet.payload import Parcel, Weights, leaves
from marlstone.fleet.status_page import Page
from marlstone.fleet.transport import ActorEnd
from marlstone.policy.numpy_actor import FastActor
from marlstone.rollout.env_stepper import EnvStepper, Note
from marlstone.rollout.shared_memory import StepBlock, anonymous, arrays, map_step
from marlstone.rollout.sides import Sides
from marlstone.tools import toolbox_to_json

if TYPE_CHECKING:
    from marlstone.config import RunConfig

ROOM = 5.0  # seconds to ask for room in the queue before asking again


@dataclass(frozen=True)
class Post:
    """Where an actor stands: training seed `index` and its number `seed`, the actor, which of its lives, environments, steps a
    trajectory."""

    index: int
    seed: int
    actor: int
    life: int
    envs: int
    length: int


class Unrolls(Protocol):
    """What an actor does between fetching weights and putting a parcel."""

    def hello(self) -> dict[str, Any]:
        """What the learner must know before it can send weights: `spec`, `masked`."""

    def load(self, weights: Weights) -> None:
        """Act by these weights from the next unroll on."""

    def unroll(self, seq: int) -> tuple[list[np.ndarray], dict[str, Any]]:
        """Arrays of a batch of trajectories `[envs t ...]` without the critics' memory, and figures."""


def shipped(trajectory: Trajectory) -> list[Any]:
    """A batch of trajectories as it travels: the critics' memory is the learner's own affair."""
    memory = trajectory.memory
    return leaves(replace(trajectory, memory=memory if memory is None else replace(memory, critic=(), q=())))


class HostActor:
    """Environments of its own, in this process, as `EnvStepper.of` reads them, and a policy in NumPy. `retry`: seeds of episodes to begin
    with; `skipped`: seeds never to begin; `parts`: classes of the user's own bodies and encoders."""

    def __init__(
        self, stepping: dict[str, Any], post: Post, page: Page, retry: tuple[int, ...] = (), skipped: frozenset[int] = frozenset(),
        parts: tuple[type, ...] = (),
    ) -> None:  # fmt: skip
        self.parts = parts
        self.post, self.page, self.skipped, self.retry = post, page, skipped, deque(retry)
        self.notes: list[Note] = []
        page.doing("building environments")
        self.stepper = EnvStepper.of(stepping, self.notes.append)
        self.masked = tuple(self.stepper.masked())
        self.block = StepBlock(anonymous(), self.stepper.spec, post.envs, self.masked, 1, create=True)
        self.stepper.attach(self.block, 0)
        for i in range(post.envs):
            entropy = [post.seed, post.actor, post.life, i]
            self.block.seed[i] = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
        self._stream, self.stepper.next_seed = self.stepper.next_seed, self._next_seed  # type: ignore[method-assign]
        self.stepper.watch = self._watch
        self.scenarios = [-1] * post.envs
        if post.actor == post.life == 0:
            self.stepper.probe()
            page.doing("building environments")
        self.random = np.random.default_rng(np.random.SeedSequence([post.seed, post.actor, post.life]))
        self.counted: np.ndarray = np.zeros(len(FAULTS), np.int64)
        self.faulty: np.ndarray = np.zeros(2, np.int64)
        self.tally = Tallies(post.envs, self.stepper.spec)
        self.policy: FastActor | None = None
        self.going = False
        self.memory: Any = None

    def hello(self) -> dict[str, Any]:
        """The groups that its environments have, as JSON, and which of them have masks: the learner cannot know them otherwise."""
        return {"spec": spec_to_json(self.stepper.spec), "masked": list(self.masked)}

    def load(self, weights: Weights) -> None:
        """Act by these weights from the next unroll on; the first ones say how they are read."""
        if self.policy is None:
            assert weights.about is not None
            self.policy = FastActor(weights.about, self.parts)
            self.memory = self.policy.memory(self.post.envs)
            self.memory = replace(self.memory, critic=(), q=())
        self.policy.load(weights.arrays)

    def unroll(self, seq: int) -> tuple[list[np.ndarray], dict[str, Any]]:
        """`post.length` steps of every environment, episode after episode; `seq` does not matter here: randomness goes on."""
        assert self.policy is not None
        length, policy, now = self.post.length, self.policy, self.block.step
        if not self.going:
            self.stepper.begin()
            self.stepper.advance()
            self.going = True
        noise = policy.noise(self.random, (length, self.post.envs))
        begun, heads, actions = self.memory, [], []
        steps = map_step(lambda x: np.empty((x.shape[0], length + 1, *x.shape[1:]), x.dtype), now)
        pairs = list(zip(arrays(steps, now), arrays(now, now), strict=True))

        def keep(t: int) -> None:
            for kept, x in pairs:
                kept[:, t] = x

        for t in range(length):
            keep(t)
            self.page.doing("acting")
            action, emitted, head, self.memory = policy.act(now, self.memory, tuple(z[t] for z in noise))
            heads.append(head)
            actions.append(action)
            for mine, given in zip(self.block.action, emitted, strict=True):
                np.copyto(mine, given, casting="same_kind")
            self.stepper.advance()
            self.tally.add(now)
        keep(length)
        along = lambda xs: tuple(np.stack(x, 1) for x in zip(*xs, strict=True))  # per group, `[b t n_g ...]`
        took = along(actions)
        logp = policy.log_prob(along(heads), tuple(x if x is None else x[:, :-1] for x in steps.legal), took)
        return shipped(Trajectory(steps, took, logp, begun)), self._figures(steps)

    def _watch(self, k: int, fresh: bool) -> None:
        """Environment k is about to be stepped, or begun anew."""
        self.page.at(k, -1 if fresh else self.scenarios[k])
        self.page.doing("resetting" if fresh else "stepping")

    def _next_seed(self, i: int) -> int:
        seed = self.retry.popleft() if self.retry else self._stream(i)
        while seed in self.skipped:
            seed = self._stream(i)
        self.scenarios[i] = seed
        self.page.at(i, seed)
        return seed

    def _figures(self, step: Step) -> dict[str, Any]:
        met = self.block.counts[0] - self.counted
        self.counted = self.block.counts[0].copy()
        faulty, self.faulty = self.block.progress[0][3:] - self.faulty, self.block.progress[0][3:].copy()
        notes, self.notes[:] = [{k: n.get(k) for k in ("fault", "env", "text", "where")} for n in self.notes], []
        return {
            "steps": int((~step.first[:, 1:]).sum()), "finished": self.tally.take(),
            "faults": {k: int(n) for k, n in zip(FAULTS, met, strict=True) if n}, "notes": notes,
            "faulty_steps": int(faulty[0]), "broken_episodes": int(faulty[1]),
        }  # fmt: skip


class Tallies:
    """Sums over the episodes that ended, as `core.episodes.tally` makes them, step by step in NumPy."""

    def __init__(self, envs: int, spec: Spec) -> None:
        self.declared = spec.metrics
        zeros = lambda: np.zeros(envs)
        self.total, self.length, self.metrics = zeros(), zeros(), {k: zeros() for k in self.declared}
        self.sums = self._none()

    def _none(self) -> dict[str, Any]:
        return {"episodes": 0, "team_return": 0.0, "length": 0.0, "metrics": dict.fromkeys(self.declared, 0.0)}

    def add(self, step: Step) -> None:
        """A step that answered an action, `[b ...]`."""
        first, last = step.first, step.last
        if np.count_nonzero(first):
            self.total[first], self.length[first] = 0.0, -1.0
        self.total += step.team_reward
        self.length += 1
        for k, m in self.declared.items():
            summed = np.where(first, 0, self.metrics[k]) + np.where(first, 0, step.metrics[k])
            self.metrics[k] = step.metrics[k].astype(float) if m.reduce == "last" else summed
        if np.count_nonzero(last):
            self.sums["episodes"] += int(last.sum())
            self.sums["team_return"] += float(self.total[last].sum())
            self.sums["length"] += float(self.length[last].sum())
            for k, m in self.declared.items():
                over = np.maximum(self.length, 1) if m.reduce == "mean" else 1
                self.sums["metrics"][k] += float((self.metrics[k] / over)[last].sum())

    def take(self) -> dict[str, Any]:
        """What was summed since the last time."""
        out, self.sums = self.sums, self._none()
        return out


class ReferenceActor:
    """The fused runtime's unroll of an environment written in JAX. Actor 0 draws as the fused runtime does."""

    def __init__(self, config: "RunConfig", post: Post, page: Page) -> None:
        import jax

        from marlstone.algorithm import Algorithm
        from marlstone.core.seeds import component_key
        from marlstone.envs.make import make
        from marlstone.envs.vectorized import Vectorized
        from marlstone.envs.wrappers import wrap_env
        from marlstone.rollout.unroll import RolloutState, draw_noise, unroll

        self.post, self.page = post, page
        page.doing("building environments")
        managers, channel = config.architecture.managers(), config.comms.training
        env = wrap_env(make(config.env), managers, config.faults, config.metrics, Sides.of(config), channel, config.toolbox)
        self.env = Vectorized(env, post.envs, config.guards)
        self.algorithm = Algorithm(
            env.spec, config.architecture, config.credit, config.learner, channel=config.channel, constraint=config.cost
        )
        mine = lambda key: key if post.actor == post.life == 0 else jax.random.fold_in(jax.random.fold_in(key, post.actor), post.life)
        self.key = mine(component_key(post.seed, "act"))
        running, step = jax.jit(lambda key: self.env.init(jax.random.split(key, post.envs)))(mine(component_key(post.seed, "environment")))
        self.acting = RolloutState(running, step, self.algorithm.memory(post.envs))
        self.drawn = jax.jit(lambda key, seq: draw_noise(self.algorithm, jax.random.fold_in(key, seq), post.length, post.envs))
        self.program = jax.jit(lambda policy, acting, noise, keys: unroll(self.env, self.algorithm, policy, acting, noise, keys))
        policy = jax.eval_shape(lambda key: self.algorithm.init(key, None).policy, jax.random.key(0))
        self.structure = jax.tree.structure(vars(policy))
        self.tally, self.faults = Tallies(post.envs, env.spec), dict.fromkeys(running.faults, 0)
        self.policy: Any = None

    def hello(self) -> dict[str, Any]:
        """Nothing: the learner makes the same environment itself."""
        return {"spec": None, "masked": None}

    def load(self, weights: Weights) -> None:
        """Act by these weights from the next unroll on."""
        import jax

        from marlstone.algorithm import Policy

        self.policy = Policy(**jax.tree.unflatten(self.structure, [jax.numpy.asarray(x) for x in weights.arrays]))

    def unroll(self, seq: int) -> tuple[list[np.ndarray], dict[str, Any]]:
        """`post.length` steps by the compiled program; `seq` numbers the draws, so that actor 0 repeats what the fused backend draws."""
        import jax

        self.page.doing("stepping")
        noise, keys = self.drawn(self.key, seq)
        self.acting, trajectory = self.program(self.policy, self.acting, noise, keys)
        if (fault := self.env.refusal(self.acting.env)) is not None:
            raise fault
        trajectory = jax.device_get(trajectory)
        for t in range(1, self.post.length + 1):
            self.tally.add(jax.tree.map(lambda x: x[:, t], trajectory.step))  # noqa: B023
        now = {k: int(v) for k, v in self.acting.env.faults.items()}
        met, self.faults = {k: n - self.faults[k] for k, n in now.items() if n > self.faults[k]}, now
        figures = {"steps": int(trajectory.real.sum()), "finished": self.tally.take(), "faults": met, "notes": []}
        return [np.asarray(x) for x in shipped(trajectory)], figures


@dataclass
class Actor:
    """The loop, turn by turn, or `run` for as long as `going()`. `end` may be any `ActorEnd`."""

    post: Post
    unrolls: Unrolls
    end: ActorEnd
    page: Page
    version: int = -1
    seq: int = 0

    def fetch(self, patience: float) -> bool:
        """Take newer weights, if there are some; whether there are any to act by."""
        new = self.end.latest(self.version, patience)
        if new is not None:
            self.unrolls.load(new)
            self.version = new.version
            self.page.acts_by(new.version)
        return self.version >= 0

    def unroll(self) -> Parcel:
        """One unroll as a parcel with its name and its figures."""
        began = time.perf_counter()
        arrays, message = self.unrolls.unroll(self.seq)
        message["seconds"] = time.perf_counter() - began
        p = self.post
        parcel = Parcel(p.index, p.actor, p.life, self.seq, self.version, p.envs, arrays, message)
        self.seq += 1
        self.page.count(message["steps"], p.envs)
        return parcel

    def deliver(self, parcel: Parcel, going: Callable[[], bool] = lambda: True) -> str:
        """Put it, asking again for room and after damage."""
        self.page.doing("sending")
        while going():
            became = self.end.put(parcel, ROOM)
            if became in ("accepted", "duplicate"):
                return became
            self.page.still("waiting for room" if became == "full" else "sending")
        return "full"

    def run(self, going: Callable[[], bool] = lambda: True) -> None:
        """Fetch, unroll, deliver, for as long as `going()`."""
        self.page.doing("waiting for weights")
        while going() and not self.fetch(1.0):
            self.page.still("waiting for weights")
        while going():
            parcel = self.unroll()
            self.deliver(parcel, going)
            self.page.doing("waiting for weights")
            self.fetch(0.0)


def setup_of(config: "RunConfig", post: Post, retry: tuple[int, ...], skipped: frozenset[int], text: str | None) -> dict[str, Any]:
    """All an actor's process is told, as JSON. `text`: the whole configuration, for a reference actor."""
    managers = config.architecture.managers()
    stepping = {
        "name": config.env, "options": {}, "low": 0, "high": post.envs,
        "guards": asdict(config.guards), "managers": managers and asdict(managers), "faults": [fault_to_json(f) for f in config.faults],
        "metrics": [metric_to_json(m) for m in config.metrics], "state": config.architecture.central or bool(config.metrics),
        "sides": Sides.of(config).plain(), "channel": channel_to_json(config.comms.training),
        "tools": toolbox_to_json(config.toolbox),
    }  # fmt: skip
    told = {"stepping": stepping, "post": asdict(post), "retry": list(retry), "skipped": sorted(skipped), "config": text}
    return {**told, "parts": own_parts(config)}


def own_parts(config: "RunConfig") -> list[str]:
    """The user's own bodies and encoders, by file and class: what an actor in NumPy loads before it is sent a policy that names them."""
    from marlstone.config.kinds import name_of

    fields = vars(config.architecture).values()
    parts = [x for value in fields for x in (value.values() if isinstance(value, dict) else (value,)) if is_dataclass(x)]
    return [name_of(x) for x in parts if type(x).__module__.partition(".")[0] != "marlstone"]
