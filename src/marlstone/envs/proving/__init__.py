"""`proving:` small JAX games whose truth is known in closed form: a best return, or what every agent is worth.

First steps and tests:
  climbing    the climbing and penalty matrix games; best return 11 a step (Claus and Boutilier 1998)
  pair        two Discrete agents beside a Box agent and a late MultiDiscrete one; deaths, masks, both kinds of end
  dials       cooperative and continuous; what to turn to is drawn in an image
  match       repeat what was shown one step ago: only a policy with memory solves it

Where talking pays:
  traffic_junction  cars that see only their own cell must not meet (IC3Net)
  predator_prey     who has found the prey can tell the others where it is (IC3Net)
  signal            a scout sees what a worker must name a step later; the least bits and each one's worth are known
  errands           workers must ask for their task: half the time (chatty), or once

Where knowing has a price (`priced_optimum.py` has their optima):
  priced_tools   hidden answers, stakes that differ: which tool to ask, and when it does not pay
  priced_memory  a symbol is shown before its stake is: when to look it up

Two sides (`rps.py`):
  rps         red against blue, zero-sum, with a known value: how exploitable a policy is can be computed exactly

Grounds for credit (`ground.py`), the climbing game among them, with best return 1:
  additive    eight agents of different weight, each worth what it does
  dummy       an agent without effect and one that only makes noise, beside two workers
  saboteur    an agent that can only harm
  redundant   two agents of whom one suffices, and two that may be swapped
  delayed     no reward until the last step
  flip        from one step of an environment's life on, what was right is wrong
  plan        an ordered chain of sub-goals, rewarded only at its end
  swarm       up to 1024 agents on a ring, whose own reward is not the team's

With `exploit=true` a ground for credit has one action more, which raises the reward and ruins the true metric; `exploit=false` is its clean
twin.
"""

from collections.abc import Callable, Mapping
from typing import Any

from marlstone.core.errors import suggest
from marlstone.envs.names import UnknownEnvironment, resolve_options
from marlstone.envs.protocol import Env
from marlstone.envs.proving import exploit
from marlstone.envs.proving.additive import Additive
from marlstone.envs.proving.climbing import Climbing
from marlstone.envs.proving.delayed import Delayed
from marlstone.envs.proving.dials import Dials
from marlstone.envs.proving.dummy import Dummy
from marlstone.envs.proving.errands import Errands
from marlstone.envs.proving.flip import Flip
from marlstone.envs.proving.ground import Ground
from marlstone.envs.proving.match import Match
from marlstone.envs.proving.pair import Pair
from marlstone.envs.proving.plan import Plan
from marlstone.envs.proving.predator_prey import PredatorPrey
from marlstone.envs.proving.priced_memory import PricedMemory
from marlstone.envs.proving.priced_tools import PricedTools
from marlstone.envs.proving.redundant import Redundant
from marlstone.envs.proving.rps import Rps
from marlstone.envs.proving.saboteur import Saboteur
from marlstone.envs.proving.signal import Signal
from marlstone.envs.proving.swarm import Swarm
from marlstone.envs.proving.traffic_junction import TrafficJunction

__all__ = [
    "NAMES", "make", "Ground", "Climbing", "Pair", "Dials", "Match", "Rps",
    "Additive", "Dummy", "Saboteur", "Redundant", "Delayed", "Flip", "Plan", "Swarm",
    "TrafficJunction", "PredatorPrey", "Signal", "Errands", "PricedTools", "PricedMemory",
]  # fmt: skip

NAMES: dict[str, tuple[Callable[..., Env], dict[str, Any]]] = {
    "climbing": (Climbing, {"rows": 4, "game": "climbing", "penalty": -100.0}),
    "pair": (Pair, {"swapped": False}),
    "dials": (Dials, {"rows": 4}),
    "match": (Match, {"rows": 8}),
    "rps": (Rps, {"game": "rps", "rows": 8, "recall": False}),
    "additive": (Additive, {"rows": 8}),
    "dummy": (Dummy, {"rows": 8, "sigma": 0.1}),
    "saboteur": (Saboteur, {"rows": 8}),
    "redundant": (Redundant, {"rows": 8}),
    "delayed": (Delayed, {"rows": 8}),
    "flip": (Flip, {"rows": 8, "at": 0}),
    "plan": (Plan, {"reach": 4, "rows": 48}),
    "swarm": (Swarm, {"agents": 256, "rows": 8, "sigma": 0.1}),
    "traffic_junction": (TrafficJunction, {"difficulty": "easy", "vision": 0, "add_rate": 0.0, "time_limit": "truncate", "reach": 0}),
    "predator_prey": (
        PredatorPrey,
        {"mode": "mixed", "dim": 5, "agents": 3, "vision": 0, "max_steps": 20, "time_limit": "truncate", "reach": 0},
    ),
    "signal": (Signal, {"rows": 16}),
    "errands": (Errands, {"chatty": True, "workers": 4, "rows": 16}),
    "priced_tools": (PricedTools, {"symbols": 2, "rounds": 3}),
    "priced_memory": (PricedMemory, {"symbols": 2, "rounds": 4}),
}

EXPLOIT = "exploit"  # the option of every ground for credit; left out, the ground is as it is
WITHOUT = ("pair", "dials", "match", "rps", "traffic_junction", "predator_prey", "signal", "errands", "priced_tools", "priced_memory")


def make(name: str, options: Mapping[str, Any]) -> Env:
    """The game `proving:name`; raises `UnknownEnvironment` with a suggestion."""
    if name not in NAMES:
        raise UnknownEnvironment(f"proving has no game {name!r}: {suggest(name, sorted(NAMES))}")
    build, defaults = NAMES[name]
    plants = {} if name in WITHOUT else {EXPLOIT: False}
    chosen = resolve_options(f"proving:{name}", options, {**defaults, **plants})
    planted = chosen.pop(EXPLOIT, None)
    if chosen.get("rows", 2) < 2:
        raise UnknownEnvironment(f"proving:{name}: option 'rows' is {chosen['rows']}: give at least 2")
    ground = build(**chosen)
    return exploit.plant_exploit(ground, planted) if EXPLOIT in options else ground
