"""Memory that training needs, estimated before any is taken."""

from marlstone.config import RunConfig
from marlstone.core.errors import UserError
from marlstone.core.machine import memory
from marlstone.core.types import Spec


def step_bytes(spec: Spec) -> int:
    """Bytes of one environment step as it is kept for learning: observations, global state, masks, rewards and fates of all agents."""
    observed = 0
    for group in spec.groups:
        for leaf in group.observation.values():
            size = 1 if leaf.dtype == "uint8" else 4
            for x in leaf.shape:
                size *= x
            observed += group.count * size
        observed += group.count * 4 * group.space.head
    return observed + 4 * spec.state + 16 * spec.n


def needed(config: RunConfig, spec: Spec, at_once: int, copies: int) -> tuple[int, int]:
    """`(rollouts, replay)` in bytes, at least: rollouts of `at_once` seeds, each held `copies` times; what all seeds remember."""
    sequence = (config.rollout.length + 1) * step_bytes(spec)
    remembered = config.seeds * _capacity(config) * sequence
    return at_once * copies * config.rollout.envs * sequence, remembered


def _capacity(config: RunConfig) -> int:
    """Sequences that a learner remembers."""
    return 0 if config.learner.replay is None else config.learner.replay.capacity


def refuse_too_large(config: RunConfig, spec: Spec, at_once: int, copies: int = 1, free: int | None = None) -> None:
    """Raises `UserError`, naming the setting to change, where training needs more memory than there is. `free`: bytes; None: of this
    machine."""
    rollouts, remembered = needed(config, spec, at_once, copies)
    free = memory() if free is None else free
    if rollouts + remembered <= free:
        return
    gigabytes = lambda x: f"{x / 1e9:.3g} GB"
    if remembered > rollouts:
        what = f"replay alone {gigabytes(remembered)}: learner.replay.capacity = {_capacity(config):,} sequences"
        lower = "learner.replay.capacity"
    else:
        what = f"rollouts alone {gigabytes(rollouts)}: rollout.envs = {config.rollout.envs}"
        lower = "rollout.envs"
    raise UserError(
        f"training needs at least {gigabytes(rollouts + remembered)} of memory, and {gigabytes(free)} are free ({what} of rollout.length = "
        f"{config.rollout.length} steps of {gigabytes(step_bytes(spec))}, {config.seeds} seeds): lower {lower}, rollout.length or seeds"
    )
