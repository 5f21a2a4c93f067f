"""The list of worlds whose returns are recorded: what it says is trained in every run of the tests is trained here."""

import importlib.util
from collections.abc import Iterable

import pytest

from marlstone.envs.worlds import WORLDS, World
from tests.envs.contract_laws import keeps_its_contract, trains

pytestmark = pytest.mark.usefixtures("compiled_once")
PACKAGES = {"": "jax", "mabrax": "brax"}


def shown(worlds: Iterable[World]) -> list:
    return [pytest.param(w, id=w.env.partition("?")[0] + (w.env.partition("=")[2])) for w in worlds]


def law(world: World) -> None:
    package = PACKAGES.get(world.needs, world.needs)
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs marlstone[{world.needs}]")
    keeps_its_contract(world.env, t=20, ends=False)
    trains(world.env)


JAX = [w for w in WORLDS if w.env.startswith(("jumanji:", "jaxmarl:"))]
ELSEWHERE = ("jumanji:LevelBasedForaging",)  # by the commands of the docs


@pytest.mark.parametrize("world", shown(w for w in JAX if w.trained == "CI" and not w.env.startswith(ELSEWHERE)))
def test_worlds_keep_the_contract_and_train(world: World) -> None:
    law(world)


@pytest.mark.slow
@pytest.mark.parametrize("world", shown(w for w in JAX if w.trained == "by hand" or w.env.startswith(ELSEWHERE)))
def test_worlds_tried_by_hand_keep_the_contract_and_train(world: World) -> None:
    law(world)
