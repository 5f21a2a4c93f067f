"""Counting what a compiled program executes (`benchmarks/hlo_counts.py`): laws on programs whose counts are known."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax import lax

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from hlo_counts import Program, split

TRIPS = 'backend_config={"known_trip_count":{"n":"10"}}'
# A loop that writes a slice of 4 numbers of one buffer, each round, from 4 numbers sliced from another, and a conditional after it.
WRITTEN = """HloModule written

%fused (p.0: f32[10,4], p.1: s32[], p.2: f32[10,4]) -> f32[10,4] {
  %p.0 = f32[10,4]{1,0} parameter(0)
  %p.1 = s32[] parameter(1)
  %p.2 = f32[10,4]{1,0} parameter(2)
  %zero = s32[] constant(0)
  %taken = f32[1,4]{1,0} dynamic-slice(%p.2, %p.1, %zero), dynamic_slice_sizes={1,4}
  ROOT %put = f32[10,4]{1,0} dynamic-update-slice(%p.0, %taken, %p.1, %zero)
}

%body (s: (s32[], f32[10,4], f32[10,4])) -> (s32[], f32[10,4], f32[10,4]) {
  %s = (s32[], f32[10,4]{1,0}, f32[10,4]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %to = f32[10,4]{1,0} get-tuple-element(%s), index=1
  %from = f32[10,4]{1,0} get-tuple-element(%s), index=2
  %new = f32[10,4]{1,0} fusion(%to, %i, %from), kind=kLoop, calls=%fused
  ROOT %out = (s32[], f32[10,4]{1,0}, f32[10,4]{1,0}) tuple(%i, %new, %from)
}

%more (s: (s32[], f32[10,4], f32[10,4])) -> pred[] {
  %s = (s32[], f32[10,4]{1,0}, f32[10,4]{1,0}) parameter(0)
  ROOT %yes = pred[] constant(true)
}

%same (x: f32[10,4]) -> f32[10,4] {
  ROOT %x = f32[10,4]{1,0} parameter(0)
}

%copied (x: f32[10,4]) -> f32[10,4] {
  %x = f32[10,4]{1,0} parameter(0)
  ROOT %y = f32[10,4]{1,0} copy(%x)
}

ENTRY %main (i: s32[], a: f32[10,4], b: f32[10,4]) -> f32[10,4] {
  %i = s32[] parameter(0)
  %a = f32[10,4]{1,0} parameter(1)
  %b = f32[10,4]{1,0} parameter(2)
  %t = (s32[], f32[10,4]{1,0}, f32[10,4]{1,0}) tuple(%i, %a, %b)
  %w = (s32[], f32[10,4]{1,0}, f32[10,4]{1,0}) while(%t), condition=%more, body=%body, LOOP
  %r = f32[10,4]{1,0} get-tuple-element(%w), index=1
  ROOT %c = f32[10,4]{1,0} conditional(%i, %r, %r), branch_computations={%same, %copied}
}
"""


def test_a_slice_and_an_update_in_place_count_what_is_moved_each_round() -> None:
    program = Program(WRITTEN.replace("LOOP", TRIPS), lambda name, n: (0.75, 0.25))
    body = program.count("body")
    assert (body.kernels, body.bytes) == (1, 16 + 16 + 4)  # four numbers read, four written, and the index
    whole = program.count(program.entry)
    assert whole.kernels == 10 + 0.25  # a copy in every fourth program
    assert whole.bytes == 10 * 36 + 0.25 * 2 * 160
    assert whole.waits == 1


def test_a_loop_of_unknown_length_is_refused_or_takes_the_rounds_that_are_given() -> None:
    unknown = WRITTEN.replace(", LOOP", "")
    with pytest.raises(ValueError, match="no known length"):
        Program(unknown).count("main")
    assert Program(unknown, lambda name, n: (1.0, 0.0), 2.5).count("main").kernels == 2.5


def test_kernels_and_products_of_a_scan_are_those_of_its_body_times_its_length() -> None:
    w = jnp.ones((48, 48))

    def counts(length: int) -> tuple[float, float]:
        """Kernels and FLOPs of so many rounds."""
        run = jax.jit(lambda x: lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=length)[0])
        program = Program(run.lower(jnp.ones((32, 48))).compile().as_text())
        count = program.count(program.entry)
        return count.kernels, count.flops

    (few, less), (some, middle), (many, more) = counts(7), counts(14), counts(28)
    assert less == 7 * 2 * 32 * 48 * 48 and middle == 2 * less and more == 4 * less
    assert some > few and many - some == 2 * (some - few)


def test_an_elementwise_program_is_one_kernel_that_reads_its_inputs_and_writes_its_output() -> None:
    x = jnp.ones(1000)
    program = Program(jax.jit(lambda x, y: jnp.tanh(x) * y + 1).lower(x, x).compile().as_text())
    count = program.count(program.entry)
    assert (count.kernels, count.bytes, count.flops, count.waits) == (1, 3 * 4000, 0, 0)


def test_an_update_is_split_where_its_loop_over_steps_ends() -> None:
    w = jnp.ones((48, 48))

    def update(x: jax.Array) -> jax.Array:
        """Six steps with a product, then a product with what came of them."""
        after, seen = lax.scan(lambda c, _: (jnp.tanh(c @ w), c), x, None, length=6)
        return jnp.einsum("tbi,tbj->ij", seen, seen) + after.sum()

    parts = split(program := Program(jax.jit(update).lower(jnp.ones((32, 48))).compile().as_text()), program.entry, 6)
    assert parts.step.flops == 2 * 32 * 48 * 48
    assert parts.learning.flops == 6 * 2 * 32 * 48 * 48
    total = parts.before.kernels + 6 * parts.step.kernels + parts.learning.kernels
    assert total == program.count(program.entry).kernels
    with pytest.raises(ValueError, match="no loop of 5 rounds"):
        split(program, program.entry, 5)
