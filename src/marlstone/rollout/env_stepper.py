"""Environments that only Python can step, a few in one process: steps into a block, broken ones replaced, bad numbers repaired.

Worker processes of the host runtime and actors of the fleet step by this alone. JAX is never imported.
"""

import traceback
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from marlstone.comms import Channel
from marlstone.comms.plain import channel_from_json
from marlstone.core.types import Spec, Step
from marlstone.envs.conformance import NonConforming, probe, raised_at
from marlstone.envs.faults import Fault, fault_from_json
from marlstone.envs.guards import FAULTS, INSTEAD, BadStep, Guards, is_sound, name_fault, refuse, sanitize
from marlstone.envs.make import make
from marlstone.envs.managed import Managers
from marlstone.envs.names import UnknownEnvironment
from marlstone.envs.own_metrics import metric_from_json
from marlstone.envs.protocol import HostEnv
from marlstone.envs.true_metrics import InfoMetrics
from marlstone.envs.wrappers import wrap_env
from marlstone.rollout.plain_steps import PlainSteps
from marlstone.rollout.shared_memory import StepBlock, map_step
from marlstone.rollout.sides import Sides, wiring_of
from marlstone.tools import Toolbox, toolbox_from_json

TRIES = 3  # consecutive resets that may fail before an environment is given up
NOTICE = "notice"  # the kind of a note that is no fault: what was settled while building, for a person to know
BROKEN = (Exception, SystemExit)  # whatever a user's environment raises is recorded, counted and answered
Note = dict[str, Any]


def episode_seed(base: int, episode: int) -> int:
    """Seed of an environment's episode, 31 bits: of base and episode alone, so that workers do not matter."""
    return int(np.random.SeedSequence([base, episode]).generate_state(1)[0] >> 1)


def describe_error(error: BaseException, env: int, fault: str = "raised") -> dict[str, Any]:
    """A fault's note of an error, for the parent process: kind, environment, text, place and trace. `mistake`: a message for the user is
    enough."""
    ours = type(error).__module__.startswith("marlstone.") or (isinstance(error, ModuleNotFoundError) and error.name is None)
    text = str(error) if ours else f"{type(error).__name__}: {error}"
    return {
        "fault": getattr(error, "fault", fault),
        "env": env,
        "text": text,
        "mistake": ours and isinstance(error, ValueError | ModuleNotFoundError),  # ours names no module: Python's own does
        "where": "" if ours else raised_at(error),
        "trace": "".join(traceback.format_exception(error)),
    }


class EnvStepper:
    """The environments `low` to `high - 1` of `b`, stepped one after another in this process. Once `attach`ed to a block, `advance` makes
    one step of each.

    Args:
      name: of the environment, as on the command line.
      options: more options.
      managers: put over each environment (None: none).
      faults: that each environment is stepped under.
      guards: what is a fault and what follows.
      low, high: which environments these are.
      report_note: called with a note of each fault of a new kind, and of each environment that was given up.
      state: whether anybody reads the environment's own state.
      metrics: of the user's own.
      sides: whose team it is, and who is played by frozen policies.
      channel: over which agents talk (None: they do not).
      tools: that agents have (None: none).

    Attributes:
      next_seed: `next_seed(i)` is the seed of environment i's next episode; may be replaced, by default from the block's `seed` and
        `episode`.
      watch: `watch(k, fresh)` is called before environment k of these is stepped, or begun anew; does nothing unless replaced.
    """

    def __init__(
        self,
        name: str,
        options: dict[str, Any],
        managers: Managers | None,
        faults: tuple[Fault, ...],
        guards: Guards,
        low: int,
        high: int,
        report_note: Callable[[Note], None],
        state: bool = True,
        metrics: tuple[Any, ...] = (),
        sides: Sides | None = None,
        channel: Channel | None = None,
        tools: Toolbox | None = None,
    ) -> None:
        self.name, self.options, self.managers, self.faults, self.guards = name, options, managers, faults, guards
        self.report_note, self.metrics, self.sides, self.channel, self.tools = report_note, metrics, sides, channel, tools
        self.survive, self.state = guards.on_bad == "survive", state
        self.low, self.high = low, high
        self.counts: np.ndarray = np.zeros(len(FAULTS), np.int64)
        self.faulty = np.zeros(high - low, bool)
        self.plain: PlainSteps | None = None  # of those that may be stepped plainly, once there is a block to write into
        self.adapters: list[Any] = [None] * (high - low)
        self.envs: list[HostEnv] = [self.build(k) for k in range(high - low)]
        self.watch: Callable[[int, bool], None] = lambda k, fresh: None
        self.begin()

    @classmethod
    def of(cls, setup: dict[str, Any], report_note: Callable[[Note], None]) -> "EnvStepper":
        """From a parent's JSON: `name`, `options`, `managers`, `faults`, `guards`, `low`, `high`, `state`, `metrics`, `sides`,
        `channel`, `tools`."""
        bounds = setup["guards"].pop("reward_bounds")
        guards = Guards(**setup["guards"], reward_bounds=None if bounds is None else tuple(bounds))
        managers = None if setup["managers"] is None else Managers(**setup["managers"])
        faults = tuple(fault_from_json(plain) for plain in setup["faults"])
        metrics = tuple(metric_from_json(plain) for plain in setup.get("metrics", ()))
        low, high = setup["low"], setup["high"]
        sides = Sides(**setup.get("sides") or {})
        channel = channel_from_json(setup["channel"]) if setup.get("channel") else None
        state, tools = setup["state"], toolbox_from_json(setup.get("tools"))
        return cls(setup["name"], setup["options"], managers, faults, guards, low, high, report_note, state, metrics, sides, channel, tools)

    @property
    def spec(self) -> Spec:
        """The spec of each of them, with managers and faults."""
        return self.envs[0].spec

    @property
    def wiring(self) -> Mapping[str, Any] | None:
        """How dictionaries by agent become steps, where the environment gives such; None: it gives steps itself."""
        return wiring_of(self.envs[0])

    def masked(self) -> list[bool]:
        """For which groups steps carry `legal`, found by one reset."""
        return [x is not None for x in self.envs[0].reset(0).legal]

    def begin(self) -> None:
        """Let the next step be a reset everywhere."""
        self.over = [True] * len(self.envs)

    def probe(self) -> None:
        """Play one reset and one step of the first environment under refusal, before anything is trained (`conformance.probe`). One that
        raises is built anew and tried again; raising in the first step every time is an error in the user's code: `NonConforming`. To be
        called once `attach`ed."""

        def begun(fresh: bool) -> None:
            self.progress[1], self.progress[2] = self.low, fresh
            self.progress[0] += 1
            self.watch(0, fresh)

        for seed in range(TRIES):
            try:
                begun(True)
                probe(self.adapters[0], values=not self.survive, seed=seed, stepping=lambda: begun(False))
                return
            except NonConforming:
                raise
            except BROKEN as error:
                if seed + 1 == TRIES:
                    text = (
                        f"{raised_at(error)}: raised {type(error).__name__}: {error}, in the first step of every episode: correct it there"
                    )
                    raise NonConforming(text) from error
                begun(True)
                self._close(0)
                self.envs[0] = self.build(0)

    def build(self, k: int) -> HostEnv:
        """Environment k of these, with what is put over it."""
        env: Any = make(self.name, self.options)
        if not hasattr(env, "reset"):
            raise UnknownEnvironment(f"{self.name} is a JAX environment: only the fused runtime steps those")
        if hasattr(env, "report"):
            env.report = self.report if self.survive else refuse
        if not self.state and hasattr(env, "without_state"):
            env.without_state()
        first = self.adapters[k] is None
        if self.low == k == 0 and isinstance(infos := getattr(env, "metrics", None), InfoMetrics):  # one environment speaks for all
            infos.notify = lambda text: self.report_note({"fault": NOTICE, "env": 0, "text": text})
        self.adapters[k] = env
        made = wrap_env(env, self.managers, self.faults, self.metrics, self.sides, self.channel, self.tools)
        for text in getattr(env, "notices", ()) if first and self.low == k == 0 and made.spec else ():
            self.report_note({"fault": NOTICE, "env": 0, "text": text})
        return made

    def report(self, fault: str, agent: str, field: str, value: Any) -> None:
        """A bad value that its adapter repaired: count it, and report it once per kind."""
        self.note(fault, self.at, agent, field, value)
        self.counts[FAULTS.index(fault)] += 1

    def note(self, fault: str, env: int, agent: str, field: str, value: Any) -> None:
        """A bad value was met: its step is faulty, unless something sensible stands in its place; the first of a kind is reported."""
        if fault not in INSTEAD:
            self.faulty[env - self.low] = True
        if self.counts[FAULTS.index(fault)] == 0:
            text = f"agent {agent!r}, {field}, got {value!s:.200}: counted, {INSTEAD.get(fault, '0 put there')}"
            self.report_note({"fault": fault, "env": env, "text": text})

    @property
    def at(self) -> int:
        """The number, of all `b`, of the environment that is being stepped."""
        return int(self.progress[1]) if hasattr(self, "progress") else self.low

    def attach(self, block: StepBlock, w: int) -> None:
        """Step into `block` from now on, as its worker `w`."""
        self.block, self.progress = block, block.progress[w]
        self._cells = memoryview(self.progress)  # type: ignore[arg-type]  # faster to write to, one number after another
        block.counts[w][:] += self.counts
        self.counts = block.counts[w]
        self.mine = map_step(lambda x: x[self.low : self.high], block.step)
        floats = [x for leaves in self.mine.obs for x in leaves.values() if x.dtype.kind == "f"]
        if all(env is adapter and getattr(env, "plain", False) for env, adapter in zip(self.envs, self.adapters, strict=True)):
            self.plain = PlainSteps(self.mine, tuple(x[self.low : self.high] for x in self.block.action), self.adapters[0])
        self.watched = [*floats, self.mine.state, self.mine.reward, self.mine.team_reward, *self.mine.metrics.values()]
        if len(self.envs) == block.step.first.size:
            self.watched = [block.checked]

    def advance(self) -> None:
        """One step of every environment, checked."""
        self.faulty[:] = False
        if self.plain is None:
            self._advance_each()
        else:
            self._advance_plainly(self.plain)
        self._check()
        if self.faulty.any():
            self.progress[3] += int(self.faulty.sum())

    def next_seed(self, i: int) -> int:
        """The seed of environment i's next episode; counts its episodes."""
        episode = int(self.block.episode[i])
        self.block.episode[i] = episode + 1
        return episode_seed(int(self.block.seed[i]), episode)

    def close(self) -> None:
        """Close every environment."""
        for env in self.envs:
            env.close()

    def _advance_each(self) -> None:
        """One step of every environment, or a reset where its episode is over."""
        for k, env in enumerate(self.envs):
            if self._steps(k):
                try:
                    self._put(k, env.step(tuple([a[self.low + k] for a in self.block.action])))
                except BROKEN as error:
                    self._end_episode(k, error)

    def _advance_plainly(self, plain: PlainSteps) -> None:
        """`_advance_each`, plain steps completed together. Where it can be so, all environments step before any step is read: the package's
        code for all, then ours for all, stays in the processor's caches."""
        plain.begin()
        apart, got = plain.apart, plain.got
        for k, env in enumerate(self.adapters):
            if self._steps(k):
                try:
                    got[k] = env.step_unread(plain.choices[k])
                    if not apart:
                        self._read(k, plain)
                except BROKEN as error:
                    self._end_episode(k, error)
        if apart:
            for k in got:
                self._cells[1] = self.low + k
                try:
                    self._read(k, plain)
                except BROKEN as error:
                    self._end_episode(k, error)
        plain.complete(self._clip)

    def _read(self, k: int, plain: PlainSteps) -> None:
        """Read a plain step, to be completed with those of others, unless something is unusual in it."""
        made = self.adapters[k].read_plainly(plain.got[k], plain.rows[k])
        if type(made) is tuple:
            self.over[k] = plain.add(k, made)
        else:
            self._put(k, made)

    def _steps(self, k: int) -> bool:
        """Whether environment k is to make a step now; where its episode is over, it is reset."""
        cells = self._cells
        cells[1] = self.low + k
        cells[2] = 0
        cells[0] += 1
        if self.over[k]:
            self._begin_episode(k)
            return False
        self.watch(k, False)
        return True

    def _end_episode(self, k: int, error: BaseException) -> None:
        """A step raised: the episode ends at its last good step, and another one begins."""
        if isinstance(error, NonConforming):
            raise error  # no number that could be repaired: every later step would break the interface too
        self._record_env_error(k, error)
        self._begin_episode(k, 1)

    def _begin_episode(self, k: int, failed: int = 0) -> None:
        """Reset environment k, built anew where something `failed`."""
        while True:
            try:
                self.progress[2] = 1  # guards.start_timeout holds
                self.watch(k, True)
                if failed:
                    self.envs[k] = self.build(k)
                self._put(k, self.envs[k].reset(self.next_seed(self.low + k)))
                return
            except BROKEN as error:
                failed += 1
                if failed > TRIES:
                    raise
                self._record_env_error(k, error)

    def _clip(self, k: int, seen: np.ndarray) -> None:
        """Report and clip what is outside its limits in environment k's observations."""
        self.progress[1] = self.low + k
        self.adapters[k].arranged.clip_plain(seen, self.adapters[k].report)

    def _put(self, k: int, step: Step) -> None:
        self.block.write(self.low + k, step)
        self.over[k] = bool(step.last)

    def _record_env_error(self, k: int, error: BaseException) -> None:
        """Record what an environment raised, and throw the environment away. Under `refuse`, raise it instead."""
        if not self.survive:
            raise error
        note = describe_error(error, self.low + k)
        self.counts[FAULTS.index(note["fault"])] += 1
        self.progress[4] += 1
        self.faulty[k] = True
        self.report_note(note)
        self._close(k)

    def _close(self, k: int) -> None:
        try:
            self.envs[k].close()
        except BROKEN as second:
            self.report_note({"fault": "raised", "env": self.low + k, "text": f"close() raised {second!r}"})

    def _check(self) -> None:
        """NaN, infinities and bounds over all environments at once; the clean case costs a few microseconds."""
        bounds = self.guards.reward_bounds
        reward = self.mine.reward
        if all(np.count_nonzero(is_sound(x)) == x.size for x in self.watched) and (
            bounds is None or (reward.min() >= bounds[0] and reward.max() <= bounds[1])
        ):
            return
        if not self.survive:
            fault = name_fault(self.mine, self.spec, self.guards)
            raise fault if fault is not None else BadStep("nan_observation", "team", "step", "not finite")
        clean, counts = sanitize(self.mine, self.guards)
        for e in range(len(self.envs)):
            step = map_step(lambda x: x[e : e + 1], self.mine)  # noqa: B023
            if (found := name_fault(step, self.spec, self.guards)) is not None:
                self.note(found.fault, self.low + e, found.agent, found.field, found.value)
        for name, count in counts.items():
            self.counts[FAULTS.index(name)] += int(count)
        for mine, good in zip(self.mine.obs, clean.obs, strict=True):
            for k in mine:
                mine[k][...] = good[k]
        for k in ("state", "reward", "team_reward"):
            getattr(self.mine, k)[...] = getattr(clean, k)
        for k, x in clean.metrics.items():
            self.mine.metrics[k][...] = x
