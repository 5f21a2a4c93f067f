"""FLOPs of the products and convolutions in a JAX program, counted in its trace: nothing is compiled or run.

XLA's own cost analysis counts the body of a loop once; here every pass of a scan counts, so a whole update is counted as it runs: epochs,
minibatches, gradients, critics, mixers and target networks. A multiplication and an addition are two FLOPs; elementwise work is left out.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, int, int]
"""Of a product `[m k] [k n]`; what is mapped over counts in the FLOPs, not in the shape."""
SHAPES, MOST = 5, 0.9
"""So many shapes of products stand for all others, fewer where they make up this share of the FLOPs."""


@dataclass(frozen=True)
class Flops:
    """FLOPs per joint step.

    Attributes:
      acting: of the policy's forward pass.
      learning: of the updates, per joint step they learn from.
      by_shape: of both together, by the products' shapes.
    """

    acting: int
    learning: int
    by_shape: Mapping[Shape, float]

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
    import jax

    return _of(jax.make_jaxpr(f)(*args).jaxpr)


def _of(jaxpr: Any) -> Counter[Shape]:
    counted: Counter[Shape] = Counter()
    for equation in _needed(jaxpr):
        counted.update(_of_equation(equation))
    return counted


def _needed(jaxpr: Any) -> Iterator[Any]:
    """The equations that some output depends on: traces hold others too, which compilers leave out."""
    from jax.extend.core import Literal

    read = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    for equation in reversed(jaxpr.eqns):
        if equation.effects or not read.isdisjoint(equation.outvars):
            read |= {v for v in equation.invars if not isinstance(v, Literal)}
            yield equation


def _of_equation(equation: Any) -> Counter[Shape]:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), (batched, _) = params["dimension_numbers"]
        left, out = equation.invars[0].aval.shape, equation.outvars[0].aval.size
        k = math.prod(left[i] for i in contracted)
        times = math.prod(left[i] for i in batched)
        m = math.prod(left) // max(1, k * times)
        return Counter({(m, k, out // max(1, m * times)): 2 * out * k})
    if name == "conv_general_dilated":
        shape, at = equation.invars[1].aval.shape, params["dimension_numbers"].rhs_spec
        k, n = math.prod(shape[i] for i in at[1:]), shape[at[0]]  # input features of a group, and the window
        out = equation.outvars[0].aval.size
        return Counter({(out // n, k, n): out * 2 * k // math.prod(params["lhs_dilation"])})  # dilation puts zeros between
    if params.get("name") == "outer_sum":  # `core.narrow_product`: a product in another form, maybe mapped
        inner, out = params["jaxpr"].jaxpr, equation.outvars[0].aval
        size = next(e for e in inner.eqns if e.primitive.name == "mul").outvars[0].aval.size
        j, k = out.shape[-2:]
        return Counter({(j, size // max(1, out.size), k): 2 * size})
    if name == "cond":
        return max((_of(branch.jaxpr) for branch in params["branches"]), key=Counter.total)
    times, counted = params.get("length", 1), Counter[Shape]()
    for inner in _inner(params):
        counted.update(_of(inner))
    return Counter({shape: times * n for shape, n in counted.items()})


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    """The programs within an equation: bodies of loops, functions that it calls."""
    for value in params.values():
        jaxpr = getattr(value, "jaxpr", value)
        if hasattr(jaxpr, "eqns"):
            yield jaxpr
