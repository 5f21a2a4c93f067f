"""`jaxmarl:` environments (Rutherford et al. 2024): the MPE family, and others with vector or image observations.

What JaxMARL leaves to the reader, settled here:
- **Ends.** JaxMARL reports `done` for a time limit and for a real end alike. MPE (and overcooked) only ever end by their limit,
  so their last step is a truncation (discount 1). `time_limit=terminate` makes it a termination, which is what JaxMARL's
  own training scripts do (they do not bootstrap at the limit): use it to reproduce them exactly. Elsewhere the default is
  `terminate`. MPE counts so that an episode of `max_steps=25` has 26 steps; so do ours, and the peers' returns are over 26.
- **Return.** `team_reward` is the sum over agents, in simple_spread three times what one agent's log shows; JaxMARL's
  `MPELogWrapper` multiplies by the number of agents, so its scripts' figures are on our scale. In a competing game the team is the
  side named by `team` (types joined by `+`, as in `team=leadadversary+adversary`), by default the hunters or, where
  adversaries only disturb, the others; every agent still has its own reward.
- **Legal actions** are those of `get_avail_actions(state)`, or of Hanabi's `get_legal_moves(state)`. An agent without one plays action 0.
- **Groups.** Agents with the same kind of action and observation form one group; sizes are padded and masked.
"""

import contextlib
import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.core.distributions import ActionSpace, Box, Discrete, MultiDiscrete
from marlstone.core.errors import suggest
from marlstone.core.types import Array, Group, Leaf, Spec, Step
from marlstone.envs.jaxmarl_mpe import lean
from marlstone.envs.names import UnknownEnvironment

LIMITED = ("MPE_", "overcooked")  # games that end by their time limit and by nothing else
TEAMS = {
    "MPE_simple_tag_v3": "adversary",
    "MPE_simple_world_comm_v3": "leadadversary+adversary",
    "MPE_simple_adversary_v3": "agent",
    "MPE_simple_push_v3": "agent",
    "MPE_simple_crypto_v3": "bob+alice",
    "MPE_simple_facmac_v1": "adversary",
    "MPE_simple_facmac_3a_v1": "adversary",
    "MPE_simple_facmac_6a_v1": "adversary",
    "MPE_simple_facmac_9a_v1": "adversary",
}


@dataclass(frozen=True)
class JaxMarl:
    """A JaxMARL environment as an `Env`.

    Attributes:
      env: JaxMARL's object.
      spec: groups, state and horizon.
      limit: whether an end is a truncation.
      team: `[n]`, the agents whose rewards are the team's.
      masked: the method that gives legal actions ("": the game has none).
      scale: per group low and width of the agents' boxes (None: not boxes).
    """

    env: Any = field(repr=False)
    spec: Spec
    limit: bool
    team: np.ndarray
    masked: str
    scale: tuple[tuple[np.ndarray, np.ndarray] | None, ...]

    def init(self, key: Array) -> tuple[Any, Step]:
        """A fresh episode of the game."""
        obs, state = self.env.reset(key)
        nobody = jnp.zeros(self.spec.n, bool)
        return state, self._make_step(obs, state, jnp.zeros(self.spec.n, jnp.float32), nobody, jnp.zeros((), bool), True)

    def step(self, state: Any, action: tuple[Array, ...], key: Array) -> tuple[Any, Step]:
        """One joint step by JaxMARL's `step_env`; actions of boxes are scaled to their bounds."""
        chosen = {}
        for group, part, scale in zip(self.spec.groups, action, self.scale, strict=True):
            if scale is not None:  # (-1, 1) onto the box
                part = scale[0] + (part + 1) / 2 * scale[1]
            for i, name in enumerate(group.agents):
                chosen[name] = part[i, : self.env.action_space(name).shape[0]] if scale is not None else part[i]
        obs, state, rewards, dones, _ = self.env.step_env(key, state, chosen)
        reward = jnp.stack([jnp.asarray(rewards[a], jnp.float32) for a in self.spec.agents])
        done = jnp.stack([jnp.asarray(dones[a], bool) for a in self.spec.agents])
        return state, self._make_step(obs, state, reward, done, jnp.asarray(dones["__all__"], bool), False)

    def _make_step(self, obs: dict[str, Array], state: Any, reward: Array, done: Array, over: Array, first: bool) -> Step:
        """`done` `[n]`: who is out; an agent out before the end is absent from here on, and its discount is 0."""
        avail = getattr(self.env, self.masked)(state) if self.masked else None
        leaves, legal = [], []
        for group in self.spec.groups:
            name, leaf = next(iter(group.observation.items()))
            rows = [jnp.asarray(obs[a], leaf.dtype) for a in group.agents]
            if leaf.kind == "vector":
                rows = [jnp.pad(r.reshape(-1), (0, leaf.shape[0] - r.size)) if r.size < leaf.shape[0] else r.reshape(-1) for r in rows]
            leaves.append({name: jnp.stack(rows)})
            legal.append(self._legal(group, avail))
        flat = [jnp.asarray(obs[a], jnp.float32).reshape(-1) for a in self.spec.agents]
        out = done & ~over
        ended = jnp.zeros_like(over) if self.limit else over
        everyone = jnp.ones(self.spec.n, bool)
        return Step(
            obs=tuple(leaves),
            state=jnp.concatenate(flat),
            reward=reward,
            team_reward=jnp.sum(reward * self.team) if not self.team.all() else jnp.sum(reward),
            discount=jnp.where(out | ended, 0.0, 1.0),
            team_discount=jnp.where(ended, 0.0, 1.0),
            first=jnp.asarray(first, bool),
            last=over,
            legal=tuple(legal),
            present=~out,
            deciding=everyone,
            metrics={},
        )

    def _legal(self, group: Group, avail: dict[str, Array] | None) -> Array | None:
        """Which actions exist for each agent of a group, and which the game allows now; None if all of them always."""
        sizes = [_size(self.env.action_space(a)) for a in group.agents]
        exists = np.arange(group.space.width) < np.array(sizes)[:, None]
        space = group.space
        choices = (space.size,) if isinstance(space, Discrete) else space.sizes if isinstance(space, MultiDiscrete) else ()
        if avail is None or not choices or (len(choices) > 1 and any(np.size(avail[a]) != sum(choices) for a in group.agents)):
            return None if exists.all() else jnp.asarray(exists)
        rows = [
            jnp.pad(jnp.asarray(avail[a], bool).reshape(-1), (0, group.space.width - s)) for a, s in zip(group.agents, sizes, strict=True)
        ]
        legal, at, out = jnp.stack(rows), 0, []
        for size in choices:
            part = legal[:, at : at + size]
            default = np.arange(size) == 0  # of a choice that has no legal option, it is the only one
            out.append(jnp.where(part.any(-1, keepdims=True), part, default))
            at += size
        return jnp.concatenate(out, axis=-1)


def _size(space: Any) -> int:
    """Numbers an agent's action encodes to."""
    if hasattr(space, "n"):
        return int(space.n)
    return int(np.sum(space.num_categories)) if hasattr(space, "num_categories") else int(space.shape[0])


def _structure(where: str, agent: str, action: Any, seen: Any) -> tuple[Any, ...]:
    """What must agree for two agents to share a group: the kinds of action and observation (sizes are padded)."""
    kind: tuple[Any, ...]
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
    if not hasattr(seen, "shape"):
        raise UnknownEnvironment(f"{where}: agent {agent!r} observes a {type(seen).__name__}: only one array each can be read")
    shape = tuple(seen.shape)
    return (*kind, "image", *shape) if len(shape) == 3 else (*kind, "vector")


def _group(names: list[str], env: Any, obs: dict[str, Any], label: str) -> tuple[Group, tuple[np.ndarray, np.ndarray] | None]:
    """The group of agents of one structure, and the scale of their boxes (None: not boxes)."""
    first = env.action_space(names[0])
    shapes = [tuple(obs[a].shape) for a in names]
    features: dict[str, tuple[int, ...]] = {}
    if len(shapes[0]) == 3:
        leaf = Leaf("image", shapes[0], "uint8" if obs[names[0]].dtype == np.uint8 else "float32")
    else:
        widths = tuple(int(np.prod(s)) for s in shapes)
        leaf = Leaf("vector", (max(widths),))
        features = {"view": widths} if len(set(widths)) > 1 else {}
    scale, default = None, 0
    space: ActionSpace
    if hasattr(first, "n"):
        space = Discrete(max(_size(env.action_space(a)) for a in names))
    elif hasattr(first, "num_categories"):
        space = MultiDiscrete(tuple(map(int, first.num_categories)))
    else:
        space = Box(max(_size(env.action_space(a)) for a in names))
        low, high = (np.zeros((len(names), space.size), np.float32) for _ in range(2))
        for i, a in enumerate(names):
            box = env.action_space(a)
            low[i, : box.shape[0]], high[i, : box.shape[0]] = box.low, box.high
        scale = (low, high - low)
    types = tuple(re.sub(r"_\d+$", "", a) for a in names)
    return Group(label, tuple(names), {"view": leaf}, space, types, features, default), scale


def make(name: str, options: Mapping[str, Any]) -> JaxMarl:
    """The environment `jaxmarl:name`. Options: `time_limit=truncate|terminate`, `team=TYPE+TYPE|all`, and the game's own.

    Raises `UnknownEnvironment` for a name, option or space that cannot be had, with the remedy.
    """
    with _stdout_to_stderr():  # JaxMARL prints on import, and our standard output is a record
        import jaxmarl
        from jaxmarl.registration import registered_envs

    where = f"jaxmarl:{name}"
    if name not in registered_envs:
        raise UnknownEnvironment(f"jaxmarl has no environment {name!r}: {suggest(name, sorted(registered_envs))}")
    own = dict(options)
    limit = own.pop("time_limit", "truncate" if name.startswith(LIMITED) else "terminate")
    if limit not in ("truncate", "terminate"):
        raise UnknownEnvironment(f"{where}: option 'time_limit' is {limit!r}: write time_limit=truncate or time_limit=terminate")
    side = str(own.pop("team", TEAMS.get(name, "all")))
    try:
        env = jaxmarl.make(name, **own)
    except (TypeError, AssertionError, NotImplementedError, AttributeError) as error:
        raise UnknownEnvironment(f"{where} refuses its options {own}: {error}: {_parameters(name)}") from error
    accepted = {*_accepted(type(env)), "time_limit", "team"}
    for option in own:
        if option not in accepted:
            raise UnknownEnvironment(f"{where} has no option {option!r}: {suggest(option, sorted(accepted))}")

    if name.startswith("MPE_"):
        env = lean(env)
    obs, state = jax.eval_shape(env.reset, jax.random.key(0))  # what is really seen: JaxMARL's declared sizes are not always
    parts: dict[tuple[Any, ...], list[str]] = {}
    for agent in env.agents:
        parts.setdefault(_structure(where, agent, env.action_space(agent), obs[agent]), []).append(agent)
    labels = ["agents"] if len(parts) == 1 else [re.sub(r"_\d+$", "", members[0]) for members in parts.values()]
    built = [_group(members, env, obs, label) for members, label in zip(parts.values(), labels, strict=True)]
    groups = tuple(g for g, _ in built)
    kinds = [t for g in groups for t in g.types]
    wanted = side.split("+")
    if side != "all" and not set(wanted) <= set(kinds):
        raise UnknownEnvironment(f"{where}: option 'team' is {side!r}: name types of {', '.join(sorted(set(kinds)))}, joined by +, or all")
    length = sum(int(np.prod(obs[a].shape)) for a in env.agents)
    horizon = getattr(env, "max_steps", None)
    team = np.array([side == "all" or kind in wanted for kind in kinds])
    others = tuple(a for a, mine in zip((a for g in groups for a in g.agents), team, strict=True) if not mine)
    horizon = None if horizon is None else int(horizon) + name.startswith("MPE_")
    spec = Spec(groups, state=length, horizon=horizon, opponents=others)
    return JaxMarl(env, spec, limit == "truncate", team, _masks(env, state), tuple(s for _, s in built))


@contextlib.contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Send standard output to standard error, by descriptor: something JaxMARL imports puts `sys.stdout` back by itself."""
    kept, saved = sys.stdout, os.dup(1)
    kept.flush()
    os.dup2(2, 1)
    try:
        yield
    finally:
        for stream in (kept, sys.stdout, sys.__stdout__):
            if stream is not None:
                stream.flush()
        os.dup2(saved, 1)
        os.close(saved)
        sys.stdout = kept


def _masks(env: Any, state: Any) -> str:
    """The method that says which actions are legal; "" where none does (MPE's is only a placeholder)."""
    for name in ("get_avail_actions", "get_legal_moves"):
        with contextlib.suppress(NotImplementedError, AttributeError):
            if isinstance(jax.eval_shape(getattr(env, name), state), dict):
                return name
    return ""


def _accepted(kind: type) -> set[str]:
    """Options that a JaxMARL class, or a base it passes `**kwargs` to, accepts."""
    names: set[str] = set()
    for c in kind.__mro__:
        if "__init__" in vars(c):
            parameters = inspect.signature(vars(c)["__init__"]).parameters
            names |= {k for k, p in parameters.items() if p.kind is not p.VAR_KEYWORD and k != "self"}
            if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
                break
    return names


def _parameters(name: str) -> str:
    return f"see JaxMARL's documentation of {name}, or leave the options out"
