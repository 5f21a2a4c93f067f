"""Names of environments read as documented; a mistake in one says what to write instead."""

import importlib.util
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from marlstone.envs.make import FILE, UnknownEnvironment, is_jax, make, parse, sources
from marlstone.envs.names import ambiguous_options, with_options


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
    ("text", "value", "noted"),
    [
        ("3", 3, False), ("-3", -3, False), ("0.5", 0.5, False), (".5", 0.5, False), ("1e3", 1000.0, False), ("True", True, False),
        ("007", "007", True), ("nan", "nan", True), ("inf", "inf", True), ("[1,2]", "[1,2]", True), ("{}", "{}", True),
        ("1_000", "1_000", True), ("+1", "+1", True), ("0x10", "0x10", True), ("none", "none", True),
        ("1e999", "1e999", True), ("\u0663", "\u0663", True),
        ("", "", False), ("8x8-2p-2f", "8x8-2p-2f", False), ("-", "-", False), ("truely", "truely", False),
    ],
)  # fmt: skip
def test_how_an_option_reads(text: str, value: object, noted: bool) -> None:
    """Only what can mean one thing is converted; what might have been meant otherwise is noted."""
    read = parse(f"a.py:f?x={text}")[2]["x"]
    assert read == value and type(read) is type(value)
    notes = ambiguous_options(f"a.py:f?x={text}")
    assert bool(notes) == noted and all("taken as text" in note and "x:=" in note for note in notes)


plain = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8"))


@example({"0:": False})
@example({"0": " "})
@given(st.dictionaries(st.text(st.characters(codec="utf-8"), min_size=1), st.recursive(plain, st.lists, max_leaves=4), max_size=3))
def test_typed_options_read_back(options: dict) -> None:
    """Whatever a table of options holds, the name that stands for it gives the same, with the same types, and leaves nothing to note."""
    name = with_options("a.py:f", options)
    assert repr(parse(name)[2]) == repr(options) and not ambiguous_options(name)


@pytest.mark.parametrize(("name", "says"), [("a.py:f?x:=[1", "no JSON"), ("a.py:f?x:=abc", "write x=... for text"), ("a.py:f?:=1", "read")])
def test_typed_options_that_do_not_read(name: str, says: str) -> None:
    with pytest.raises(UnknownEnvironment) as error:
        parse(name)
    assert says in str(error.value)


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
        assert source.about and source.examples and source.state
        for name in source.examples:
            assert parse(name)[0] == source.name and is_jax(name) == source.jax
        assert source.installed == (not source.missing)


def test_a_users_own_jax_environment_is_named_as_such() -> None:
    name = f"{Path(__file__).with_name('host_examples.py')}:jax_env"
    assert is_jax(f"jax:{name}") and not is_jax(name)
    assert hasattr(make(f"jax:{name}"), "init")
    with pytest.raises(UnknownEnvironment, match="written in JAX: name it jax:"):
        make(name)
    with pytest.raises(UnknownEnvironment, match="stepped by Python"):
        make(f"jax:{name.replace('jax_env', 'toy')}")


def test_examples_whose_packages_are_absent_are_not_called_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in ("mpe2", "lbforaging") else real(name, *a))
    states = {source.name: source.state for source in sources()}
    assert states["pettingzoo"] == "ready, but the example needs mpe2: pip install marlstone[mpe]"
    assert "lbforaging" in states["gymnasium"] and states["proving"] == "ready"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("make?b=1", "does not take these options: there is no 'b' (given 1): choose one of: a"),
        ("make", "needs the option 'a': write "),
        ("free?b=1", r"line 6: TypeError: make() got an unexpected keyword argument 'b' (in free(b=1))"),
        ("broken", "line 8: RuntimeError: license server not reachable (in broken())"),
        ("leaves", "line 10: SystemExit: 4"),
    ],
)
def test_what_a_users_factory_does_wrong_is_one_message_with_its_line(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "mine.py").write_text(
        "import sys\n\ndef make(a):\n    return a\ndef free(**options):\n    return make(**options)\n"
        "def broken():\n    raise RuntimeError('license server not reachable')\ndef leaves():\n    sys.exit(4)\n"
    )
    with pytest.raises(ValueError) as error:
        make(f"{tmp_path}/mine.py:{name}")
    assert says in str(error.value) and "mine.py" in str(error.value)
