"""Real city traffic: the RESCO networks shipped with sumo-rl, simulated by SUMO inside this process (libsumo).

    sumo:cologne3?seconds=3600&delta=5&reward=diff-waiting-time

Every traffic light is an agent that picks its next green phase every `delta` seconds. Lights differ in what they see and in
how many phases they have, so both are padded. Actions, observations and rewards are sumo-rl's (Alegre 2019), to the last
bit (tested against its own `SumoEnvironment`, whose PettingZoo wrapper does not run on PettingZoo 1.27), with the seconds
between two decisions simulated in one call and every lane read once. The hour begins where the network's own
configuration says, and ends by truncation.

Besides the reward (which telescopes: a difference of waiting times) stand the true metrics `mean_waiting_time` (seconds,
mean over the vehicles present, then over the hour) and `stopped` (vehicles below 0.1 m/s, mean over the hour).
"""

import contextlib
import importlib.util
import io
import os
import sys
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from marlstone.core.errors import suggest
from marlstone.core.types import Array, Metric, Spec, Step
from marlstone.envs.grouping import arrange
from marlstone.envs.guards import refuse
from marlstone.envs.host.host_step import host_step
from marlstone.envs.names import UnknownEnvironment, resolve_options

ONE_PER_PROCESS = True  # libsumo keeps one simulation per process
OPTIONS = {"seconds": 3600, "delta": 5, "yellow": 2, "min_green": 5, "reward": "diff-waiting-time"}
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


def networks() -> dict[str, Path]:
    """Folders of the RESCO networks that come with sumo-rl, by name. Imports nothing of SUMO."""
    found = importlib.util.find_spec("sumo_rl")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("sumo: needs sumo-rl, libsumo and eclipse-sumo: pip install marlstone[sumo]")
    return {p.name: p for p in sorted((Path(found.origin).parent / "nets" / "RESCO").iterdir()) if p.is_dir()}


def _configuration(folder: Path) -> tuple[str, str, int]:
    """Net file, route files and begin (s) from a network's own .sumocfg."""
    root = ElementTree.parse(next(folder.glob("*.sumocfg"))).getroot()

    def value(name: str) -> str:
        node = root.find(f".//{name}")
        if node is None:
            raise UnknownEnvironment(f"sumo:{folder.name}: its .sumocfg has no {name}: add it there")
        return node.attrib["value"]

    routes = ",".join(str(folder / r.strip()) for r in value("route-files").split(","))
    return str(folder / value("net-file")), routes, int(float(value("begin")))


class SumoEnv:
    """One network as a `HostEnv`. Only one at a time in a process: raises `OneSimulation` for a second."""

    where: str

    def __init__(self, name: str, options: Mapping[str, Any]) -> None:
        where = f"sumo:{name}"
        known = networks()
        if name not in known:
            raise UnknownEnvironment(f"{where}: no network {name!r} comes with sumo-rl: {suggest(name, sorted(known))}")
        chosen = resolve_options(where, options, OPTIONS)
        if chosen["reward"] not in REWARDS:
            raise UnknownEnvironment(f"{where}: option reward is {chosen['reward']!r}: {suggest(chosen['reward'], sorted(REWARDS))}")
        if not 0 < chosen["yellow"] < chosen["delta"] <= chosen["seconds"]:
            given = {k: chosen[k] for k in ("yellow", "delta", "seconds")}
            raise UnknownEnvironment(f"{where}: options are {given}: 0 < yellow < delta <= seconds must hold")
        if _open:
            raise OneSimulation(
                f"{where}: this process already runs {_open[0].where}, and libsumo holds one simulation per process: close it first, "
                "or give each environment a worker process of its own (the host runtime does)"
            )
        sumo_rl, self._lib = _load()
        net, routes, begin = _configuration(known[name])
        self.where, self.report = where, refuse
        self._delta, self._yellow, self._end = chosen["delta"], chosen["yellow"], begin + chosen["seconds"]
        _open.append(self)
        try:
            with _silence():
                self._sumo = sumo_rl.SumoEnvironment(
                    net_file=net, route_file=routes, begin_time=begin, num_seconds=chosen["seconds"], delta_time=chosen["delta"],
                    yellow_time=chosen["yellow"], min_green=chosen["min_green"], reward_fn=chosen["reward"], sumo_seed=0,
                    sumo_warnings=False, add_system_info=False, add_per_agent_info=False, additional_sumo_cmd="--no-step-log",
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
        self._spec = Spec(self._arranged.groups, self._arranged.state, -(-chosen["seconds"] // chosen["delta"]), METRICS)

    @property
    def spec(self) -> Spec:
        """One group of traffic lights."""
        return self._spec

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
        legal, _ = arranged.legal({}, self.report)
        return host_step(obs, arranged.default_state(obs), legal, reward, first=first, last=last, metrics=metrics)

    def _observe(self, signal: Any, lanes: list[tuple[str, float]]) -> np.ndarray:
        """sumo-rl's default observation: phase (one-hot), may it change, density and queue of each lane, as shares of its room."""
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
    """`cologne3`, `cologne8`, ... with `OPTIONS`. Raises `UnknownEnvironment` naming network or option, and `OneSimulation`."""
    return SumoEnv(name, options)
