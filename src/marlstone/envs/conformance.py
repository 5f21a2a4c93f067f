"""Does an environment keep its interface? What breaks it ends the command at once, naming the user's file and line, agent, field, remedy.

A bad number in one step can be repaired and counted (`guards`); a step that returns four values cannot. `probe` plays one step before
anything is trained, so that what is wrong from the start is found within seconds.
"""

import contextlib
import inspect
import os
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import marlstone
from marlstone.core.errors import UserError
from marlstone.core.types import Array, Spec, Step
from marlstone.envs.guards import BadStep, refuse
from marlstone.envs.protocol import HostEnv

STRUCTURAL = ("wrong_shape", "wrong_dtype", "no_observation", "no_state")
"""Faults that `probe` refuses whatever `guards` is: the interface, not a value."""
LIBRARIES = tuple({sysconfig.get_path(k) for k in ("stdlib", "platstdlib", "purelib", "platlib")} | {str(Path(marlstone.__file__).parent)})


class NonConforming(UserError):
    """An environment that breaks its interface; the message names file and line, agent, field, value and remedy."""


def _short(path: str) -> str:
    """A file's path as a person reads it: relative where it lies below the working directory."""
    relative = os.path.relpath(path) if os.path.isabs(path) else path
    return path if relative.startswith("..") else relative


def source_location(env: Any, method: str) -> str:
    """`file:line (method)`, where the class of `env`, without its wrappers, defines a method; the class's name where it has no source."""
    env = getattr(env, "unwrapped", env)
    function = inspect.unwrap(getattr(type(env), method, None) or getattr(env, method, None) or type(env))
    code = getattr(function, "__code__", None)
    return f"{type(env).__name__}.{method}" if code is None else f"{_short(code.co_filename)}:{code.co_firstlineno} ({method})"


def raised_at(error: BaseException) -> str:
    """`file:line (function)` of the innermost line of a user's own code that an error came through; of the innermost line where there is
    none."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if not f.filename.startswith((*LIBRARIES, "<"))]
    if not frames:
        return type(error).__name__
    last = (theirs or frames)[-1]
    return f"{_short(last.filename)}:{last.lineno} ({last.name})"


def called_wrongly(error: TypeError) -> bool:
    """Whether a call itself did not fit: the error comes from no line of the user's own code."""
    named = any(k in str(error) for k in ("'seed'", "'options'"))
    return named and all(f.filename.startswith((*LIBRARIES, "<")) for f in traceback.extract_tb(error.__traceback__))


def first_reset(env: Any, seed: int) -> Any:
    """What `env.reset(seed=seed)` returns. Raises `NonConforming` for a reset that takes no seed: its episodes could not be repeated."""
    try:
        return env.reset(seed=seed)
    except TypeError as error:
        if not called_wrongly(error):
            raise
        raise NonConforming(
            f"{source_location(env, 'reset')}: {error}: write `def reset(self, seed=None, options=None)` "
            "and draw all randomness from that seed"
        ) from error


def five_values(got: Any, env: Any, names: str) -> tuple[Any, Any, Any, Any, Any]:
    """What `step` returned, as the five values it must be. Raises `NonConforming`."""
    if not isinstance(got, tuple | list) or len(got) != 5:
        what = f"{len(got)} values" if isinstance(got, tuple | list) else type(got).__name__
        raise NonConforming(f"{source_location(env, 'step')}: returned {what}: return ({names})")
    return tuple(got)


def by_agent(value: Any, env: Any, method: str, field: str) -> Mapping[str, Any]:
    """`value`, which must be a dict by agent. Raises `NonConforming`."""
    if not isinstance(value, Mapping):
        raise NonConforming(
            f"{source_location(env, method)}: {field} is {value!r:.80} of type {type(value).__name__}: return a dict by agent"
        )
    return value


def first_legal(spec: Spec, step: Step) -> tuple[Array, ...]:
    """For every agent the first legal option of every choice, and the middle of every Box."""
    heads = (np.zeros((g.count, g.space.head), np.float32) for g in spec.groups)  # of equal logits the first counts
    groups = zip(spec.groups, heads, step.legal, strict=True)
    return tuple(g.space.emit(g.space.mode(head, None if legal is None else np.asarray(legal))) for g, head, legal in groups)


def _fits(spec: Spec, step: Any, where: str) -> None:
    """Raises `NonConforming` for a step of other shapes than `spec` says."""
    if not isinstance(step, Step):
        raise NonConforming(f"{where}: returned {type(step).__name__}: return a marlstone Step")
    wanted: list[tuple[str, tuple[int, ...], Any]] = [
        (f"obs[{g}][{k!r}] of group {group.name!r}", (group.count, *leaf.shape), step.obs[g].get(k) if g < len(step.obs) else None)
        for g, group in enumerate(spec.groups)
        for k, leaf in group.observation.items()
    ]
    wanted += [("state", (spec.state,), step.state)]
    wanted += [(k, (spec.n,), getattr(step, k)) for k in ("reward", "discount", "present", "deciding")]
    wanted += [(k, (), getattr(step, k)) for k in ("team_reward", "team_discount", "first", "last")]
    wanted += [(f"metrics[{k!r}]", (), step.metrics.get(k)) for k in spec.metrics]
    for name, shape, value in wanted:
        if value is None or np.shape(value) != shape:
            got = "missing" if value is None else f"of shape {np.shape(value)}"
            raise NonConforming(f"{where}: {name} is {got}: give shape {shape}, as the spec declares")


def refuse_structural(fault: str, agent: str, field: str, value: Any) -> None:
    """The report of an environment that is being built: what breaks the interface is refused, a bad value is for `guards` to judge."""
    if fault in STRUCTURAL:
        refuse(fault, agent, field, value)


@contextlib.contextmanager
def located(env: Any, method: str) -> Iterator[None]:
    """Bad steps of `env.method` as `NonConforming`, with file and line."""
    try:
        yield
    except BadStep as error:
        value = f"{error.value!s:.200}"
        raise NonConforming(
            f"{source_location(env, method)}: agent {error.agent!r}, {error.field}: got {value}: correct it there"
        ) from error


def probe(env: HostEnv, *, values: bool, seed: int = 0, stepping: Callable[[], None] = lambda: None) -> None:
    """One reset and one step with legal actions, refusing what breaks the interface, and bad `values` too where that is asked. `stepping`
    is called between the two.

    Raises `NonConforming`. What the environment itself raises passes through.
    """
    inner, kept = getattr(env, "_env", env), getattr(env, "report", None)
    if kept is not None:
        env.report = refuse if values else refuse_structural  # type: ignore[attr-defined]
    try:
        with located(inner, "reset"):
            step = env.reset(seed)
            _fits(env.spec, step, source_location(inner, "reset"))
        stepping()
        with located(inner, "step"):
            _fits(env.spec, env.step(first_legal(env.spec, step)), source_location(inner, "step"))
    finally:
        if kept is not None:
            env.report = kept  # type: ignore[attr-defined]
