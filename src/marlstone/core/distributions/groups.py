"""Several groups' distributions at once: their noise, and one number per agent on one axis."""

from marlstone.core.action_space import ActionSpace
from marlstone.core.arrays import Array


def draw_group_noise(spaces: list[ActionSpace], counts: list[int], key: Array, shape: tuple[int, ...]) -> tuple[Array, ...]:
    """Sampling noise for every group, `[*shape n_g ...]`; one key per group, so that groups do not disturb each other."""
    import jax

    keys = jax.random.split(key, len(spaces))
    return tuple(s.noise(k, (*shape, n)) for s, k, n in zip(spaces, keys, counts, strict=True))


def concat_agents(parts: list[Array]) -> Array:
    """Per-group `[... n_g]` onto the one agent axis, `[... n]`."""
    return parts[0] if len(parts) == 1 else parts[0].__array_namespace__().concat(parts, axis=-1)
