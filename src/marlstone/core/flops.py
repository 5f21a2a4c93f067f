"""FLOPs of the products and convolutions in a JAX program, counted in its trace: nothing is compiled or run.

XLA's own cost analysis counts the body of a loop once; here every pass of a scan counts, so a whole update is counted as it runs: epochs,
minibatches, gradients, critics, mixers and target networks. A multiplication and an addition are two FLOPs; elementwise work is left out.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any


def count_flops(f: Callable[..., Any], *args: Any) -> int:
    """FLOPs of one call `f(*args)`; arguments may be shapes (`jax.ShapeDtypeStruct`).

    Of a conditional's branches the most expensive one counts. A loop whose number of passes the trace does not know counts once.
    """
    import jax

    return _of(jax.make_jaxpr(f)(*args).jaxpr)


def _of(jaxpr: Any) -> int:
    return sum(_of_equation(e) for e in _needed(jaxpr))


def _needed(jaxpr: Any) -> Iterator[Any]:
    """The equations that some output depends on: traces hold others too, which compilers leave out."""
    from jax.extend.core import Literal

    read = {v for v in jaxpr.outvars if not isinstance(v, Literal)}
    for equation in reversed(jaxpr.eqns):
        if equation.effects or not read.isdisjoint(equation.outvars):
            read |= {v for v in equation.invars if not isinstance(v, Literal)}
            yield equation


def _of_equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2 * equation.outvars[0].aval.size * math.prod(left[i] for i in contracted)
    if name == "conv_general_dilated":
        shape, at = equation.invars[1].aval.shape, params["dimension_numbers"].rhs_spec
        each = 2 * math.prod(shape[i] for i in at[1:])  # input features of a group, and the window
        return equation.outvars[0].aval.size * each // math.prod(params["lhs_dilation"])  # dilation puts zeros between
    if name == "cond":
        return max(_of(branch.jaxpr) for branch in params["branches"])
    return params.get("length", 1) * sum(_of(inner) for inner in _inner(params))


def _inner(params: dict[str, Any]) -> Iterator[Any]:
    """The programs within an equation: bodies of loops, functions that it calls."""
    for value in params.values():
        jaxpr = getattr(value, "jaxpr", value)
        if hasattr(jaxpr, "eqns"):
            yield jaxpr
