"""What an encoder is: one leaf of an observation to a vector of features. And which encoder each leaf of a group gets."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from marlstone.core.errors import suggest
from marlstone.core.types import Group, Leaf, Spec

Array = Any
KINDS = ("image", "vector")
"""Kinds of leaves: an encoder may be chosen for all of one kind."""
ALL = "all"
"""The key of `architecture.encoders` that stands for every leaf its encoder accepts."""


class Encoder(Protocol):
    """The contract. A frozen dataclass whose fields are its configuration: subclass it, in one file, and name it `file.py:Class`.

    `accepts`: kinds of leaves it encodes, of `image` and `vector`; `numpy`: whether `apply` runs on NumPy's arrays as it does on JAX's
    (it asks its arrays for the namespace, `x.__array_namespace__()`), so that policies act by it without JAX. A
    class that derives from another says so anew.

    Encoders do not know agents: parameters are those of one network, and agents, time and environments are leading axes. Images come as
    the environment gives them (`uint8` in 0..255, or floats); vectors come normalized, if `learner.normalize_observations`, and the
    features that smaller agents of a group lack are 0.
    """

    accepts: ClassVar[tuple[str, ...]]
    numpy: ClassVar[bool] = False

    @abstractmethod
    def width(self, leaf: Leaf) -> int:
        """How many features the leaf becomes. Raises ValueError, with a remedy, for a leaf that it cannot take (its size, say)."""

    @abstractmethod
    def init(self, leaf: Leaf, key: Array) -> Any:
        """Its parameters, arrays only, of `key` alone: a tree of records, dictionaries and tuples."""

    @abstractmethod
    def apply(self, p: Any, leaf: Leaf, x: Array) -> Array:
        """`x [... *leaf.shape]` to features `[... width]`, float32, each entry by itself; any number of leading axes, none too."""


def runs_in_numpy(part: Any) -> bool:
    """Whether an encoder or a body says that it runs in NumPy. A class says so itself: one that derives from it may do otherwise."""
    return bool(vars(type(part)).get("numpy", False))


def encoders_of(group: Group, chosen: Mapping[str, Encoder], image: Encoder) -> dict[str, Encoder]:
    """The encoder of each leaf that has one: `chosen` by the leaf's name, else by its kind, else for `all`, if it accepts the leaf. Other
    images have `image`; other vectors go into the network's first layer as they are."""
    found = {}
    for name, leaf in group.observation.items():
        every = chosen.get(ALL)
        if name in chosen or leaf.kind in chosen:
            found[name] = chosen.get(name) or chosen[leaf.kind]
        elif every is not None and leaf.kind in every.accepts:
            found[name] = every
        elif leaf.kind == "image":
            found[name] = image
    return found


def refuses(spec: Spec, chosen: Mapping[str, Encoder]) -> str | None:
    """Why encoders chosen so cannot serve an environment, naming the field and the remedy; or None."""
    leaves = [(name, leaf) for g in spec.groups for name, leaf in g.observation.items()]
    for key, encoder in chosen.items():
        what, its = f"architecture.encoders.{key} ({type(encoder).__name__})", " and ".join(encoder.accepts)
        meant = [(n, leaf) for n, leaf in leaves if key in (n, ALL, leaf.kind)]
        if not meant:
            known = list(dict.fromkeys((*(n for n, _ in leaves), *(leaf.kind for _, leaf in leaves), ALL)))
            return f"{what}: no observation of this environment is called {key!r}; {suggest(key, known)}"
        if not (taken := [(n, leaf) for n, leaf in meant if leaf.kind in encoder.accepts]) or (key != ALL and len(taken) < len(meant)):
            name, leaf = next((n, leaf) for n, leaf in meant if leaf.kind not in encoder.accepts)
            return f"{what} encodes {its} leaves, and {name!r} is of kind {leaf.kind}: name a leaf that it takes, or another encoder"
        for name, leaf in taken:
            try:
                encoder.width(leaf)
            except ValueError as reason:
                return f"{what} cannot take {name!r}, {leaf.kind} {'x'.join(map(str, leaf.shape))}: {reason}"
            if wrong := _misshapen(encoder, leaf):
                return f"{what} of {name!r}: {wrong}; marlstone check-encoder says what else it breaks"
    return None


def _misshapen(encoder: Encoder, leaf: Leaf) -> str | None:
    """How the features of a leaf differ from what `width` promises; None if they do not. Nothing is computed."""
    import jax

    seen = jax.ShapeDtypeStruct((2, *leaf.shape), leaf.dtype if leaf.kind == "image" else "float32")
    made = jax.eval_shape(lambda key, x: encoder.apply(encoder.init(leaf, key), leaf, x), jax.random.key(0), seen)
    found, promised = getattr(made, "shape", type(made).__name__), (2, encoder.width(leaf))
    return None if found == promised else f"width says {promised[1]} features, and of two observations apply returns {found}"
