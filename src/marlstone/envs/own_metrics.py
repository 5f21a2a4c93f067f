"""True metrics of a user's own, measured in any environment: `[[metrics]] kind = "my_metric.py:Mine"`, `--metric my_metric.py:mine`.

A metric is computed from every joint step (`transition.Transition`) of the environment itself: below managers and faults, which change
what agents see and do, not what is true. Its values join those that the environment declares, in every record that has true metrics.
"""

import dataclasses
import inspect
import re
import types
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from marlstone.core.errors import UserError
from marlstone.core.plain import from_plain, to_plain
from marlstone.core.records import record, replace
from marlstone.core.types import Array, Metric, Spec, Step
from marlstone.core.user_code import failed, member
from marlstone.envs.conformance import NonConforming
from marlstone.envs.protocol import Env, HostEnv
from marlstone.envs.transition import Transition
from marlstone.envs.true_metrics import WAYS, Better, Info, InfoMetrics, Reduce


class TrueMetric(Protocol):
    """The contract. A frozen dataclass whose fields are its configuration, derived from nothing; or a function of a `Transition` alone.

    `better`: which way is better, `up` or `down`; `reduce`: how steps make an episode's figure, `sum`, `mean` or `last`. A function has
    them as attributes (`waiting.better = "down"`) or in its TOML table. Either may also have a `name`, which records use (else the name
    of the class, in lower case with underscores, or of the function).

    In environments written in JAX a metric is compiled with them: arithmetic, and `jax.numpy` instead of `if`, `float` and `numpy`.

    One that must remember within an episode also has `begin(spec) -> memory`, a tree of arrays; then `value(transition, memory)` gives
    the value and the memory after it.
    """

    better: Better = "up"
    reduce: Reduce = "sum"

    @abstractmethod
    def value(self, transition: Transition) -> Array:
        """This step's value, one number."""


# ---- functions, names, JSON
@cache
def of_function(function: types.FunctionType) -> type:
    """The class that stands for a user's function: its fields are `better` and `reduce`, by default the function's attributes."""
    ways = [(name, kind, getattr(function, name, default)) for name, kind, default in (("better", Better, "up"), ("reduce", Reduce, "sum"))]
    more = {"value": lambda self, transition: function(transition), "name": getattr(function, "name", ""), "__doc__": function.__doc__}
    made = dataclasses.make_dataclass(function.__name__, ways, frozen=True, namespace=more)
    made.__module__ = function.__module__
    return made


def is_metric(x: Any) -> bool:
    """Whether a user's file may mean it by a metric's name."""
    return isinstance(x, type | types.FunctionType)


def name_of(metric: Any) -> str:
    """What records call it."""
    given = getattr(metric, "name", "")
    return given or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", type(metric).__name__).lower()


def metric_to_json(metric: Any) -> dict[str, Any]:
    """`{"kind": "/path/file.py:Name", field: value ...}`: for worker processes."""
    kind = metric.kind if isinstance(metric, Info) else f"{_file(metric)}:{type(metric).__name__}"
    given = {f.name: getattr(metric, f.name) for f in dataclasses.fields(metric)}
    return {"kind": kind, **{k: to_plain(v, f"metric {kind!r}: {k}") for k, v in given.items()}}


def metric_from_json(plain: dict[str, Any]) -> Any:
    """The inverse."""
    if plain["kind"] == Info.kind:
        return Info(**{k: from_plain(v) for k, v in plain.items() if k != "kind"})
    file, _, name = plain["kind"].rpartition(":")
    found = member(file, name, f"metric {plain['kind']!r}", "class or function", is_metric)
    cls = of_function(found) if isinstance(found, types.FunctionType) else found
    return cls(**{k: from_plain(v) for k, v in plain.items() if k != "kind"})


def _file(metric: Any) -> Path:
    return Path(inspect.getfile(type(metric))).resolve()


# ---- measuring
@dataclass(frozen=True)
class Measuring:
    """Metrics over one environment's description. Raises `UserError` for names that are taken and ways that there are not."""

    metrics: tuple[Any, ...]
    inner: Spec

    def __post_init__(self) -> None:
        taken = set(self.inner.metrics)
        for metric in self.metrics:
            name = name_of(metric)
            if name in taken:
                raise UserError(f"metric {name!r}: there is one of that name already: give yours a `name` of its own")
            taken.add(name)
            for way, choices in WAYS.items():
                if (value := getattr(metric, way, choices[0])) not in choices:
                    raise UserError(f"metric {name!r}: {way} is {value!r}: choose one of {', '.join(choices)}")

    @cached_property
    def spec(self) -> Spec:
        """The environment's, with these metrics declared beside its own."""
        mine = {name_of(m): Metric(getattr(m, "better", "up"), getattr(m, "reduce", "sum")) for m in self.metrics}
        return replace(self.inner, metrics={**self.inner.metrics, **mine})

    def begin(self, step: Step) -> tuple[tuple[Any, ...], Step]:
        """What metrics remember at an episode's first step, and that step with their values, 0."""
        memory = tuple(m.begin(self.inner) if hasattr(m, "begin") else () for m in self.metrics)
        xp = step.reward.__array_namespace__()
        return memory, replace(step, metrics={**step.metrics, **{name_of(m): xp.zeros((), np.float32) for m in self.metrics}})

    def after(self, memory: tuple[Any, ...], transition: Transition) -> tuple[tuple[Any, ...], dict[str, Array]]:
        """Each metric's value, and what they remember after it."""
        kept, values = [], {}
        for metric, m in zip(self.metrics, memory, strict=True):
            if hasattr(metric, "begin"):
                values[name_of(metric)], m = metric.value(transition, m)
            else:
                values[name_of(metric)] = metric.value(transition)
            kept.append(m)
        return tuple(kept), values


@record
class Measured:
    """The environment's state, the step that agents saw last, and what metrics remember."""

    env: Any
    seen: Step
    memory: tuple[Any, ...]


@dataclass(frozen=True)
class MeasuredEnv:
    """A JAX environment with metrics."""

    env: Env
    measuring: Measuring

    @property
    def spec(self) -> Spec:
        """The environment's, with these metrics."""
        return self.measuring.spec

    def _begun(self, env: Any, step: Step) -> tuple[Measured, Step]:
        memory, shown = self.measuring.begin(step)
        return Measured(env, step, memory), shown

    def init(self, key: Array) -> tuple[Measured, Step]:
        """As the environment does."""
        return self._begun(*self.env.init(key))

    def step(self, state: Measured, action: tuple[Array, ...], key: Array) -> tuple[Measured, Step]:
        """As the environment does, measured."""
        env, after = self.env.step(state.env, action, key)
        memory, values = self.measuring.after(state.memory, Transition(self.env.spec, state.seen, action, after))
        xp = after.reward.__array_namespace__()
        mine = {k: xp.asarray(v, dtype=np.float32) for k, v in values.items()}
        return Measured(env, after, memory), replace(after, metrics={**after.metrics, **mine})


@dataclass(frozen=True)
class MeasuredRemembering(MeasuredEnv):
    """One whose copies outlive their episodes (`protocol.Remembering`)."""

    def again(self, state: Measured, key: Array) -> tuple[Measured, Step]:
        """As the environment does."""
        return self._begun(*self.env.again(state.env, key))  # type: ignore[attr-defined]


class MeasuredHost:
    """An environment that Python steps, with metrics. Raises `NonConforming`, naming file and line, where one fails."""

    def __init__(self, env: HostEnv, measuring: Measuring) -> None:
        self.env, self.measuring = env, measuring

    @property
    def spec(self) -> Spec:
        """The environment's, with these metrics."""
        return self.measuring.spec

    def reset(self, seed: int) -> Step:
        """As the environment does."""
        self._seen = self.env.reset(seed)
        self._memory, shown = self.measuring.begin(self._seen)
        return shown

    def step(self, action: tuple[Array, ...]) -> Step:
        """As the environment does, measured."""
        after = self.env.step(action)
        try:
            self._memory, values = self.measuring.after(self._memory, Transition(self.env.spec, self._seen, action, after))
        except Exception as error:
            raise NonConforming(f"a metric failed: {failed(error, _file(self.measuring.metrics[0]))}") from error
        self._seen = after
        return replace(after, metrics={**after.metrics, **{k: _number(k, v) for k, v in values.items()}})

    def close(self) -> None:
        """As the environment does."""
        self.env.close()


def _number(name: str, value: Any) -> np.float32:
    x = np.asarray(value)
    if x.size != 1 or x.dtype.kind not in "fiub":
        raise NonConforming(f"metric {name!r} gave {value!r:.100}: return one number")
    return np.float32(x.reshape(-1)[0])


def measured(env: Any, metrics: Sequence[Any]) -> Any:
    """`env`, an `Env` or a `HostEnv`, with these metrics; itself where there are none. Raises `UserError` for one that cannot be measured
    there: of a name that is taken, or, in an environment written in JAX, one that cannot be traced or gives no number."""
    read = {m.name: Metric(m.better, m.reduce) for m in metrics if isinstance(m, Info)}
    if read:
        _read_from_infos(env, read)
    metrics = [m for m in metrics if not isinstance(m, Info)]
    if not metrics:
        return env
    measuring = Measuring(tuple(metrics), env.spec)
    if hasattr(env, "reset"):
        return MeasuredHost(env, measuring)
    _trace(env, measuring)
    return (MeasuredRemembering if hasattr(env, "again") else MeasuredEnv)(env, measuring)


def _read_from_infos(env: Any, metrics: Mapping[str, Metric]) -> None:
    """Raises `UserError` where the environment gives no infos, or has such a metric already."""
    if not isinstance(infos := getattr(env, "metrics", None), InfoMetrics):
        why = "it gives steps itself" if hasattr(env, "reset") else "it is written in JAX"
        raise UserError(
            f"metric {next(iter(metrics))!r} is to be read from infos, and this environment has none, since {why}: declare it in its Spec, "
            "or compute it, --metric file.py:function"
        )
    infos.add(metrics)


def metrics_of(env: Any) -> tuple[Any, ...]:
    """The metrics of a user's own that an environment is measured by already, under whatever is put over it."""
    while not isinstance(env, MeasuredEnv | MeasuredHost):
        if (env := getattr(env, "env", None)) is None:
            return ()
    return env.measuring.metrics


def _trace(env: Env, measuring: Measuring) -> None:
    """Raises `UserError` for a metric that JAX cannot trace, and for one that gives no number."""
    import jax
    import jax.numpy as jnp

    key = jax.random.key(0)
    blank = lambda g: g.space.emit(g.default_like(g.space.mode(jnp.zeros((g.count, g.space.head)), None)))
    action = jax.eval_shape(lambda: tuple(blank(g) for g in env.spec.groups))
    state, before = jax.eval_shape(env.init, key)
    _, after = jax.eval_shape(env.step, state, action, key)
    for metric in measuring.metrics:
        alone, name = Measuring((metric,), env.spec), name_of(metric)

        def value(before: Step, action: Any, after: Step) -> Any:
            memory, _ = alone.begin(before)  # noqa: B023
            return alone.after(memory, Transition(env.spec, before, action, after))[1][name]  # noqa: B023

        try:
            out = jax.eval_shape(value, before, action, after)
        except jax.errors.JAXTypeError as error:
            remedy = "use arithmetic, and jax.numpy instead of if, float and numpy (this environment is written in JAX)"
            at = str(failed(error, _file(metric))).splitlines()[0]
            raise UserError(f"metric {name!r} cannot be traced by JAX: {remedy}; {at}") from error
        except Exception as error:
            raise failed(error, _file(metric), f"metric {name!r}") from error
        if getattr(out, "shape", None) != ():
            raise UserError(f"metric {name!r} gives {out}: return one number, of shape ()")
