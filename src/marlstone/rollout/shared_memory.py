"""Steps of `b` environments in one piece of memory that parent and workers share.

The memory has no name (an anonymous file, inherited by descriptor), so that nothing is left behind however a process ends.
"""

import mmap
import os
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

from marlstone.core.types import Spec, Step
from marlstone.envs.guards import FAULTS, BadStep

ALIGN = 64  # bytes: a cache line, so that workers do not write to each other's


def anonymous() -> int:
    """Descriptor of an empty anonymous file, to be sized later. The caller closes it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("marlstone", os.MFD_CLOEXEC)
    fd, path = tempfile.mkstemp(prefix="marlstone")
    os.unlink(path)
    return fd


def _fields(spec: Spec, b: int, masked: tuple[bool, ...], workers: int) -> list[tuple[Any, tuple[int, ...], str]]:
    """(path, shape, dtype) of everything shared, what may hold a NaN first. `masked`: per group, whether steps carry `legal`."""
    out: list[tuple[Any, tuple[int, ...], str]] = []
    n = spec.n
    for g, group in enumerate(spec.groups):
        out += [(("obs", g, k), (b, group.count, *leaf.shape), leaf.dtype) for k, leaf in group.observation.items()]
    out.append((("state",), (b, spec.state), "float32"))
    for name, shape, dtype in (
        ("reward", (b, n), "float32"), ("team_reward", (b,), "float32"), ("discount", (b, n), "float32"),
        ("team_discount", (b,), "float32"), ("first", (b,), "bool"), ("last", (b,), "bool"),
        ("present", (b, n), "bool"), ("deciding", (b, n), "bool"),
    ):  # fmt: skip
        out.append(((name,), shape, dtype))
    out += [(("legal", g), (b, x.count, x.space.width), "bool") for g, x in enumerate(spec.groups) if masked[g]]
    out += [(("metrics", k), (b,), "float32") for k in spec.metrics]
    out.sort(key=lambda field: not _is_checked(field[0], field[2]))
    for g, group in enumerate(spec.groups):
        out.append((("action", g), (b, group.count, *group.space.action_shape), np.dtype(group.space.action_dtype).name))
    out += [(("seed",), (b,), "uint64"), (("episode",), (b,), "int64")]
    # Operations begun, environment it is at, 1 while it is made anew; steps that were faulty, episodes broken off by faults.
    out += [(("progress", w), (5,), "int64") for w in range(workers)]
    out += [(("counts", w), (len(FAULTS),), "int64") for w in range(workers)]
    return out


def _is_checked(path: Any, dtype: str) -> bool:
    """Whether guards look for NaN there: in observations, state, rewards and metrics."""
    return dtype == "float32" and path[0] in ("obs", "state", "reward", "team_reward", "metrics")


class StepBlock:
    """NumPy views into the shared memory behind a file descriptor.

    Args:
      fd: of the memory (`anonymous`).
      spec: of each environment.
      b: how many environments.
      masked: per group, whether steps carry `legal`.
      workers: how many processes.
      create: whether to size the memory first.

    Attributes:
      step: a `Step` of views, `[b ...]`.
      action: per group, `[b n_g ...]`.
      checked: all that guards look for NaN in, of all environments: observations, state, rewards and metrics, flat, with zeros between.
      seed, episode: `[b]`.
      progress, counts: one array per worker.
      size: bytes.
    """

    def __init__(self, fd: int, spec: Spec, b: int, masked: tuple[bool, ...], workers: int, create: bool) -> None:
        fields = _fields(spec, b, masked, workers)
        offsets, at = [], 0
        for _, shape, dtype in fields:
            offsets.append(at)
            at += -(-int(np.prod(shape)) * np.dtype(dtype).itemsize // ALIGN) * ALIGN
        self.size = max(at, ALIGN)
        checked = max(end for (path, _, dtype), end in zip(fields, [*offsets[1:], at], strict=True) if _is_checked(path, dtype))
        if create:
            os.ftruncate(fd, self.size)
        memory = mmap.mmap(fd, self.size)
        views = {
            path: np.frombuffer(memory, dtype, int(np.prod(shape)), offset).reshape(shape)
            for (path, shape, dtype), offset in zip(fields, offsets, strict=True)
        }
        self.checked = np.frombuffer(memory, np.float32, checked // 4)
        groups = range(len(spec.groups))
        self.step = Step(
            obs=tuple({k: views["obs", g, k] for k in spec.groups[g].observation} for g in groups),
            legal=tuple(views.get(("legal", g)) for g in groups),
            metrics={k: views["metrics", k] for k in spec.metrics},
            **{k: views[k,] for k in _PLAIN},
        )
        self.action = tuple(views["action", g] for g in groups)
        self.seed, self.episode = views["seed",], views["episode",]
        self.progress = [views["progress", w] for w in range(workers)]
        self.counts = [views["counts", w] for w in range(workers)]
        self._paths = paths(self.step)
        self._views = [[(x[i, ...], *_plainly(x[i, ...])) for x in arrays(self.step, self.step)] for i in range(b)]

    def write(self, i: int, step: Step) -> None:
        """Put one environment's step where the parent reads it. Raises `BadStep` for a shape or dtype other than the spec's."""
        for at, ((view, kind, dtype, shape), value) in enumerate(zip(self._views[i], arrays(step, self.step), strict=True)):
            same = type(value) is kind
            if same and (kind is not np.ndarray or (value.dtype is dtype and value.shape == shape)):
                view[...] = value
                continue
            path = self._paths[at]
            if np.shape(value) != view.shape:
                raise BadStep("wrong_shape", "team", path, f"shape {np.shape(value)} (expected {view.shape})")
            try:
                np.copyto(view, value, casting="same_kind")
            except TypeError as error:
                raise BadStep("wrong_dtype", "team", path, f"dtype {np.asarray(value).dtype} (expected {view.dtype})") from error


def _plainly(view: np.ndarray) -> tuple[type, np.dtype[Any], tuple[int, ...]]:
    """The type, dtype and shape of what fits a view as it is: one number, or an array."""
    return (np.ndarray if view.ndim else view.dtype.type), view.dtype, view.shape


_PLAIN = ("state", "reward", "team_reward", "discount", "team_discount", "first", "last", "present", "deciding")


def map_step(f: Callable[..., Any], step: Step, *more: Step) -> Step:
    """`f` of every array; of the same one of each, if there are several steps."""
    steps = (step, *more)
    return Step(
        obs=tuple({k: f(*(s.obs[g][k] for s in steps)) for k in group} for g, group in enumerate(step.obs)),
        legal=tuple(None if x is None else f(*(s.legal[g] for s in steps)) for g, x in enumerate(step.legal)),
        metrics={k: f(*(s.metrics[k] for s in steps)) for k in step.metrics},
        **{k: f(*(getattr(s, k) for s in steps)) for k in _PLAIN},
    )


def arrays(step: Step, like: Step) -> list[Any]:
    """Every array of a step, in the order of `paths`; `like` says which leaves, masks and metrics there are."""
    out = [step.obs[g].get(k) for g, leaves in enumerate(like.obs) for k in leaves]
    out += [
        step.state, step.reward, step.team_reward, step.discount, step.team_discount, step.first, step.last, step.present, step.deciding,
    ]  # fmt: skip
    out += [mine for mine, x in zip(step.legal, like.legal, strict=True) if x is not None]
    out += [step.metrics.get(k) for k in like.metrics]
    return out


def paths(step: Step) -> list[str]:
    """Where each of `arrays` is, for messages."""
    out = [f"obs[{g}][{k!r}]" for g, leaves in enumerate(step.obs) for k in leaves]
    out += _PLAIN
    out += [f"legal[{g}]" for g, x in enumerate(step.legal) if x is not None]
    return out + [f"metrics[{k!r}]" for k in step.metrics]
