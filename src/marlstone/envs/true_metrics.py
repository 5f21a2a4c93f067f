"""True metrics that an environment of another library declares: `env.true_metrics`, and their values in each step's infos.

    self.true_metrics = {"delivered": "up", "waiting": {"better": "down", "reduce": "mean"}}
    ...
    return observations, rewards, terminations, truncations, {agent: {"delivered": 1.0}}

What the team really wants, beside the reward: recorded, compared, and held against the reward for hacking.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from marlstone.core.errors import UserError, suggest
from marlstone.core.types import Metric
from marlstone.envs.conformance import NonConforming
from marlstone.envs.guards import Report
from marlstone.envs.host.host_step import as_number

Better = Literal["up", "down"]
Reduce = Literal["sum", "mean", "last"]
FEW = 8  # names that a note repeats
WAYS = {"better": ("up", "down"), "reduce": ("sum", "mean", "last")}


@dataclass(frozen=True)
class Info:
    """A true metric that stands in an environment's infos: `metrics = { delivered = "up" }`, `--metric delivered=up`.

    Attributes:
      name: under which infos have it; values of several agents in one step are summed.
      better: which way is better.
      reduce: how an episode's steps make its figure.
    """

    kind: ClassVar[str] = "info"
    name: str = ""
    better: Better = "up"
    reduce: Reduce = "sum"

    def __post_init__(self) -> None:
        if not self.name:
            raise UserError('metrics: kind = "info" needs a name: the key under which infos have the metric')
        for way, choices in WAYS.items():
            if (value := getattr(self, way)) not in choices:
                raise UserError(f"metric {self.name!r}: {way} is {value!r}: choose one of {', '.join(choices)}")


def declared_metrics(env: Any, where: str) -> dict[str, Metric]:
    """What `env.true_metrics` declares, by name; none where it declares nothing. Raises `NonConforming` naming the metric and the
    remedy."""
    given = getattr(getattr(env, "unwrapped", env), "true_metrics", None)
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise NonConforming(f'{where}: true_metrics is {given!r}: give names and which way is better, {{"delivered": "up"}}')
    return {str(name): _metric(str(name), how, where) for name, how in given.items()}


def _metric(name: str, how: Any, where: str) -> Metric:
    fields = {"better": how} if isinstance(how, str) else how
    if not isinstance(fields, Mapping):
        raise NonConforming(f'{where}: true_metrics[{name!r}] is {how!r}: say which way is better, "up" or "down"')
    for key, value in fields.items():
        if key not in WAYS:
            raise NonConforming(f"{where}: true_metrics[{name!r}] has {key!r}; {suggest(str(key), WAYS)}")
        if value not in WAYS[key]:
            raise NonConforming(f"{where}: true_metrics[{name!r}] has {key} = {value!r}: give one of {', '.join(WAYS[key])}")
    return Metric(**fields)


def _tell_nobody(text: str) -> None:
    """What is done with notes until somebody listens."""


@dataclass
class InfoMetrics:
    """True metrics that are read from infos, and whether they arrive.

    Attributes:
      declared: by name; more may be declared before the environment's `spec` is first read (`add`).
      notify: told, once for each metric, that it stood in no info of a whole episode.
    """

    declared: dict[str, Metric]
    notify: Callable[[str], None] = _tell_nobody
    _met: set[str] = field(default_factory=set)
    _keys: dict[str, None] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    def add(self, metrics: Mapping[str, Metric]) -> None:
        """Read these too. Raises `UserError` for a name that is declared already."""
        for name in metrics:
            if name in self.declared:
                raise UserError(f"metric {name!r}: the environment declares one of that name already: leave yours out")
        self.declared |= metrics

    def begin(self) -> dict[str, float]:
        """An episode's first step, which has earned nothing."""
        self._met.clear()
        return dict.fromkeys(self.declared, 0.0)

    def read(self, infos: Any, last: bool, report: Report) -> dict[str, float]:
        """This step's values: a team's info has them itself; of infos by agent those that have one are summed. 0 where nobody has one."""
        if not self.declared:
            return {}
        own = infos if isinstance(infos, Mapping) else {}
        by_agent = {a: x for a, x in own.items() if isinstance(x, Mapping)}
        if isinstance(infos, list | tuple):
            by_agent = {f"agent_{i}": x for i, x in enumerate(infos) if isinstance(x, Mapping)}
        out = {}
        for name in self.declared:
            if name in own and not isinstance(own[name], Mapping):
                self._met.add(name)
                out[name] = as_number(own[name], "team", f"info {name!r}", report)
            else:
                found = [as_number(x[name], str(a), f"info {name!r}", report) for a, x in by_agent.items() if name in x]
                if found:
                    self._met.add(name)
                out[name] = float(sum(found))
        if len(self._met) < len(self.declared):
            flat = [k for k, x in own.items() if not isinstance(x, Mapping)] + [k for x in by_agent.values() for k in x]
            self._keys |= dict.fromkeys(str(k) for k in flat[:FEW])
            for name in (k for k in self.declared if last and k not in self._met | self._told):
                self._told.add(name)
                had = f"infos had {', '.join(list(self._keys)[:FEW])}" if self._keys else "infos were empty"
                self.notify(
                    f"true metric {name!r} stood in no info of a whole episode, which counts as 0 ({had}): check its name, or give 0 where "
                    "that is its value"
                )
        return out
