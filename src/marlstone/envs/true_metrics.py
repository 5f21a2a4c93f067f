"""True metrics that an environment of another library declares: `env.true_metrics`, and their values in each step's infos.

    self.true_metrics = {"delivered": "up", "waiting": {"better": "down", "reduce": "mean"}}
    ...
    return observations, rewards, terminations, truncations, {agent: {"delivered": 1.0}}

What the team really wants, beside the reward: recorded, compared, and held against the reward for hacking.
"""

from collections.abc import Mapping
from typing import Any

from marlstone.core.errors import suggest
from marlstone.core.types import Metric
from marlstone.envs.conformance import NonConforming
from marlstone.envs.guards import Report
from marlstone.envs.host.host_step import as_number

WAYS = {"better": ("up", "down"), "reduce": ("sum", "mean", "last")}


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


def reported_metrics(infos: Any, metrics: Mapping[str, Metric], report: Report) -> dict[str, float]:
    """This step's values: a team's info has them itself; of infos by agent those that have one are summed. 0 where nobody reports one."""
    if not metrics:
        return {}
    own = infos if isinstance(infos, Mapping) else {}
    by_agent = {a: x for a, x in own.items() if isinstance(x, Mapping)}
    if isinstance(infos, list | tuple):
        by_agent = {f"agent_{i}": x for i, x in enumerate(infos) if isinstance(x, Mapping)}
    out = {}
    for name in metrics:
        if name in own and not isinstance(own[name], Mapping):
            out[name] = as_number(own[name], "team", f"info {name!r}", report)
        else:
            found = [as_number(x[name], str(a), f"info {name!r}", report) for a, x in by_agent.items() if name in x]
            out[name] = float(sum(found))
    return out
