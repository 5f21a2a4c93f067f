"""Tuning and reporting seeds are apart; streams of components are apart, and do not depend on each other."""

import jax
import numpy as np
import pytest

from marlstone.core.errors import UserError
from marlstone.core.seeds import component_key, purpose_of, seeds_of


def test_kinds_of_seeds() -> None:
    assert seeds_of(1000, 3) == (1000, 1001, 1002) and purpose_of(1000) == "reporting"
    assert seeds_of(997, 3) == (997, 998, 999) and purpose_of(997) == "tuning"
    for first, count in ((998, 3), (-1, 2), (0, 0)):
        with pytest.raises(UserError, match="seed"):
            seeds_of(first, count)


def test_streams_differ() -> None:
    data = {(s, c): tuple(np.asarray(jax.random.key_data(component_key(s, c)))) for s in (0, 1) for c in ("init", "environment", "act")}
    assert len(set(data.values())) == 6
    many = jax.vmap(lambda s: component_key(s, "act"))(np.arange(2))
    assert tuple(np.asarray(jax.random.key_data(many[1]))) == data[1, "act"]


def test_unknown_component() -> None:
    with pytest.raises(UserError, match="did you mean 'learner'"):
        component_key(0, "learnr")  # type: ignore[arg-type]
