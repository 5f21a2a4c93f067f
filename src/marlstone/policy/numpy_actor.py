"""A policy's forward without the algorithm that trained it: in NumPy, for processes that never import JAX, or on JAX's arrays.

Fleet actors run it, and whoever loads a policy artifact: one description and one order of weights serve both.

What acts is described once, as plain JSON; its weights follow as a flat list of arrays, as often as there are new ones.
The forward is training's own (`architectures.acting`): layers ask their arrays for the namespace.

    learner    describe(algorithm)      -> JSON    -> FastActor(description)    actor
               weights(train.policy)    -> arrays  -> FastActor.load(arrays)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from marlstone.architectures.acting import Actor, log_prob, policy_forward
from marlstone.architectures.body import Body, Gru, Mlp
from marlstone.architectures.contract import Architecture, Memory, ObservationNormalizer
from marlstone.architectures.network import Network
from marlstone.comms.layout import with_shares
from marlstone.core.distributions import exploration_head
from marlstone.core.errors import UserError
from marlstone.core.gru import GruParams as GruParameters
from marlstone.core.layers import Dense, owner_index
from marlstone.core.normalize import Moments
from marlstone.core.plain import from_plain, to_plain
from marlstone.core.records import replace
from marlstone.core.spec_json import spec_from_json, spec_to_json
from marlstone.core.types import Group, Step
from marlstone.encoders import Encoder, Image, Vector
from marlstone.encoders.contract import encoders_of, runs_in_numpy
from marlstone.encoders.fuse import Fuse, FuseParameters

if TYPE_CHECKING:
    from marlstone.algorithm import Algorithm, Policy

Arrays = tuple[np.ndarray, ...]
Bound = tuple[Any, Any, Any]
"""Networks and moments by agent, and how far to explore."""
_BODIES: dict[str, type[Body]] = {"mlp": Mlp, "gru": Gru}
_ENCODERS: dict[str, type[Encoder]] = {"image": Image, "vector": Vector}
_RECORDS: dict[str, Any] = {c.__name__: c for c in (Network, FuseParameters, Dense, GruParameters, ObservationNormalizer, Moments, Memory)}
OWN = "own:"  # before the class name of a user's part


# ---- the learner's side
def describe(algorithm: "Algorithm") -> dict[str, Any]:
    """What `FastActor` must know of a combination, as plain JSON. Raises ValueError naming the part that NumPy cannot run, without a
    remedy: fleets have another one than policy artifacts."""
    import jax

    architecture, actors = algorithm.architecture, algorithm.architecture.actors(algorithm.spec)
    if type(architecture).policy is not Architecture.policy:
        raise ValueError(f"{type(architecture).__name__} has a `policy` of its own, which NumPy cannot run")
    for a in actors:
        for part in (a.body, a.fuse, *a.fuse.encoders.values()):
            if type(part) is not Fuse and not runs_in_numpy(part):
                raise ValueError(
                    f"group {a.fuse.group.name!r}: {type(part).__name__} does not say that it runs in NumPy (`numpy = True`), so "
                    "that NumPy cannot run it"
                )
    policy = jax.eval_shape(lambda key: algorithm.init(key, None).policy, jax.random.key(0))
    return {
        "spec": spec_to_json(algorithm.spec),
        "actors": [_actor_to_json(a) for a in actors],
        "exploring": _exploring(algorithm),
        "policy": _plan(vars(policy)),
        "memory": _plan(jax.eval_shape(lambda: algorithm.memory(1))),
    }


def own_parts(algorithm: "Algorithm") -> tuple[type, ...]:
    """The classes of a policy's parts that are not this package's: what `FastActor` must be given beside the description."""
    parts = [x for a in algorithm.architecture.actors(algorithm.spec) for x in (a.body, *a.fuse.encoders.values())]
    return tuple(dict.fromkeys(type(x) for x in parts if type(x) not in (*_BODIES.values(), *_ENCODERS.values())))


def weights(policy: "Policy") -> list[np.ndarray]:
    """A policy's arrays, in the order in which `FastActor.load` takes them."""
    found: list[np.ndarray] = []
    _each(vars(policy), lambda _, x: found.append(np.asarray(x)))
    return found


def _exploring(algorithm: "Algorithm") -> str | None:
    """How heads become behavior, as `core.distributions.explored` names it; None: they are it."""
    if algorithm.learner.value_based:
        return "greedy"
    return "mixed" if algorithm.credit.explore else None


# ---- the actor's side
class FastActor:
    """Acts as `Algorithm.act` does, for steps of any number of environments. It has no weights until the first `load`.

    Args: `description`: what `describe` says; `parts`: classes of a user's own that it names, since a description loads no code.
    Raises `UserError` naming one that is not among them.
    """

    def __init__(self, description: dict[str, Any], parts: Sequence[type] = ()) -> None:
        self.spec = spec_from_json(description["spec"])
        self._exploring = description["exploring"]
        self._begin = _blank(description["memory"])
        self._like = _blank(description["policy"])
        actors = [_actor_from_json(a, g, parts) for a, g in zip(description["actors"], self.spec.groups, strict=True)]
        # Parameters are looked up where they are loaded: from then on, each agent has its own.
        self._owners = [owner_index(a.fuse.owners) for a in actors]
        apart = lambda a: replace(a, fuse=replace(a.fuse, owners=tuple(range(a.fuse.group.count))))
        self._actors = tuple(a if own is None else apart(a) for a, own in zip(actors, self._owners, strict=True))
        self._bound: Bound | None = None

    def load(self, arrays: list[np.ndarray]) -> None:
        """Act by these weights from now on. They are copied. Raises ValueError for the first that does not fit, and keeps the old."""
        self._bound = self.bind(arrays)

    def bind(self, arrays: Sequence[Any], copy: Callable[[Any], Any] = lambda x: np.array(x, order="C")) -> Bound:
        """These weights as `heads` and `act` take them. `copy`: how each array is kept; `jax.numpy.asarray`, and they act in JAX."""
        left = iter(arrays)

        def take(name: str, like: np.ndarray) -> Any:
            x = next(left, None)
            if x is None:
                raise ValueError(f"{len(arrays)} arrays came, none of them {name!r}: send what `weights` gives")
            if x.shape != like.shape or x.dtype != like.dtype:
                raise ValueError(f"weights {name!r} came as {x.dtype}{list(x.shape)}: this policy takes {like.dtype}{list(like.shape)}")
            return copy(x)

        policy = _each(self._like, take)
        if extra := len(list(left)):
            raise ValueError(f"{len(arrays)} arrays came, {extra} more than this policy has: send what `weights` gives")
        return self._looked_up(policy["actor"]), self._looked_up(policy["seen"].obs), policy["explore"]

    def _looked_up(self, groups: tuple[Any, ...]) -> tuple[Any, ...]:
        """Parameters by agent, done once instead of in every act."""
        return tuple(p if own is None else _each(p, lambda _, x: x[own]) for p, own in zip(groups, self._owners, strict=True))  # noqa: B023

    def memory(self, b: int) -> Memory:
        """Recurrent state at the start of an episode, for `b` environments; the critics', which acting leaves alone, too."""
        return _each(self._begin, lambda _, x: np.repeat(x, b, 0))

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Arrays:
        """Sampling noise for every group, `[*shape n_g ...]`, distributed as `core.distributions.noise_of` draws it."""
        return tuple(g.space.noise(rng, (*shape, g.count)) for g in self.spec.groups)

    def act(self, step: Step, memory: Memory, noise: Arrays, bound: Bound | None = None) -> tuple[Arrays, Arrays, Arrays, Memory]:
        """One step of `b` environments: actions as recorded and as environments take them, the heads they came from, memory after.

        Args: `noise`: what is sampled by, 0 for the mode; `bound`: other weights than the loaded ones, as `bind` gives them.
        """
        heads, memory = self.heads(step, memory, bound)
        parts = list(zip(self.spec.groups, heads, step.legal, noise, strict=True))
        action = tuple(g.space.sample(h, ok, z) for g, h, ok, z in parts)
        emitted = tuple(g.space.emit(a) for g, a in zip(self.spec.groups, action, strict=True))
        return action, emitted, heads, memory

    def log_prob(self, heads: Arrays, legal: tuple[np.ndarray | None, ...], action: Arrays) -> np.ndarray:
        """`[... n]` of recorded actions, for one step or many."""
        return log_prob(self.spec, heads, legal, action)

    def heads(self, step: Step, memory: Memory, bound: Bound | None = None) -> tuple[Arrays, Memory]:
        """The policy's outputs, ready to sample from, as `Algorithm.heads` gives them. Raises ValueError before there are weights."""
        if (bound := bound or self._bound) is None:
            raise ValueError("FastActor has no weights yet: call load first")
        actor, seen, explore = bound
        with np.errstate(over="ignore"):  # a gate's exponential may be infinite: the gate is then 0
            heads, _, after = policy_forward(self._actors, actor, seen, step, memory.actor)
            heads = with_shares(self.spec, heads, seen)
        if self._exploring is not None:
            parts = zip(self.spec.groups, heads, step.legal, strict=True)
            heads = tuple(exploration_head(self._exploring, g.space, h, ok, explore, g.default) for g, h, ok in parts)
        return heads, Memory(after, memory.critic, memory.q)


# ---- plain JSON and back
def _actor_to_json(a: Actor) -> dict[str, Any]:
    fuse = {f.name: getattr(a.fuse, f.name) for f in fields(Fuse) if f.name not in ("group", "encoders")}
    encoders = {leaf: _part_to_json(e, _ENCODERS) for leaf, e in a.fuse.encoders.items()}
    return {"body": _part_to_json(a.body, _BODIES), "encoders": encoders, "fuse": _plain(fuse)}


def _part_to_json(part: Any, kinds: Mapping[str, type]) -> dict[str, Any]:
    """A part's `kind`, of the package's `kinds`, or `own:Class`, and its fields."""
    kind = next((k for k, c in kinds.items() if type(part) is c), f"{OWN}{type(part).__name__}")
    return {"kind": kind, **{f.name: to_plain(getattr(part, f.name), f"{type(part).__name__}.{f.name}") for f in fields(part)}}


def _part_from_json(plain: dict[str, Any], kinds: Mapping[str, type], parts: Sequence[type]) -> Any:
    kind = plain["kind"]
    known = {**kinds, **{f"{OWN}{c.__name__}": c for c in parts}}
    if kind not in known:
        name = kind.removeprefix(OWN)
        raise UserError(f"this policy has a part of its user's own, {name}: give its class, as in Policy.load(path, parts=[{name}])")
    return known[kind](**{k: from_plain(v) for k, v in plain.items() if k != "kind"})


def _actor_from_json(plain: dict[str, Any], group: Group, parts: Sequence[type]) -> Actor:
    if "encoders" in plain:
        encoders = {leaf: _part_from_json(e, _ENCODERS, parts) for leaf, e in plain["encoders"].items()}
    else:  # of the first policies: all images have one encoder
        encoders = encoders_of(group, {}, Image(**_frozen(plain["image"])))
    return Actor(Fuse(group, encoders=encoders, **_frozen(plain["fuse"])), _part_from_json(plain["body"], _BODIES, parts))


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}


def _frozen(fields: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}


def _plan(tree: Any) -> Any:
    """The structure of a tree of arrays: records and dictionaries by name, tuples as lists, arrays as shape and dtype. Raises ValueError
    for a user's own record."""
    if tree is None:
        return None
    if is_dataclass(tree) and type(tree).__name__ not in _RECORDS:
        raise ValueError(f"parameters hold a {type(tree).__name__}, which actors without JAX do not know: use dictionaries or tuples")
    if is_dataclass(tree):
        return {"record": type(tree).__name__, "of": {k: _plan(v) for k, v in vars(tree).items()}}
    if isinstance(tree, dict):
        return {"record": None, "of": {k: _plan(v) for k, v in tree.items()}}
    return [_plan(x) for x in tree] if isinstance(tree, tuple | list) else {"shape": list(tree.shape), "dtype": str(tree.dtype)}


def _blank(plan: Any) -> Any:
    """The tree that `_plan` describes, of zeros."""
    if plan is None:
        return None
    if isinstance(plan, list):
        return tuple(_blank(x) for x in plan)
    if "shape" in plan:
        return np.zeros(plan["shape"], plan["dtype"])
    inner = {k: _blank(v) for k, v in plan["of"].items()}
    return inner if plan["record"] is None else _RECORDS[plan["record"]](**inner)


def _each(tree: Any, leaf: Callable[[str, Any], Any], name: str = "") -> Any:
    """A tree with `leaf(name, array)` in place of each array, in a fixed order: fields as declared, dictionaries sorted."""
    inner = lambda k, x: _each(x, leaf, f"{name}.{k}" if name else str(k))
    if tree is None:
        return None
    if is_dataclass(tree) and not isinstance(tree, type):
        return type(tree)(*(inner(f.name, getattr(tree, f.name)) for f in fields(tree)))
    if isinstance(tree, dict):
        return {k: inner(k, tree[k]) for k in sorted(tree)}
    return tuple(inner(i, x) for i, x in enumerate(tree)) if isinstance(tree, tuple | list) else leaf(name, tree)
