"""XLA's compile options for CPU programs: what we ask for, and which of it the installed XLA knows.

Options come and go between releases of jaxlib, and an unknown one fails to compile. So each is tried once on a trivial program.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

# Training: at LLVM's highest level loops with two transcendental functions, a GRU's for one, are not vectorized: three times slower.
CPU_OPTIONS: dict[str, Any] = {"xla_backend_optimization_level": 2}
# Programs that run a few times on small batches: a third of the compile time. Not level 0: jaxlib 0.10.2 then makes NaN of finite numbers.
FAST_COMPILE: dict[str, Any] = {
    "xla_backend_optimization_level": 1,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}
# Half the compile time, or less, for programs that run once or twice. At level 0 some finite second derivatives (shaping's) become NaN.
FASTEST_COMPILE: dict[str, Any] = FAST_COMPILE | {"xla_backend_optimization_level": 0}


def supported(options: Mapping[str, Any]) -> dict[str, Any] | None:
    """Those of `options` that this XLA knows, for `compiler_options` of `jax.jit`; None on accelerators, where none of them applies."""
    import jax

    if jax.default_backend() != "cpu":
        return None
    return {name: value for name, value in options.items() if known(name, value)}


@cache
def known(name: str, value: Any) -> bool:
    """Whether the installed XLA takes this compile option with this value: a trivial program is compiled with it, once per process."""
    import jax

    lowered = jax.jit(lambda x: x).lower(0.0)
    try:
        lowered.compile({name: value})
    except jax.errors.JaxRuntimeError as error:
        if "compile option" in str(error):
            return False
        raise
    return True
