"""City traffic, simulated by SUMO inside this process (libsumo): the RESCO networks shipped with sumo-rl, and networks of one's own.

    sumo:cologne3?seconds=3600&delta=5&reward=diff-waiting-time
    sumo:city/my.net.xml?route=city/my.rou.xml&begin=0&end=1800&reward=mine.py:reward&observation=mine.py:Observation

Every traffic light is an agent that picks its next green phase every `delta` seconds. Lights differ in what they see and in
how many phases they have, so both are padded. Actions, observations and rewards are sumo-rl's (Alegre 2019), to the last
bit (tested against its own `SumoEnvironment`, whose PettingZoo wrapper does not run on PettingZoo 1.27), with the seconds
between two decisions simulated in one call and every lane read once. The hour begins where the network's own
configuration says, and ends by truncation.

Besides the reward (which telescopes: a difference of waiting times) stand the true metrics `mean_waiting_time` (seconds,
mean over the vehicles present, then over the hour) and `stopped` (vehicles below 0.1 m/s, mean over the hour).
"""

import contextlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from marlstone.core.errors import suggest
from marlstone.core.types import Array, Metric, Spec, Step
from marlstone.core.user_code import member
from marlstone.envs.grouping import arrange
from marlstone.envs.guards import refuse
from marlstone.envs.host.host_step import host_step
from marlstone.envs.host.sumo_networks import HOUR, PLACES, find_network, traffic_lights
from marlstone.envs.names import UnknownEnvironment, resolve_options
from marlstone.envs.true_metrics import InfoMetrics

ONE_PER_PROCESS = True  # libsumo keeps one simulation per process
OPTIONS = {"seconds": HOUR, "delta": 5, "yellow": 2, "min_green": 5, "reward": "diff-waiting-time", "observation": "default"}
REWARDS = ("diff-waiting-time", "average-speed", "queue", "pressure")
METRICS = {"mean_waiting_time": Metric("down", "mean"), "stopped": Metric("down", "mean")}

_open: list["SumoEnv"] = []  # the simulation of this process, if there is one


class OneSimulation(RuntimeError):
    """A second SUMO simulation was asked for in a process that already has one."""


def _load() -> tuple[ModuleType, ModuleType]:
    """sumo_rl and libsumo. sumo_rl reaches SUMO through a module it calls traci: here that is libsumo, whoever imported what before."""
    if "SUMO_HOME" not in os.environ:
        import sumo

        os.environ["SUMO_HOME"] = sumo.SUMO_HOME  # sumo_rl does not import without it
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():  # both talk at import
        warnings.simplefilter("ignore", DeprecationWarning)
        import libsumo
        import sumo_rl
    inner = sumo_rl.environment.env
    inner.traci, inner.LIBSUMO = libsumo, True
    return sumo_rl, libsumo


def _own(where: str, option: str, value: str, noun: str, fits: Callable[[Any], bool]) -> Any:
    """What `file.py:Name` means, of a user's own. Raises `UserError`."""
    file, _, name = value.rpartition(":")
    return member(file, name, f"{where}: option {option} is {value!r}", noun, fits)


class SumoEnv:
    """One network as a `HostEnv`. Only one at a time in a process: raises `OneSimulation` for a second."""

    where: str

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        where = f"sumo:{name}"
        placed = {k: x for k, x in options.items() if k in PLACES}
        chosen = resolve_options(where, {k: x for k, x in options.items() if k not in PLACES}, OPTIONS)
        network = find_network(where, name, placed, chosen["seconds"] if "seconds" in options else None)
        reward, observation = chosen["reward"], chosen["observation"]
        for option, value, known in (("reward", reward, REWARDS), ("observation", observation, ("default",))):
            if ".py:" not in value and value not in known:
                hint = f"{suggest(value, sorted(known))}; or file.py:Name for your own"
                raise UnknownEnvironment(f"{where}: option {option} is {value!r}: {hint}")
        if not 0 < chosen["yellow"] < chosen["delta"] <= network.seconds:
            given = {k: chosen[k] for k in ("yellow", "delta")} | {"seconds": network.seconds}
            raise UnknownEnvironment(f"{where}: options are {given}: 0 < yellow < delta <= seconds must hold")
        if _open:
            raise OneSimulation(
                f"{where}: this process already runs {_open[0].where}, and libsumo holds one simulation per process: close it first, "
                "or give each environment a worker process of its own (the host runtime does)"
            )
        sumo_rl, self._lib = _load()
        if ".py:" in reward:
            reward = _own(where, "reward", reward, "function", lambda x: callable(x) or isinstance(x, dict))
            if isinstance(reward, dict) and (odd := set(traffic_lights(Path(network.net))) ^ set(reward)):
                what = chosen["reward"]
                raise UnknownEnvironment(f"{where}: option reward: {what} is to name every traffic light and no other: {sorted(odd)}")
        own = {}
        if ".py:" in observation:
            own["observation_class"] = _own(where, "observation", observation, "class", callable)
        self._default_view = not own
        self.where, self.report = where, refuse
        self._delta, self._yellow, self._end = chosen["delta"], chosen["yellow"], network.begin + network.seconds
        _open.append(self)
        try:
            with _silence():
                self._sumo = sumo_rl.SumoEnvironment(
                    net_file=network.net, route_file=network.routes, begin_time=network.begin, num_seconds=network.seconds,
                    delta_time=chosen["delta"], yellow_time=chosen["yellow"], min_green=chosen["min_green"], reward_fn=reward, sumo_seed=0,
                    sumo_warnings=False, add_system_info=False, add_per_agent_info=False, additional_sumo_cmd="--no-step-log", **own,
                )  # fmt: skip
        except BaseException:
            _open.remove(self)
            raise
        lights = list(self._sumo.ts_ids)
        self._arranged = arrange(
            lights,
            {a: self._sumo.observation_spaces(a) for a in lights},
            {a: self._sumo.action_spaces(a) for a in lights},
            masked=False,
            types=dict.fromkeys(lights, "light"),
        )
        self._signals: list[Any] = []
        self.metrics = InfoMetrics({})
        self._horizon = -(-network.seconds // chosen["delta"])

    @cached_property
    def spec(self) -> Spec:
        """One group of traffic lights."""
        return Spec(self._arranged.groups, self._arranged.state, self._horizon, {**METRICS, **self.metrics.declared})

    @property
    def wiring(self) -> Mapping[str, Any]:
        """How its dictionaries become groups (`grouping.arrangement_from_json`)."""
        return self._arranged.wiring

    def reset(self, seed: int) -> Step:
        """The hour from its beginning, with this seed's traffic."""
        with _silence():
            self._sumo.reset(seed=seed % 2**31)
        self._signals = [self._sumo.traffic_signals[a] for a in self._arranged.agents]
        self._lanes = [[(lane, s.lanes_length[lane]) for lane in s.lanes] for s in self._signals]
        return self._make_step(np.zeros(len(self._signals), np.float32), first=True)

    def step(self, action: tuple[Array, ...]) -> Step:
        """Set the next phases and simulate `delta` seconds."""
        for signal, phase in zip(self._signals, self._arranged.act(action), strict=True):
            signal.set_next_phase(phase)
        now, simulate = int(self._lib.simulation.getTime()), self._lib.simulationStep
        changing = [s for s in self._signals if s.is_yellow]
        if changing:
            simulate(now + self._yellow)
            for s in changing:
                self._lib.trafficlight.setRedYellowGreenState(s.id, s.all_phases[s.green_phase].state)
                s.is_yellow = False
        simulate(now + self._delta)
        for s in self._signals:
            s.time_since_last_phase_change += self._delta
        reward = np.array([s.compute_reward() for s in self._signals], np.float32)
        return self._make_step(reward, last=now + self._delta >= self._end)

    def close(self) -> None:
        """End the simulation, so that this process may start another."""
        if self in _open:
            with _silence():
                self._sumo.close()
            _open.remove(self)

    def _make_step(self, reward: np.ndarray, first: bool = False, last: bool = False) -> Step:
        arranged, obs = self._arranged, self._arranged.blank()
        arranged.write({s.id: self._observe(s, lanes) for s, lanes in zip(self._signals, self._lanes, strict=True)}, obs, self.report)
        vehicle = self._lib.vehicle
        here = vehicle.getIDList()
        waiting = [vehicle.getWaitingTime(v) for v in here]
        stopped = sum(vehicle.getSpeed(v) < 0.1 for v in here)
        metrics = {"mean_waiting_time": float(np.mean(waiting)) if here else 0.0, "stopped": stopped}
        if self.metrics.declared:  # as sumo-rl's infos have them
            infos = {} if first else {**self._sumo._get_system_info(), **self._sumo._get_per_agent_info()}
            metrics |= self.metrics.begin() if first else self.metrics.read(infos, last, self.report)
        legal, _ = arranged.legal({}, self.report)
        return host_step(obs, arranged.default_state(obs), legal, reward, first=first, last=last, metrics=metrics)

    def _observe(self, signal: Any, lanes: list[tuple[str, float]]) -> Any:
        """sumo-rl's default observation: phase (one-hot), may it change, density and queue of each lane, as shares of its room; or what an
        observation of the user's own gives."""
        if not self._default_view:
            return signal.compute_observation()
        lane_api = self._lib.lane
        phase = [0.0] * signal.num_green_phases
        phase[signal.green_phase] = 1.0
        free = 0.0 if signal.time_since_last_phase_change < signal.min_green + signal.yellow_time else 1.0
        density, queue = [], []
        for lane, length in lanes:
            cars = lane_api.getLastStepVehicleNumber(lane)
            if cars == 0:
                density.append(0.0)
                queue.append(0.0)
                continue
            room = length / (signal.MIN_GAP + lane_api.getLastStepLength(lane))
            density.append(min(1, cars / room))
            queue.append(min(1, lane_api.getLastStepHaltingNumber(lane) / room))
        return np.array([*phase, free, *density, *queue], dtype=np.float32)


@contextlib.contextmanager
def _silence() -> Any:
    """Send what C++ writes to file descriptors 1 and 2 nowhere: SUMO greets on every start."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for fd in (*saved, nowhere):
            os.close(fd)


def make(name: str, options: Mapping[str, Any]) -> SumoEnv:
    """`cologne3`, `cologne8`, ..., or a net file or .sumocfg, with `OPTIONS` and `PLACES`. Raises `UnknownEnvironment` naming network,
    file or option, and `OneSimulation`."""
    return SumoEnv(name, options)
