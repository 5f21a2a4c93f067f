"""Groups of JaxMARL agents: those with the same kind of action and observation form one, sizes are padded."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.core.distributions import ActionSpace, Box, Discrete, MultiDiscrete
from marlstone.core.types import Array, Group, Leaf
from marlstone.envs.names import UnknownEnvironment

VIEW = "view"  # the leaf of an observation that is one array


@dataclass(frozen=True)
class Crew:
    """A `Group`, and what the adapter needs to drive it.

    Attributes:
      group: what the environment declares.
      keys: JaxMARL's key of each agent.
      sizes: numbers each agent's action encodes to.
      scale: low and width of the agents' boxes (None: not boxes).
    """

    group: Group
    keys: tuple[Any, ...]
    sizes: tuple[int, ...]
    scale: tuple[np.ndarray, np.ndarray] | None

    def action(self, part: Array) -> dict[Any, Array]:
        """Recorded actions `[n_g ...]` by JaxMARL's keys; those of boxes from (-1, 1) onto their bounds."""
        if self.scale is None:
            return {key: part[i] for i, key in enumerate(self.keys)}
        part = self.scale[0] + (part + 1) / 2 * self.scale[1]
        return {key: part[i, :size] for i, (key, size) in enumerate(zip(self.keys, self.sizes, strict=True))}

    def observation(self, seen: Mapping[Any, Any]) -> dict[str, Array]:
        """Observations by JaxMARL's keys as leaves `[n_g ...]`."""
        leaves = {}
        for name, leaf in self.group.observation.items():
            rows = [jnp.asarray(named(seen[key])[name], leaf.dtype) for key in self.keys]
            if leaf.kind == "vector":
                rows = [jnp.pad(r.reshape(-1), (0, leaf.shape[0] - r.size)) if r.size < leaf.shape[0] else r.reshape(-1) for r in rows]
            leaves[name] = jnp.concatenate([r[None] for r in rows])  # mapped over environments, a stack would be transposed
        return leaves

    def world(self, seen: Mapping[Any, Any], observation: dict[str, Array]) -> Array:
        """All that the group's agents see as one vector, without padding; `observation` has the same as leaves."""
        if len(observation) == 1 and not self.group.features:
            return jnp.asarray(next(iter(observation.values())), jnp.float32).reshape(-1)
        return jnp.concatenate([jnp.asarray(jnp.ravel(x), jnp.float32) for k in self.keys for x in jax.tree.leaves(seen[k])])

    def legal(self, available: Mapping[Any, Array] | None) -> Array | None:
        """Which actions exist for each agent and are allowed now, `[n_g a]`; None if all of them always. Who has none has its default."""
        exists = np.arange(self.group.space.width) < np.array(self.sizes)[:, None]
        space = self.group.space
        choices = (space.size,) if isinstance(space, Discrete) else space.sizes if isinstance(space, MultiDiscrete) else ()
        if available is None or not choices or any(np.size(available[k]) != s for k, s in zip(self.keys, self.sizes, strict=True)):
            return None if exists.all() else jnp.asarray(exists)
        rows = [
            jnp.pad(jnp.asarray(available[key], bool).reshape(-1), (0, self.group.space.width - size))
            for key, size in zip(self.keys, self.sizes, strict=True)
        ]
        legal, at, out = jnp.stack(rows), 0, []
        for size in choices:
            part = legal[:, at : at + size]
            default = np.arange(size) == self.group.default  # of a choice that has no legal option, it is the only one
            out.append(jnp.where(part.any(-1, keepdims=True), part, default))
            at += size
        return jnp.concatenate(out, axis=-1)


def named(seen: Any) -> dict[str, Any]:
    """One agent's observation as leaves by name."""
    return seen if isinstance(seen, dict) else {VIEW: seen}


def agent_name(key: Any) -> str:
    """A name for JaxMARL's key of an agent, which may be a bare number."""
    return f"agent_{key}" if str(key).isdigit() else str(key)


def crews(where: str, env: Any, seen: Mapping[Any, Any], default: int) -> tuple[Crew, ...]:
    """Agents of `env` by structure; `seen` is what each observes (shapes suffice). Raises `UnknownEnvironment` for a space that cannot be
    driven."""
    parts: dict[tuple[Any, ...], list[Any]] = {}
    for key in env.agents:
        parts.setdefault(_structure(where, key, env.action_space(key), seen[key]), []).append(key)
    labels = ["agents"] if len(parts) == 1 else [_type(members[0]) for members in parts.values()]
    return tuple(_crew(members, env, seen, label, default) for members, label in zip(parts.values(), labels, strict=True))


def _type(key: Any) -> str:
    return re.sub(r"_\d+$", "", agent_name(key))


def _size(space: Any) -> int:
    """Numbers an agent's action encodes to."""
    if hasattr(space, "n"):
        return int(space.n)
    return int(np.sum(space.num_categories)) if hasattr(space, "num_categories") else int(space.shape[0])


def _structure(where: str, key: Any, action: Any, seen: Any) -> tuple[Any, ...]:
    """What must agree for two agents to share a group: the kinds of action and observation (sizes are padded)."""
    kind: tuple[Any, ...]
    agent = agent_name(key)
    if hasattr(action, "n"):
        kind = ("discrete",)
    elif hasattr(action, "num_categories"):
        kind = ("multidiscrete", *map(int, action.num_categories))
    elif hasattr(action, "low") and len(action.shape) == 1:
        if not np.all(np.isfinite(action.low)) or not np.all(np.isfinite(action.high)):
            raise UnknownEnvironment(f"{where}: agent {agent!r} has an action box without bounds: only bounded boxes can be driven")
        kind = ("box",)
    else:
        raise UnknownEnvironment(
            f"{where}: agent {agent!r} acts in a {type(action).__name__}: "
            "only Discrete, MultiDiscrete and one-dimensional Box can be driven"
        )
    for name, leaf in named(seen).items():
        if not hasattr(leaf, "shape"):
            raise UnknownEnvironment(f"{where}: agent {agent!r} observes a {type(leaf).__name__}: only arrays can be read")
        kind = (*kind, name, "image", *leaf.shape) if len(leaf.shape) == 3 else (*kind, name, "vector")
    return kind


def _crew(keys: Sequence[Any], env: Any, seen: Mapping[Any, Any], label: str, default: int) -> Crew:
    """The group of agents of one structure."""
    spaces = [env.action_space(key) for key in keys]
    leaves: dict[str, Leaf] = {}
    features: dict[str, tuple[int, ...]] = {}
    for name, leaf in named(seen[keys[0]]).items():
        if len(leaf.shape) == 3:  # never pictures of 0..255, whatever their type says: planes of flags and small counts
            leaves[name] = Leaf("image", tuple(leaf.shape))
            continue
        widths = tuple(int(np.prod(named(seen[key])[name].shape)) for key in keys)
        leaves[name] = Leaf("vector", (max(widths),))
        features |= {name: widths} if len(set(widths)) > 1 else {}
    sizes, scale = tuple(map(_size, spaces)), None
    space: ActionSpace
    if hasattr(spaces[0], "n"):
        space = Discrete(max(sizes))
    elif hasattr(spaces[0], "num_categories"):
        space, default = MultiDiscrete(tuple(map(int, spaces[0].num_categories))), 0
    else:
        space, default = Box(max(sizes)), 0
        low, high = (np.zeros((len(keys), space.size), np.float32) for _ in range(2))
        for i, box in enumerate(spaces):
            low[i, : box.shape[0]], high[i, : box.shape[0]] = box.low, box.high
        scale = (low, high - low)
    group = Group(label, tuple(map(agent_name, keys)), leaves, space, tuple(map(_type, keys)), features, default)
    return Crew(group, tuple(keys), sizes, scale)
