"""A Lagrange multiplier that keeps a quantity within its limit, moved once per update by a PID controller (Stooke et al. 2020).

    e_k   = clip(log(used_k / (AIM limit)), -1, 1)
    I_k   = clip(I_{k-1} + INTEGRAL e_k, 0, HIGHEST)
    lambda_k = clip(I_k + PROPORTIONAL e_k + DERIVATIVE max(0, e_k - e_{k-1}), 0, HIGHEST)

The error is a logarithm, so that limits of any size are kept by the same gains; the derivative acts only while use grows. It keeps a
channel's budget (`comms.learning`), without the derivative, and a constraint on costs (`learners.constraint`).
"""

from marlstone.core.arrays import Array

INTEGRAL, PROPORTIONAL, DERIVATIVE = 0.02, 0.2, 0.2  # per update and unit of error
AIM = 0.95  # share of the limit that is aimed at
HIGHEST = 20.0


def excess(used: Array, limit: Array) -> Array:
    """The controller's error: how far what is `used` lies above what is aimed at, in logarithms, within -1..1."""
    xp = used.__array_namespace__()
    return xp.clip(xp.log(xp.maximum(used, 1e-6 * limit) / (AIM * limit)), -1, 1)


def controlled(integral: Array, error: Array, before: Array | None = None) -> tuple[Array, Array]:
    """The multiplier and the controller's sum after an update. Args: `integral`, the sum so far; `error` now and `before` (None: without
    the derivative)."""
    xp = error.__array_namespace__()
    total = xp.clip(integral + INTEGRAL * error, 0, HIGHEST)
    growth = 0.0 if before is None else DERIVATIVE * xp.maximum(error - before, 0)
    return xp.clip(total + PROPORTIONAL * error + growth, 0, HIGHEST), total
