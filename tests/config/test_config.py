"""Configuration: reads back what it wrote, says clearly what is wrong, and takes a user's part from a file."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from marlstone.architectures import Ctde, Decentralized, Gru, Mlp
from marlstone.config import Case, Evaluation, Rollout, RunConfig, dump, kinds, load, parse
from marlstone.config.sources import resolved, with_cases
from marlstone.core.errors import UserError
from marlstone.credit import Individual, Team
from marlstone.envs.faults import ActionLoss, Death, Noise, Skew, Volatile
from marlstone.envs.guards import Guards
from marlstone.envs.make import parse as names
from marlstone.learners import PolicyGradient

widths = st.lists(st.integers(1, 512), min_size=1, max_size=3).map(tuple)
bodies = st.one_of(st.builds(Mlp, hidden=widths, activation=st.sampled_from(["relu", "tanh"])), st.builds(Gru, hidden=st.integers(1, 99)))
positive = st.floats(1e-9, 1e9)
options = st.dictionaries(
    st.text(st.characters(codec="utf-8"), min_size=1), st.booleans() | st.integers(-9, 9) | st.just(0.5) | st.just("x")
)
cases = st.lists(
    st.builds(
        Case, st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip), st.just(()) | st.just((Skew(2), ActionLoss())), options
    ),
    max_size=3,
    unique_by=lambda case: case.name,
).map(tuple)
configs = st.builds(
    RunConfig,
    env=st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip),
    architecture=st.one_of(
        st.builds(Ctde, body=bodies, sharing=st.sampled_from(["all", "type", "none"])), st.builds(Decentralized, body=bodies)
    ),
    credit=st.sampled_from([Individual(), Team()]),
    learner=st.builds(PolicyGradient, lr=positive, anneal=st.booleans(), epochs=st.integers(1, 20)),
    rollout=st.builds(Rollout, st.integers(1, 10**6), st.integers(1, 10**6)),
    evaluate=st.builds(Evaluation, st.integers(1, 10**6), cases=cases, graceful=st.floats(0, 1)),
    faults=st.lists(
        st.one_of(
            st.builds(Noise, positive.filter(lambda x: x < 1e6)),
            st.builds(Death, st.integers(0, 9), st.none() | st.integers(1, 99)),
            st.builds(Volatile, instead=st.sampled_from(["default", "last"])),
        ),
        max_size=3,
    ).map(tuple),
    guards=st.builds(
        Guards, st.sampled_from(["survive", "refuse"]), st.none() | st.tuples(st.floats(-9, 0), st.floats(0, 9)), st.floats(1e-9, 1e6)
    ),
    steps=st.integers(1, 2**50),
    seeds=st.integers(1, 1000),
    seed=st.integers(1000, 2**31),
    checkpoint_every=st.none() | st.integers(1, 2**50),
    out=st.none() | st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda t: t.lower() != "none"),
)


@settings(max_examples=150, deadline=None)
@given(configs)
def test_round_trip(config: RunConfig) -> None:
    assert parse(dump(config)) == config


def test_file_and_flags(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        'env = "proving:climbing"\n'
        'steps = 1e5\narchitecture = "ctde"\n[learner]\nlr = 1e-3\nepochs = 2\n[guards]\nreward_bounds = [-1, 1]\n'
    )
    config = load(file, {"learner.lr": "0.01", "body": "gru", "architecture.body.hidden": "64", "sharing": "none", "out": "123"})
    assert config.steps == 100_000 and config.out == "123" and config.guards.reward_bounds == (-1.0, 1.0)
    assert config.architecture == Ctde(Gru(hidden=64), sharing="none") and config.learner == PolicyGradient(lr=0.01, epochs=2)
    assert config.all_seeds == (1000, 1001, 1002, 1003, 1004) and config.purpose == "reporting"
    assert resolved(config).out is None and config.steps_between_checkpoints == 10_000
    assert load(None, {"env": "x:y", "seed": "0", "checkpoint_every": "none"}).purpose == "tuning"


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ({"learner.lrr": "1"}, "unknown key 'learner.lrr' in learner (policy_gradient); did you mean 'lr'?"),
        ({"lr": "1"}, "unknown key 'lr'; did you mean 'learner.lr'?"),
        ({"stepps": "1"}, "unknown key 'stepps'; did you mean 'steps'?"),
        ({"learner.lr": "fast"}, "learner.lr = fast: expected a number"),
        ({"learner.lr": "nan"}, "expected a finite number"),
        ({"learner.lr": "-1"}, "lr is -1.0: out of range"),
        ({"learner.anneal": "yes"}, "expected true or false"),
        ({"steps": "1.5"}, "steps = 1.5: expected a whole number"),
        ({"steps": "1e30"}, "up to"),
        ({"steps": "0"}, "steps is 0: give at least 1"),
        ({"architecture": "ctdee"}, "did you mean 'ctde'?"),
        ({"architecture.sharing": "some"}, "choose one of: all, type, none"),
        ({"architecture.body": "transformer"}, "choose one of: mlp, gru"),
        ({"architecture.body.hidden": "64"}, "expected a list"),
        ({"architecture.body.hidden": "[64, 'a']"}, "architecture.body.hidden[1] = 'a': expected a whole number"),
        ({"credit": "nowhere.py:Mine"}, "there is no file nowhere.py"),
        ({"rollout": "3"}, "expected a table: [rollout]"),
        ({"guards.reward_bounds": "[1]"}, "a list of 2, or none"),
        ({"seed": "998"}, "start at 1000 to report"),
        ({"env": " "}, "env is empty"),
        ({"learner..lr": "1"}, "an empty name"),
        ({"steps.x": "1"}, "whole number"),
        ({"steps": "1\ny = 2"}, "whole number"),
        ({"faults": '["noize"]'}, "faults[0] = 'noize': there is no such fault; did you mean 'noise'?"),
        ({"faults": "[{scale = 1}]"}, "faults[0].kind is missing"),
        ({"faults": "noise"}, "expected a list"),
        ({"faults": "[{kind = 'noise', rate = 1}]"}, "unknown key 'faults[0].rate' in faults[0] (noise)"),
        ({"faults": "['noise', {kind = 'dropout', rate = 2}]"}, "faults[1] (dropout): rate is 2.0: give a number from 0 to 1"),
        ({"evaluate.cases": "[{name = ' '}]"}, "evaluate.cases[0]: name is empty"),
        ({"evaluate.cases": "[{name = 'a'}, {name = 'a'}]"}, "names 'a' twice"),
        ({"evaluate.cases": "[{name = 'a', faults = ['reward_noise']}]"}, "a finished policy never sees reward_noise"),
        ({"evaluate.cases": "[{name = 'a', late = 3}]"}, "late is 3.0: give a number from 0 to 1"),
        ({"evaluate.cases": "[{name = 'a', fallback = 'pray'}]"}, "fallback"),
        ({"evaluate.graceful": "2"}, "evaluate.graceful is 2.0"),
    ],
)
def test_one_clear_message(overrides: dict[str, str], says: str) -> None:
    with pytest.raises(UserError) as error:
        load(None, {"env": "a:b", **overrides})
    assert says in str(error.value)


def test_env_is_needed() -> None:
    with pytest.raises(UserError, match="--env"):
        load()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff", "UTF-8"),
        (b"steps = ", "Invalid value"),
        (b"x = 2026-13-99", "TOML"),
        (b"x = " + b"[" * 5000, "TOML"),
        (None, "cannot be read"),
    ],
)
def test_unreadable_files(tmp_path: Path, content: bytes | None, says: str) -> None:
    file = tmp_path / "run.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=says) as error:
        load(file)
    assert str(file) in str(error.value)


MINE = """
from dataclasses import dataclass
from marlstone.credit import Credit

@dataclass(frozen=True)
class Mine(Credit):
    alpha: float = 0.5
    names: tuple[str, ...] = ()

@dataclass
class Thawed(Credit):
    pass

class Stranger:
    pass

@dataclass(frozen=True)
class Other:
    pass
"""


def test_a_users_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_credit.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    config = load(None, {"env": "a:b", "credit": "my_credit.py:Mine", "credit.alpha": "1"})
    assert type(config.credit).__name__ == "Mine" and config.credit.alpha == 1.0
    monkeypatch.chdir("/")
    assert parse(dump(config)) == config  # from anywhere
    (tmp_path / "run.toml").write_text('env = "jax:game.py:make?x=1"\n[credit]\nkind = "my_credit.py:Mine"\nalpha = 1')
    (tmp_path / "game.py").touch()
    beside = load(tmp_path / "run.toml")
    assert beside.credit == config.credit and beside.env == f"jax:{tmp_path}/game.py:make?x=1"  # beside the file that names it


@pytest.mark.parametrize(
    ("kind", "says"),
    [("Minne", "did you mean 'Mine'"), ("Thawed", "frozen"), ("Stranger", "frozen"), ("Other", "derive it from")],
)
def test_a_users_class_that_does_not_fit(tmp_path: Path, kind: str, says: str) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    with pytest.raises(UserError, match=says):
        load(None, {"env": "a:b", "credit": f"{tmp_path}/mine.py:{kind}"})
    with pytest.raises(UserError, match=r"derive it from marlstone\.learners\.contract\.Learner"):
        load(None, {"env": "a:b", "learner": f"{tmp_path}/mine.py:Other"})


@pytest.mark.parametrize("content", ["def", "\0", "import nowhere_at_all"])
def test_a_users_file_that_does_not_load(tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.py").write_text(content)
    with pytest.raises(UserError, match=r"bad\.py"):
        load(None, {"env": "a:b", "credit": f"{tmp_path}/bad.py:Mine"})


def test_faults_are_a_list_in_files_and_cases_may_be_a_file_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        MINE + "from marlstone.envs.faults import Fault\n@dataclass(frozen=True)\nclass Odd(Fault):\n    x: int = 1\n"
    )
    (tmp_path / "run.toml").write_text('env = "a:b"\n[[faults]]\nkind = "noise"\nscale = 0.3\n[[faults]]\nkind = "mine.py:Odd"\nx = 2\n')
    config = load(tmp_path / "run.toml")
    assert config.faults[0] == Noise(0.3) and config.faults[1].x == 2  # type: ignore[attr-defined]
    assert parse(dump(config)) == config and f'kind = "{tmp_path.resolve()}/mine.py:Odd"' in dump(config)
    file = tmp_path / "cases.toml"
    file.write_text('[evaluate]\ngraceful = 0.1\n[[evaluate.cases]]\nname = "odd"\nlate = 0.5\nfaults = ["skew"]\n')
    asked = with_cases(config, file)
    assert asked.evaluate == Evaluation(cases=(Case("odd", (Skew(),), late=0.5),), graceful=0.1) and asked.faults == config.faults
    for text in ("steps = 1\n", "[evaluate]\nepisodes = 3\n", "", "evaluate = 3\n"):
        file.write_text(text)
        with pytest.raises(UserError, match="edge cases alone"):
            with_cases(config, file)


TOML = dump(RunConfig(env="proving:climbing", faults=(Noise(),), evaluate=Evaluation(cases=(Case("a", (Death(),), {"x": 1}),))))


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_mangled_toml(data: st.DataObject) -> None:
    """Bytes removed, repeated, swapped or replaced: a configuration or one message, never anything else."""
    text = TOML
    for _ in range(data.draw(st.integers(1, 4))):
        i = data.draw(st.integers(0, len(text)))
        j = data.draw(st.integers(i, min(len(text), i + 30)))
        new = data.draw(
            st.sampled_from(["", "=", "[", "]", '"', "\n", "nan", "-1", "1e400", "[[x]]", "{}", "9" * 20, "true", text[i:j] * 2, "é\0"])
        )
        text = text[:i] + new + text[j:]
    try:
        config = parse(text)
    except UserError as error:
        assert str(error).strip() and len(str(error)) < 2000
    else:
        assert parse(dump(config)) == config


def test_an_environments_options_as_a_table(tmp_path: Path) -> None:
    """Their types are TOML's; the text that stands for them reads back the same; flags change one, or all."""
    file = tmp_path / "run.toml"
    file.write_text('[env]\nname = "my.py:make_env?a=1"\n[env.options]\nlevel = "007"\ngrid = [1, 2]\nspeed = 1.0\ndeep = {x = true}\n')
    (tmp_path / "my.py").touch()
    config = load(file)
    wanted = {"a": 1, "level": "007", "grid": [1, 2], "speed": 1.0, "deep": {"x": True}}
    assert repr(names(config.env)[2]) == repr(wanted) and names(config.env)[1] == f"{tmp_path}/my.py:make_env"
    assert parse(dump(config)) == config
    assert names(load(file, {"env.options.grid": "[3]", "env.options.level": "7"}).env)[2] == {**wanted, "grid": [3], "level": 7}
    assert load(file, {"env": "a:b?x=1"}).env == "a:b?x=1"
    assert names(load(None, {"env": "a.py:b?x=1&y=2", "env.options.x": "[1]"}).env)[2] == {"x": [1], "y": 2}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[env]\nnme = 'a:b'", "unknown key 'env.nme'; did you mean 'name'?"),
        ("[env.options]\nx = 1", "env.name is missing"),
        ("[env]\nname = 'a:b'\noptions = 3", "expected a table"),
        ("[env]\nname = 'a:b?x=1'\noptions = {x = 2}", "give it once"),
        ("[env]\nname = 'a:b'\noptions = {x = 2026-01-01}", "option 'x' is a date"),
        ("env = 3", "expected a text"),
    ],
)
def test_an_environments_table_that_does_not_read(text: str, says: str) -> None:
    with pytest.raises(ValueError) as error:
        parse(text)
    assert says in str(error.value)


def test_a_broken_file_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('env = "a:b"\nsteps = = 3\n')
    with pytest.raises(UserError, match=r"run\.toml line 2: not valid TOML: .*column 9"):
        load(tmp_path / "run.toml")
    with pytest.raises(UserError, match="configuration line 3: not valid TOML"):
        parse('env = "a:b"\nsteps = [\n1,')


def test_another_kind_of_part_keeps_the_fields_it_has_too(tmp_path: Path) -> None:
    """A run's own configuration, every field written out, is the ground on which `--from` tries other parts."""
    file = tmp_path / "config.toml"
    file.write_text(dump(RunConfig("proving:pair", architecture=Ctde(Mlp((32,)), sharing="none", critic_sees="state"))))
    changed = load(file, {"architecture.body": "gru", "architecture": "decentralized", "architecture.body.hidden": "7"})
    assert changed.architecture == Decentralized(Gru(hidden=7), sharing="none")
    assert load(file, {"architecture": "ctde"}).architecture.critic_sees == "state"
    with pytest.raises(UserError, match="critic_sees"):
        load(file, {"architecture": "decentralized", "architecture.critic_sees": "state"})


def test_short_names_are_the_same_in_files() -> None:
    assert parse('env = "proving:pair"\nbody = "gru"\nsharing = "type"').architecture == Decentralized(Gru(), sharing="type")
    with pytest.raises(UserError, match="both given"):
        parse('env = "proving:pair"\nbody = "gru"\n[architecture]\nbody = "mlp"')


def test_a_number_with_too_many_digits_is_a_word() -> None:
    with pytest.raises(UserError, match="steps"):
        load(None, {"env": "proving:pair", "steps": "1" * 5000})


def test_a_users_environment_is_kept_by_its_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    kept = resolved(parse('env = "jax:here.py:make_env?x=1"')).env
    assert kept == f"jax:{tmp_path.resolve()}/here.py:make_env?x=1"


def test_methods_are_found_by_the_names_that_papers_gave_them() -> None:
    """And are written by their kinds, so that one configuration has one text."""
    papers = {
        "credit": {"COMA": "counterfactual", "liir": "shaping", "tar2": "attention", "PRD": "decoupled"},
        "learner": {"ppo": "policy_gradient", "dqn": "q_learning"},
        "architecture": {"mappo": "ctde", "ippo": "decentralized"},
    }
    for field, alias, kind in ((field, *pair) for field, known in papers.items() for pair in known.items()):
        named, called = (load(None, {"env": "proving:climbing", field: word}) for word in (alias, kind))
        assert dump(named) == dump(called) and f'kind = "{kind}"' in dump(named)
    assert all(kind in kinds.names(contract) for contract, known in kinds.ALIASES.items() for kind in known.values())
