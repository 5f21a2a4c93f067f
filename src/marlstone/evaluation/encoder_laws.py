"""Laws that every encoder keeps, this package's and yours: `marlstone check-encoder`.

A law is a function of a `Specimen`, one encoder and one leaf, that returns where it holds, raises `Broken` with the numbers where it does
not, and `Skipped` with the reason where it does not apply.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.config import RunConfig, dump, parse
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.core.trees import map_arrays
from marlstone.core.types import Leaf
from marlstone.encoders import Encoder
from marlstone.encoders.contract import runs_in_numpy
from marlstone.evaluation.laws import Broken, Skipped, Verdict, all_judged, judged, title

Array = Any
CLOSE = 1e-4  # relative; programs compiled differently round differently
ENTRIES = 4
LEAVES = {
    "image": (Leaf("image", (12, 10, 3), "uint8"), Leaf("image", (16, 16, 1), "float32")),
    "vector": (Leaf("vector", (5,)), Leaf("vector", (1,))),
}
"""What an encoder is checked on, where no environment is named."""


@dataclass(frozen=True, eq=False)
class Specimen:
    """One encoder on one leaf, with random parameters and random observations."""

    encoder: Encoder
    leaf: Leaf

    @cached_property
    def width(self) -> int:
        """Features it declares."""
        return self.encoder.width(self.leaf)

    @cached_property
    def p(self) -> Any:
        """Parameters of one network."""
        return self.init(jax.random.key(0))

    @cached_property
    def init(self) -> Callable[[Array], Any]:
        """Parameters of a key, compiled."""
        return jax.jit(lambda key: self.encoder.init(self.leaf, key))

    def seen(self, *lead: int, seed: int = 0) -> np.ndarray:
        """Random observations `[*lead *leaf.shape]`: whole numbers up to 255, or standard normal ones."""
        rng, shape = np.random.default_rng(seed), (*lead, *self.leaf.shape)
        if self.leaf.dtype == "uint8":
            return rng.integers(0, 256, shape).astype(np.uint8)
        return rng.normal(size=shape).astype(self.leaf.dtype)

    def apply(self, p: Any, x: Array) -> Array:
        """The encoder on this leaf."""
        return self.encoder.apply(p, self.leaf, x)

    def encode(self, x: np.ndarray, p: Any = None) -> np.ndarray:
        """Its features, by JAX, compiled."""
        return np.asarray(self._compiled(self.p if p is None else p, jnp.asarray(x)))

    @cached_property
    def _compiled(self) -> Callable[[Any, Array], Array]:
        return jax.jit(self.apply)

    @cached_property
    def gradient(self) -> Callable[[Any, Array], Any]:
        """Of a bounded function of all features, for all parameters; compiled."""
        weigh = np.random.default_rng(2).normal(size=self.width).astype(np.float32)
        return jax.jit(jax.grad(lambda p, x: (jnp.sin(self.apply(p, x)) * weigh).sum()))


# ---- the laws
def features_have_their_shape(s: Specimen) -> None:
    """`[... *leaf.shape]` becomes `[... width]`, float32 and finite, for any number of leading axes, none too."""
    if type(s.width) is not int or s.width < 1:
        raise Broken(f"width is {s.width!r}: a positive whole number is asked")
    for lead in ((), (ENTRIES,), (2, 3)):
        try:
            y = s.encode(s.seen(*lead))
        except (TypeError, ValueError, IndexError) as error:
            shape = [*lead, *s.leaf.shape]
            raise Broken(f"of {shape} it fails: {type(error).__name__}: {' '.join(str(error).split())[:300]}") from error
        if y.shape != (*lead, s.width) or y.dtype != np.float32:
            raise Broken(f"of {[*lead, *s.leaf.shape]} it makes {y.dtype}{list(y.shape)} where float32{[*lead, s.width]} is asked")
        if not np.isfinite(y).all():
            raise Broken(f"feature {np.argwhere(~np.isfinite(y))[0].tolist()} is {y[~np.isfinite(y)][0]}")


def a_key_makes_one_beginning(s: Specimen) -> None:
    """`init` depends on the leaf and its key alone, uses the key, makes arrays in records, dictionaries and tuples, and can be compiled."""
    first = s.encoder.init(s.leaf, jax.random.key(0))
    if any(not hasattr(x, "shape") for x in jax.tree.leaves(first)):
        raise Broken("`init` makes something that is no array: keep numbers in fields of the encoder")
    structures: list[Any] = [jax.tree.structure(x) for x in (first, map_arrays(lambda x: x, first))]
    if structures[0] != structures[1]:
        raise Broken("its parameters are no tree of records, dictionaries, tuples and lists")
    if not _all(lambda a, b: np.allclose(a, b, rtol=CLOSE, atol=CLOSE), first, s.p):
        raise Broken("called twice with one key, the second time compiled, `init` makes two different beginnings: draw from the key alone")
    if jax.tree.leaves(first) and _all(np.array_equal, s.p, s.init(jax.random.key(1))):
        raise Broken("two keys make the same beginning: draw from the key")


def compiling_changes_nothing(s: Specimen) -> None:
    """Features depend on parameters and observation alone: step by step, compiled, and once more, they are the same."""
    x = s.seen(ENTRIES)
    plain, again = (np.asarray(s.apply(s.p, jnp.asarray(x))) for _ in range(2))
    _same(plain, again, "when it is asked again")
    _same(plain, s.encode(x), "compiled instead of step by step")


def entries_are_encoded_apart(s: Specimen) -> None:
    """An observation's features do not depend on what else is in the batch, nor on how the batch is laid out."""
    x, other = s.seen(2, 3), s.seen(2, 3, seed=1)
    whole = s.encode(x)
    _same(np.stack([[s.encode(y) for y in row] for row in x]), whole, "in a batch instead of alone")
    mixed = np.concatenate([x[:1], other[1:]])
    _same(whole[:1], s.encode(mixed)[:1], "when other entries of the batch change")


def every_parameter_learns(s: Specimen) -> None:
    """No dead parameters: a gradient, finite and not 0, reaches each array of `init`."""
    if not jax.tree.leaves(s.p):
        raise Skipped("it has no parameters")
    grads = s.gradient(s.p, jnp.asarray(s.seen(32)))
    for path, g in jax.tree.leaves_with_path(grads):
        name = f"{jax.tree_util.keystr(path)} {list(g.shape)}"
        if not np.isfinite(g).all():
            raise Broken(f"the gradient of {name} is not finite")
        if g.size and not np.asarray(g).any():
            raise Broken(f"no gradient reaches {name}: leave it out, or let `apply` use it")


def all_of_an_observation_counts(s: Specimen) -> None:
    """Each number of the leaf moves some feature, for some observation."""
    x, places = s.seen(8).astype(np.float32), _some_places(s.leaf.shape)
    moved = np.stack([x] * len(places))
    for y, at in zip(moved, places, strict=True):
        for one in y:
            one[at] += 100 if s.leaf.dtype != "uint8" or one[at] < 128 else -100
    before, after = s.encode(x.astype(s.leaf.dtype)), s.encode(moved.astype(s.leaf.dtype))
    for at, features in zip(places, after, strict=True):
        if np.array_equal(before, features):
            raise Broken(f"number {list(at)} of the observation moves no feature")


def extreme_observations_stay_finite(s: Specimen) -> None:
    """Nothing but zeros, the brightest picture, numbers of a thousand: features and gradients are finite."""
    extremes = (0, 255) if s.leaf.dtype == "uint8" else (0.0, 1e3, -1e3)
    for extreme in extremes:
        x = np.full((ENTRIES, *s.leaf.shape), extreme, s.leaf.dtype)
        if not np.isfinite(s.encode(x)).all():
            raise Broken(f"of nothing but {extreme:g} a feature is not finite")
        if not all(np.isfinite(g).all() for g in jax.tree.leaves(s.gradient(s.p, jnp.asarray(x)))):
            raise Broken(f"of nothing but {extreme:g} a gradient is not finite")


def agents_may_have_parameters_of_their_own(s: Specimen) -> None:
    """With `sharing = "none"` parameters are stacked, and each agent is encoded by its own: the same as one by one."""
    keys = jax.random.split(jax.random.key(1), 2)
    x, stacked = s.seen(ENTRIES, 2), jax.jit(jax.vmap(s.init))(keys)
    together = jax.jit(jax.vmap(s.apply, (0, 1), 1))(stacked, jnp.asarray(x))
    alone = [s.encode(x[:, i], jax.tree.map(lambda a: a[i], stacked)) for i in range(2)]  # noqa: B023
    _same(np.stack(alone, 1), np.asarray(together), "when agents are encoded together")


def numpy_and_jax_agree(s: Specimen) -> None:
    """Where it claims to run in NumPy (`numpy = True`): the same features, made of NumPy's arrays alone."""
    if not runs_in_numpy(s.encoder):
        raise Skipped("it does not claim to run in NumPy")
    p, x = map_arrays(np.asarray, s.p), s.seen(2, 3)
    y = s.encoder.apply(p, s.leaf, x)
    if not isinstance(y, np.ndarray):
        raise Broken(f"given NumPy's arrays, it makes a {type(y).__name__}: ask arrays for their namespace, x.__array_namespace__()")
    _same(s.encode(x), y, "in NumPy instead of JAX")


def fields_survive_toml(s: Specimen) -> None:
    """Written to a run's config.toml and read again, the encoder is the same."""
    config = RunConfig(env="any")
    try:
        text = dump(replace(config, architecture=replace(config.architecture, encoders={"all": s.encoder})))
        again = parse(text).architecture.encoders["all"]
    except UserError as error:
        raise Broken(f"its fields cannot be written or read: {error}") from error
    if again != s.encoder:
        raise Broken(f"{s.encoder} was written, {again} was read")


LAWS: tuple[Callable[[Specimen], None], ...] = (
    features_have_their_shape, a_key_makes_one_beginning, compiling_changes_nothing, entries_are_encoded_apart, every_parameter_learns,
    all_of_an_observation_counts, extreme_observations_stay_finite, agents_may_have_parameters_of_their_own, numpy_and_jax_agree,
    fields_survive_toml,
)  # fmt: skip


def judged_on_all(law: Callable[[Specimen], None], specimens: Sequence[Specimen]) -> Verdict:
    """The verdict on all leaves: broken by the first that breaks it, skipped where it does not apply to one."""
    skipped = ""
    for s in specimens:
        verdict = judged(law, s)
        if verdict.held is False:
            where = f"{s.leaf.kind} {'x'.join(map(str, s.leaf.shape))} {s.leaf.dtype}"
            return Verdict(verdict.law, False, f"{where}: {verdict.says}")
        skipped = verdict.says if verdict.held is None else skipped
    return Verdict(title(law), None if skipped else True, skipped)


def check(encoder: Encoder, leaves: Sequence[Leaf]) -> list[Verdict]:
    """Every law's verdict. An encoder whose features are not as asked is not asked further."""
    specimens = [Specimen(encoder, leaf) for leaf in leaves]
    return all_judged(LAWS, lambda law: judged_on_all(law, specimens), "its features are not as asked")


def leaves_for(encoder: Encoder, env: str | None) -> list[Leaf]:
    """What it is checked on: all it accepts of an environment's observations, or, without one, leaves of each kind it accepts that are
    neither too small nor too large for it. Raises `UserError` where that is nothing."""
    if env is None:
        found = [leaf for kind in encoder.accepts for leaf in LEAVES.get(kind, ())]
    else:
        from marlstone.envs.make import make

        made = make(env)
        found = [leaf for g in made.spec.groups for leaf in g.observation.values() if leaf.kind in encoder.accepts]
        getattr(made, "close", lambda: None)()
    found, why = list({(x.kind, x.shape, x.dtype): x for x in found}.values()), ""
    for leaf in tuple(found):
        try:
            encoder.width(leaf)
        except ValueError as reason:
            found.remove(leaf)
            why = f" ({leaf.kind} {'x'.join(map(str, leaf.shape))}: {reason})"
    if not found:
        what = f"{' and '.join(encoder.accepts)} leaves, and none of {'the leaves of these laws' if env is None else env}"
        raise UserError(f"{type(encoder).__name__} accepts {what}{why}: name an environment that has one by --env")
    return found


# ---- comparing
def _all(same: Callable[[Any, Any], bool], a: Any, b: Any) -> bool:
    return all(same(np.asarray(x), np.asarray(y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def _same(a: np.ndarray, b: np.ndarray, when: str) -> None:
    gap = np.abs(a - b)
    near = gap <= CLOSE * (np.maximum(np.abs(a), np.abs(b)) + np.abs(a).mean())
    if not near.all():
        at = np.unravel_index(np.argmax(np.where(near, -1.0, np.nan_to_num(gap, nan=np.inf))), gap.shape)
        raise Broken(f"feature {[int(i) for i in at]} is {b[at]:.6g} and not {a[at]:.6g} {when}")


def _some_places(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """At most 12 places of a leaf, corners among them."""
    every = list(np.ndindex(*shape))
    return [every[i] for i in np.unique(np.linspace(0, len(every) - 1, min(12, len(every))).round().astype(int))]
