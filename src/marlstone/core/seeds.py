"""Seeds: apart for tuning and for reporting, and one stream of randomness per component.

Whoever picks hyperparameters by the returns of some seeds and then reports the same seeds reports luck. So seeds below
`REPORTING` are for tuning, the others for reporting, and a run's record says which it used.

Streams are split by *name*: the environment's randomness must not move when the policy draws one number more, or paired
comparisons (same seed, other policy) would break.
"""

import zlib
from typing import TYPE_CHECKING, Any, Literal, get_args

from marlstone.core.errors import UserError, suggest

if TYPE_CHECKING:
    import jax

REPORTING = 1000
"""The first seed for reporting; seeds 0..999 are for tuning."""

Component = Literal["init", "environment", "act", "learner", "evaluation", "faults", "audit", "episodes"]
Purpose = Literal["tuning", "reporting"]


def seeds_of(first: int, count: int) -> tuple[int, ...]:
    """The `count` seeds of a run, from `first` on. Raises `UserError` where they would be of both kinds."""
    if first < 0 or count < 1:
        raise UserError(f"seed is {first} and seeds is {count}: give a first seed of at least 0 and at least one seed")
    if first < REPORTING < first + count:
        raise UserError(
            f"seed = {first} with seeds = {count} runs into the reporting seeds ({REPORTING} and above): "
            f"start at {REPORTING} to report, or at {REPORTING - count} or below to tune"
        )
    return tuple(range(first, first + count))


def purpose_of(first: int) -> Purpose:
    """What a run that starts at this seed is for."""
    return "reporting" if first >= REPORTING else "tuning"


def component_key(seed: "int | jax.Array", component: Component) -> "jax.Array":
    """The typed key of one component of one seed; `seed` may be traced, so seeds vmap, and may be the key made of it.

    A component is folded in by the CRC of its name, so that adding one later moves no other's stream.
    """
    import jax  # here, so that reading a configuration stays light

    if component not in get_args(Component):
        raise UserError(f"no component {component!r}: {suggest(str(component), get_args(Component))}")
    keyed = isinstance(seed, jax.Array) and jax.dtypes.issubdtype(seed.dtype, jax.dtypes.prng_key)
    base: Any = seed if keyed else jax.random.key(seed)
    return jax.random.fold_in(base, zlib.crc32(component.encode()))
