"""From the name of an environment, `source:name?option=value&...`, to the environment.

    jumanji:LevelBasedForaging?task=8x8-2p-2f-coop     written in JAX: runs in the fused runtime
    pettingzoo:mpe2.simple_spread_v3?N=3               written in Python: runs in worker processes
    path/file.py:make_env?x=1                          a user's own factory, called with the options
    rllib:module:Class?x=1                             an RLlib MultiAgentEnv, as RLlib makes it
    sumo:my.net.xml?route=my.rou.xml                   a network of the user's own; sumo:cologne3 comes with sumo-rl
    jax:path/file.py:make_env?x=1                      one that returns an `Env` written in JAX

How options are read is `names.read_options`.
Adapters are imported only when asked for, so that a missing package costs nobody else anything, and says how to install it.
"""

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marlstone.core.errors import suggest
from marlstone.envs.names import UnknownEnvironment, read_options, with_files
from marlstone.envs.protocol import Env, HostEnv

__all__ = ["FILE", "JAX_FILE", "Source", "UnknownEnvironment", "is_jax", "make", "parse", "sources"]

FILE, JAX_FILE = "file", "jax"  # the sources of a user's own file: stepped by Python, written in JAX


@dataclass(frozen=True)
class Source:
    """Where environments come from, a line of `marlstone envs`.

    Attributes:
      name: what comes before the colon.
      module: the adapter in this package.
      jax: whether environments are pure JAX functions (fused runtime) or Python objects (worker processes).
      packages: what must be importable.
      extra: the extra of this package that brings them ("" when nothing is needed).
      examples: names that work.
      about: one line.
      shown: what the examples need besides.
      shown_extra: the extra that brings it.
    """

    name: str
    module: str
    jax: bool
    packages: tuple[str, ...]
    extra: str
    examples: tuple[str, ...]
    about: str
    shown: tuple[str, ...] = ()
    shown_extra: str = ""

    @property
    def installed(self) -> bool:
        """Whether environments of this source can be made here."""
        return not self.missing

    @property
    def missing(self) -> tuple[str, ...]:
        """Packages that must still be installed."""
        return tuple(p for p in self.packages if importlib.util.find_spec(p) is None)

    @property
    def examples_missing(self) -> tuple[str, ...]:
        """What the examples need besides and is not installed."""
        return tuple(p for p in self.shown if importlib.util.find_spec(p) is None)

    @property
    def state(self) -> str:
        """`ready`, or what is missing and the line that installs it."""
        if self.missing:
            return f"needs {', '.join(self.missing)}: {self.install}"
        if self.examples_missing:
            return f"ready, but the example needs {', '.join(self.examples_missing)}: pip install marlstone[{self.shown_extra}]"
        return "ready"

    @property
    def install(self) -> str:
        """The line that installs what this source needs ("" if nothing)."""
        return f"pip install marlstone[{self.extra}]" if self.extra else ""


def sources() -> tuple[Source, ...]:
    """Every source, in the order `marlstone envs` shows them."""
    here = "marlstone.envs."
    return (
        Source(
            "jumanji", here + "jumanji", True, (), "",
            ("jumanji:LevelBasedForaging?task=8x8-2p-2f-coop", "jumanji:RobotWarehouse?task=tiny-2ag"),
            "level-based foraging and robot warehouse by jumanji's rules, with the field's task names; with marlstone[jumanji] also "
            "Connector, Cleaner, MMST, SearchAndRescue, MultiCVRP",
        ),
        Source(
            "jaxmarl", here + "jaxmarl", True, ("jaxmarl",), "jaxmarl",
            (
                "jaxmarl:MPE_simple_spread_v3", "jaxmarl:HeuristicEnemySMAX?scenario=3m", "jaxmarl:overcooked?layout=cramped_room",
                "jaxmarl:hanabi",
            ),
            "MPE, SMAX, Overcooked, Hanabi, STORM, coin game, switch riddle, JaxNav; with marlstone[mabrax] also MABrax",
        ),
        Source(
            "proving", here + "proving", True, (), "",
            tuple(f"proving:{game}" for game in (
                "climbing", "pair", "dials", "match", "rps",
                "additive", "dummy", "saboteur", "redundant", "delayed", "flip?at=4000", "plan", "swarm?agents=256",
                "traffic_junction?difficulty=medium", "predator_prey", "signal", "errands?chatty=true",
            )),
            "small games with a known truth: a best return, what every agent is worth",
        ),
        Source(
            "pettingzoo", here + "host.pettingzoo", False, ("pettingzoo",), "",
            ("pettingzoo:mpe2.simple_spread_v3?N=3",),
            "any PettingZoo environment, by the path of its module (the example: marlstone[mpe])",
            ("mpe2",), "mpe",
        ),
        Source(
            "gymnasium", here + "host.gymnasium", False, ("gymnasium",), "",
            ("gymnasium:lbforaging?id=Foraging-8x8-2p-2f-coop-v3",),
            "multi-agent Gymnasium packages with Tuple spaces (the example: marlstone[lbforaging])",
            ("lbforaging",), "lbforaging",
        ),
        Source(
            "sumo", here + "host.sumo", False, ("sumo_rl", "libsumo"), "sumo",
            ("sumo:cologne3", "sumo:cologne8", "sumo:city/my.net.xml?route=city/my.rou.xml&begin=0&end=3600"),
            "city traffic: the RESCO networks shipped with sumo-rl, and your own by their net and route files",
        ),
        Source(
            "rllib", here + "host.rllib", False, (), "",
            ("rllib:my_package.games:RockPaperScissors?max_steps=10",),
            "RLlib's MultiAgentEnv classes, by module and class; one in a file of yours: path/file.py:Class",
        ),
        Source(
            "vmas", here + "host.vmas", False, ("vmas", "torch"), "vmas",
            ("vmas:balance?n_agents=4",),
            "VMAS scenarios (torch), one environment each",
        ),
        Source(
            FILE, here + "user_file", False, (), "",
            ("path/file.py:make_env?x=1",),
            "your own: a function in a file that returns an environment of PettingZoo, Gymnasium, RLlib, PyMARL and kin",
        ),
        Source(
            JAX_FILE, here + "user_file", True, (), "",
            ("jax:path/file.py:make_env?x=1",),
            "your own, written in JAX: a function in a file that returns a marlstone.envs.protocol.Env",
        ),
    )  # fmt: skip


def parse(name: str) -> tuple[str, str, dict[str, Any]]:
    """`(source, target, options)` of a name; for a user's file, source `file` and target `path/file.py:factory`.

    Raises `UnknownEnvironment`, naming what does not read and how to write it.
    """
    head, _, query = name.strip().partition("?")
    options = read_options(name, query)
    path, _, factory = head.rpartition(":")
    if head.endswith(".py") or path.endswith(".py"):
        source, head = (JAX_FILE, head.removeprefix("jax:")) if head.startswith("jax:") else (FILE, head)
        if not factory or head.endswith(".py"):
            raise UnknownEnvironment(f"environment {name!r} names a file but no function in it: write {head.rstrip(':')}:make_env")
        return source, head, options
    source, colon, target = head.partition(":")
    known = {s.name for s in sources()} - {FILE, JAX_FILE}
    if not colon or not (target or (source == "sumo" and "net" in options)):
        raise UnknownEnvironment(
            f"environment {name!r} does not read: write source:name?option=value, for example {sources()[0].examples[0]} "
            f"(sources: {', '.join(sorted(known))}, or path/file.py:make_env)"
        )
    if source not in known:
        raise UnknownEnvironment(
            f"environment {name!r}: unknown source {source!r}: {suggest(source, sorted(known))}; or path/file.py:make_env"
        )
    return source, target, options


def same_name(a: str, b: str) -> bool:
    """Whether two names mean one environment with one set of options; a user's file may lie in two places."""
    (source, was, options), (other, is_, given) = parse(a), parse(b)
    return (source, options) == (other, given) and was.rpartition(":")[2] == is_.rpartition(":")[2]


def _source(name: str) -> Source:
    return next(s for s in sources() if s.name == name)


def absolute(name: str) -> str:
    """`name`, a user's files by their absolute paths: it then means the same from any working directory. A name that does not read
    stays."""
    try:
        source, target, _ = parse(name)
    except UnknownEnvironment:
        return name
    if source == "sumo":
        return with_files(name, lambda file: str(Path(file).expanduser().resolve()))
    if source not in (FILE, JAX_FILE):
        return name
    file = target.rpartition(":")[0]
    return name.replace(file, str(Path(file).expanduser().resolve()), 1)


def is_jax(name: str) -> bool:
    """Whether `make(name)` gives an `Env` (fused runtime) rather than a `HostEnv` (worker processes). Imports nothing."""
    return _source(parse(name)[0]).jax


def one_per_process(name: str) -> bool:
    """Whether an environment cannot share its process with another (SUMO)."""
    return _source(parse(name)[0]).module.endswith(".sumo")


def make(name: str, extra: Mapping[str, Any] | None = None) -> Env | HostEnv:
    """The environment called `name`; `extra` adds options that are not written in it.

    Raises `UnknownEnvironment` for a source, name, task or option that does not exist, and `ModuleNotFoundError` with
    the install line for a source whose package is missing.
    """
    source, target, options = parse(name)
    where, options = _source(source), {**options, **(extra or {})}
    if where.missing:
        raise ModuleNotFoundError(f"environment {name!r} needs {' and '.join(where.missing)}: {where.install or 'pip install marlstone'}")
    adapter = importlib.import_module(where.module)
    if source in (FILE, JAX_FILE):
        path, _, factory = target.rpartition(":")
        return adapter.make(path, factory, options, where.jax)
    return adapter.make(target, options)
