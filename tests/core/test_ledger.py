"""Quantities by phase, agent and kind: nothing is lost, doubled or rounded."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marlstone.core.distributions import Discrete
from marlstone.core.ledger import KINDS, PHASES, SHARED, Costs, divided
from marlstone.core.types import Group, Leaf, Spec
from marlstone.core.usage import LEAF, USAGE, counted, price_micro

ENTRIES = st.lists(
    st.tuples(st.sampled_from(PHASES), st.sampled_from(["a", "b", SHARED]), st.sampled_from(KINDS), st.integers(0, 2**70)), max_size=12
)


def costs_of(entries: Any) -> Costs:
    out = Costs()
    for entry in entries:
        out.add(*entry)
    return out


@settings(max_examples=50, deadline=None)
@given(first=ENTRIES, second=ENTRIES)
def test_agents_and_shared_are_the_total(first: Any, second: Any) -> None:
    """Of every phase and kind, and of all phases; what was written reads back; what is added comes off again."""
    a, b = costs_of(first), costs_of(second)
    both = a.plus(b)
    for phase in PHASES:
        for kind in KINDS:
            asked = sum(n for p, _, k, n in (*first, *second) if (p, k) == (phase, kind))
            assert both.total(phase).get(kind, 0) == asked == sum(x.get(kind, 0) for x in both.agents(phase).values())
    assert both.total() == {k: n for k in KINDS if (n := sum(x[3] for x in (*first, *second) if x[2] == k))}
    assert Costs.read(both.plain()).plain() == both.plain() and both.less(b).plain() == a.plain()


@given(amount=st.integers(0, 2**70), n=st.integers(0, 9))
def test_a_remainder_is_shared(amount: int, n: int) -> None:
    agents = tuple(f"a{i}" for i in range(n))
    parts = divided(amount, agents)
    assert sum(parts.values()) == amount and (n == 0 or parts[SHARED] < n) and len({parts[a] for a in agents}) <= 1


@pytest.mark.parametrize(
    "entry", [("learn", "a", "steps", 1), ("train", "a", "hops", 1), ("train", "a", "steps", -1), ("train", "a", "steps", 0.5)]
)
def test_what_is_no_count_is_refused(entry: Any) -> None:
    with pytest.raises(ValueError, match="Costs"):
        Costs().add(*entry)


def test_what_tools_used_is_summed_exactly() -> None:
    """Agents without tools use nothing; prices are whole micro-units of currency, beyond what 32 bits and float32 hold together."""
    groups = (
        Group("x", ("a", "b"), {LEAF: Leaf("record", (len(USAGE),))}, Discrete(2)),
        Group("y", ("c",), {"o": Leaf("vector", (1,))}, Discrete(2)),
    )
    rng = np.random.default_rng(0)
    usage = rng.integers(0, 5, (64, 500, 2, len(USAGE))).astype(np.float32)
    usage[..., -1] = rng.choice([0.1, 0.000001, 3.25, 0.7], usage.shape[:-1])
    real, acts = rng.random((64, 500)) < 0.9, rng.random((64, 500, 3)) < 0.5
    found = counted(Spec(groups, 1), jnp.array(acts), jnp.array(real), {0: jnp.array(usage)})
    assert found["decisions"].tolist() == acts.sum((0, 1)).tolist()
    for k, name in enumerate(USAGE[:-1]):
        assert found[name].tolist() == [*(usage[..., k] * real[..., None]).sum((0, 1), np.float64).astype(int).tolist(), 0]
    micro = np.rint(usage[..., -1].astype(np.float64) * 1e6).astype(int) * real[..., None]
    assert [price_micro(*x) for x in zip(found["price_low"].tolist(), found["price_high"].tolist(), strict=True)] == [*micro.sum((0, 1)), 0]
    assert micro.sum() > 2**32
