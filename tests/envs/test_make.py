"""Names of environments read as INTERFACE says; a mistake in one says what to write instead."""

import importlib.util
from pathlib import Path

import pytest

from marlstone.envs.make import FILE, UnknownEnvironment, is_jax, make, parse, sources


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("jumanji:LevelBasedForaging?task=8x8-2p-2f-coop", ("jumanji", "LevelBasedForaging", {"task": "8x8-2p-2f-coop"})),
        ("pettingzoo:mpe2.simple_spread_v3?N=3&x=0.5&deep=true", ("pettingzoo", "mpe2.simple_spread_v3", {"N": 3, "x": 0.5, "deep": True})),
        ("sumo:cologne3", ("sumo", "cologne3", {})),
        ("gymnasium:lbforaging?id=Foraging-8x8-2p-2f-coop-v3", ("gymnasium", "lbforaging", {"id": "Foraging-8x8-2p-2f-coop-v3"})),
        ("path/file.py:make_env?x=1&s=a%26b", (FILE, "path/file.py:make_env", {"x": 1, "s": "a&b"})),
        ("jaxmarl:MPE_simple_spread_v3?local_ratio=1e-1", ("jaxmarl", "MPE_simple_spread_v3", {"local_ratio": 0.1})),
    ],
)
def test_names_read(name: str, expected: tuple) -> None:
    assert parse(name) == expected
    assert [type(v) for v in parse(name)[2].values()] == [type(v) for v in expected[2].values()]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("LevelBasedForaging", "write source:name"),
        ("jumanji:", "write source:name"),
        ("jumanj:LevelBasedForaging", "did you mean 'jumanji'"),
        ("file:x", "path/file.py:make_env"),
        ("jumanji:LevelBasedForagin", "did you mean 'LevelBasedForaging'"),
        ("jumanji:LBF", "LevelBasedForaging"),
        ("jumanji:LevelBasedForaging?tsk=8x8", "did you mean 'task'"),
        ("jumanji:LevelBasedForaging?task=8x9-2p-2f", "task=8x8-2p-2f-coop"),
        ("jumanji:LevelBasedForaging?task=5x5-2p-9f", "larger grid or at most 1 food"),
        ("jumanji:LevelBasedForaging?task=9s-8x8-2p-2f", "between 1 and the grid's 8"),
        ("jumanji:LevelBasedForaging?time_limit=0", "at least 1"),
        ("jumanji:LevelBasedForaging?time_limit=soon", "give int"),
        ("jumanji:LevelBasedForaging?max_agent_level=1", "at least 2"),
        ("jumanji:LevelBasedForaging?task=4x4-2p-1f", "at least 5 cells"),
        ("jumanji:RobotWarehouse?task=huge-2ag", "task=tiny-2ag"),
        ("jumanji:RobotWarehouse?task=tiny-40ag", "take a larger one"),
        ("jumanji:RobotWarehouse?sensor_range=0", "at least 1"),
        ("jumanji:RobotWarehouse?time_limit", "write ?option=value"),
        ("jumanji:RobotWarehouse?time_limit=1&time_limit=2", "give it once"),
        ("proving:climb", "did you mean 'climbing'"),
        ("proving:match?rows=1", "at least 2"),
        ("path/file.py", "write path/file.py:make_env"),
        ("path/file.py:", "write path/file.py:make_env"),
    ],
)
def test_errors_carry_the_remedy(name: str, says: str) -> None:
    with pytest.raises(UnknownEnvironment) as error:
        make(name)
    assert says in str(error.value)


def test_missing_package_says_how_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in ("jaxmarl", "libsumo") else real(name, *a))
    with pytest.raises(ModuleNotFoundError, match=r"needs jaxmarl: pip install marlstone\[jaxmarl\]"):
        make("jaxmarl:MPE_simple_spread_v3")
    with pytest.raises(ModuleNotFoundError, match=r"pip install marlstone\[sumo\]"):
        make("sumo:cologne3")


def test_sources_list_themselves() -> None:
    for source in sources():
        assert source.about and source.examples
        for example in source.examples:
            assert parse(example)[0] == source.name and is_jax(example) == source.jax
        assert source.installed == (not source.missing)


def test_a_users_own_jax_environment_is_named_as_such() -> None:
    name = f"{Path(__file__).with_name('host_examples.py')}:jax_env"
    assert is_jax(f"jax:{name}") and not is_jax(name)
    assert hasattr(make(f"jax:{name}"), "init")
    with pytest.raises(UnknownEnvironment, match="written in JAX: name it jax:"):
        make(name)
    with pytest.raises(UnknownEnvironment, match="stepped by Python"):
        make(f"jax:{name.replace('jax_env', 'toy')}")
