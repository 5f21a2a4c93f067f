"""Compile options: those that the installed XLA does not know are left out, and a wrong value of a known one is an error."""

import jax
import jax.numpy as jnp
import pytest

from marlstone.core.compile_options import CPU_OPTIONS, FAST_COMPILE, FASTEST_COMPILE, known, supported


def test_unknown_options_are_left_out_and_what_is_left_compiles() -> None:
    kept = supported({"xla_backend_optimization_level": 1, "xla_gone_with_the_last_release": False})
    assert kept == {"xla_backend_optimization_level": 1}
    assert not known("xla_gone_with_the_last_release", True)
    for options in (CPU_OPTIONS, FAST_COMPILE, FASTEST_COMPILE):
        assert float(jax.jit(lambda x: jnp.tanh(x) * 2, compiler_options=supported(options))(0.0)) == 0


def test_a_value_that_xla_refuses_is_not_taken_for_an_unknown_option() -> None:
    with pytest.raises(jax.errors.JaxRuntimeError, match="xla_backend_optimization_level"):
        known("xla_backend_optimization_level", "high")


def test_accelerators_get_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert supported(FAST_COMPILE) is None
