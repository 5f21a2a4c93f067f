"""FLOPs of the products and convolutions in a JAX program, counted in its trace: nothing is compiled or run.

XLA's own cost analysis counts the body of a loop once; here every pass of a scan counts, so a whole update is counted as it runs: epochs,
minibatches, gradients, critics, mixers and target networks. A multiplication and an addition are two FLOPs; elementwise work is left out.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

Shape = tuple[int, int, int]
"""Of a product `[m k] [k n]`; what is mapped over counts in the FLOPs, not in the shape."""
SHAPES, MOST = 5, 0.9
"""So many shapes of products stand for all others, fewer where they make up this share of the FLOPs."""
Component = Literal["actor", "critic", "q", "credit", "channel", "encoder"]
"""Networks whose FLOPs are told apart; actors, critics and action-value critics (`q`) by group, encoders by observation leaf."""
OTHER = "other"
_MARK = "cost_"
_MARKED = re.compile(rf"{_MARK}([a-z]+(?:_\d+)?)(?![a-z0-9_])")


def component(kind: Component, number: int | None = None, of: Any = None) -> AbstractContextManager[Any]:
    """Products in this context belong to a component, the `number`th of its kind: a name in the trace, which changes nothing that is
    computed. Nothing at all where `of`, an array that it computes with, is NumPy's."""
    if isinstance(of, np.ndarray):
        return nullcontext()
    import jax

    return jax.named_scope(f"{_MARK}{kind}" if number is None else f"{_MARK}{kind}_{number}")


@dataclass(frozen=True)
class Flops:
    """FLOPs per joint step.

    Attributes:
      acting: of the policy's forward pass.
      learning: of the updates, per joint step they learn from.
      by_shape: of both together, by the products' shapes.
      acting_by: acting's, by component: `actor_0` of the first group, `actor_0/encoder_1` of the encoder of its second leaf, `other`.
      learning_by: learning's. Both add up exactly.
    """

    acting: int
    learning: int
    by_shape: Mapping[Shape, float]
    acting_by: Mapping[str, int] = field(default_factory=dict)
    learning_by: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Acting and learning together."""
        return self.acting + self.learning

    @property
    def heaviest(self) -> dict[Shape, float]:
        """The shapes that cost most, up to `SHAPES` of them or `MOST` of all FLOPs; with what each costs."""
        chosen, missing = {}, sum(self.by_shape.values())
        left = (1 - MOST) * missing
        for shape, flops in sorted(self.by_shape.items(), key=lambda x: -x[1])[:SHAPES]:
            if missing <= left:
                break
            chosen[shape] = flops
            missing -= flops
        return chosen


def count_flops(f: Callable[..., Any], *args: Any) -> int:
    """FLOPs of one call `f(*args)`; arguments may be shapes (`jax.ShapeDtypeStruct`).

    Of a conditional's branches the most expensive one counts. A loop whose number of passes the trace does not know counts once.
    """
    return sum(count_products(f, *args).values())


def count_products(f: Callable[..., Any], *args: Any) -> Counter[Shape]:
    """As `count_flops`, by the shapes of the products; a convolution counts as the product of its windows and its filters."""
    return by_shape(count_components(f, *args))


Counted = Counter[tuple[str, Shape]]


def count_components(f: Callable[..., Any], *args: Any) -> Counted:
    """As `count_products`, by component and shape. What is differentiated belongs where its forward pass does."""
    import jax

    return _of(jax.make_jaxpr(f)(*args).jaxpr, "")


def by_shape(counted: Counted) -> Counter[Shape]:
    """FLOPs by shape, over all components."""
    out: Counter[Shape] = Counter()
    for (_, shape), flops in counted.items():
        out[shape] += flops
    return out


def by_component(counted: Counted, total: int, times: int = 1) -> dict[str, int]:
    """FLOPs by component, divided by `times`, in whole numbers that add up to `total`, the rounded sum of them all."""
    sums: Counter[str] = Counter()
    for (name, _), flops in counted.items():
        sums[name] += flops
    whole = {name: flops // times for name, flops in sums.items()}
    left = total - sum(whole.values())
    largest = sorted(whole, key=lambda name: (-(sums[name] % times), name))  # those that were cut most are given what is left
    for name in largest[:left]:
        whole[name] += 1
    return whole


def _component(stack: str) -> str:
    """The component that a stack of names lies in, outermost first; a name that repeats the one around it is the same one."""
    found = list[str]()
    for name in _MARKED.findall(stack):
        if name not in found:
            found.append(name)
    return "/".join(found) or OTHER


def _of(jaxpr: Any, within: str) -> Counted:
    counted: Counted = Counter()
    for equation in _needed(jaxpr):
        counted.update(_of_equation(equation, within))
    return counted


def _needed(jaxpr: Any) -> Iterator[Any]:
    """The equations that some output depends on: traces hold others too, which compilers leave out."""
    from jax.extend.core import Literal

    read = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    for equation in reversed(jaxpr.eqns):
        if equation.effects or not read.isdisjoint(equation.outvars):
            read |= {v for v in equation.invars if not isinstance(v, Literal)}
            yield equation


def _of_equation(equation: Any, within: str) -> Counted:
    name, params = equation.primitive.name, equation.params
    at = f"{within}/{equation.source_info.name_stack}"
    if name == "dot_general":
        (contracted, _), (batched, _) = params["dimension_numbers"]
        left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.size
        k = math.prod(left[i] for i in contracted)
        times = math.prod(left[i] for i in batched)
        m = math.prod(left) // max(1, k * times)
        return Counter({(_component(at), (m, k, out // max(1, m * times))): 2 * out * k})
    if name == "conv_general_dilated":
        shape, of = equation.invars[1].aval.shape, params["dimension_numbers"].rhs_spec
        k, n = math.prod(shape[i] for i in of[1:]), shape[of[0]]  # input features of a group, and the window
        out = equation.outvars[0].aval.size
        flops = out * 2 * k // math.prod(params["lhs_dilation"])  # dilation puts zeros between
        return Counter({(_component(at), (out // n, k, n)): flops})
    if params.get("name") == "outer_sum":  # `core.narrow_product`: a product in another form, maybe mapped
        inner, out = params["jaxpr"].jaxpr, equation.outvars[0].aval
        size = next(e for e in inner.eqns if e.primitive.name == "mul").outvars[0].aval.size
        j, k = out.shape[-2:]
        return Counter({(_component(at), (j, size // max(1, out.size), k)): 2 * size})
    if name == "cond":
        return max((_of(branch.jaxpr, at) for branch in params["branches"]), key=Counter.total)
    times, counted = params.get("length", 1), Counter[tuple[str, Shape]]()
    for inner in _inner(params):
        counted.update(_of(inner, at))
    return Counter({key: times * n for key, n in counted.items()})


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    """The programs within an equation: bodies of loops, functions that it calls."""
    for value in params.values():
        jaxpr = getattr(value, "jaxpr", value)
        if hasattr(jaxpr, "eqns"):
            yield jaxpr
