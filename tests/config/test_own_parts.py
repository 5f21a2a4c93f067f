"""Every part from a user's file: the shipped examples train together, are judged, and are measured; what does not fit is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marlstone.algorithm import Algorithm
from marlstone.architectures import Architecture, Body, Ctde, Decentralized, Hierarchical
from marlstone.cli import main
from marlstone.config import dump, load, parse
from marlstone.core.distributions import Discrete
from marlstone.core.errors import UserError
from marlstone.core.types import Group, Leaf, Spec, Step
from marlstone.credit import Credit, Individual
from marlstone.encoders import Encoder, Image, Vector
from marlstone.fleet.actor import own_parts as fleet_parts
from marlstone.fleet.lifecycle import part_class
from marlstone.learners import PolicyGradient
from marlstone.policy.numpy_actor import FastActor, describe, own_parts, weights
from marlstone.policy.policy import Policy
from tests.batches import begun, quick

ROOT = Path(__file__).parents[2]
OWN = ROOT / "examples"
LEAVES = {"camera": Leaf("image", (9, 8, 3), "uint8"), "map": Leaf("image", (9, 8, 1), "uint8"), "place": Leaf("vector", (4,))}
SPEC = Spec((Group("g", ("a", "b"), LEAVES, Discrete(2)),), 3)
TINY = "--steps 64 --seeds 1 --set rollout.envs=4 --set rollout.length=8 --set evaluate.episodes=2 --set evaluate.logged=0 --json".split()


def test_examples_are_short() -> None:
    assert [p.name for p in OWN.glob("my_*.py") if len(p.read_text().splitlines()) > 70] == []


@pytest.mark.slow
def test_all_examples_train_together_and_are_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    own = {
        "--architecture": "my_architecture.py:MyArchitecture",
        "--encoder": "my_encoder.py:MyEncoder",
        "--body": "my_body.py:MyBody",
        "--metric": "my_metric.py:spread",
    }
    words = [x for flag, name in own.items() for x in (flag, str(OWN / name))]
    small = ["--set", "architecture.encoders.all.channels=2", "--set", "architecture.body.width=8", "--set", "architecture.body.blocks=1"]
    assert main(["train", "--env", "proving:dials?rows=4", "--credit", "team", *words, *small, "--out", run, *TINY]) == 0
    out = capsys.readouterr()
    record = json.loads(out.out)
    assert record["true_metrics"]["spread"] >= 0 and set(record["returns_by_acting"]["mode"]["true_metrics"]) == set(record["true_metrics"])
    assert len(record["policy"]) == 1
    with pytest.raises(UserError, match=r"a part of its user's own, My(Encoder|Body): give its class"):
        Policy.load(record["policy"][0])
    architecture = load(tmp_path / "run" / "config.toml").architecture
    parts = [type(architecture.body), type(architecture.encoders["all"])]
    assert Policy.load(record["policy"][0], parts=parts).agents == ("dial_0", "dial_1")
    config = load(tmp_path / "run" / "config.toml")
    assert type(config.architecture).__name__ == "MyArchitecture" and config.architecture.encoders["all"].channels == 2
    recorded = json.loads((tmp_path / "run" / "files.json").read_text())
    assert {Path(entry["file"]).name for entry in recorded.values()} == {name.partition(":")[0] for name in own.values()}
    assert main(["evaluate", run, "--metric", str(OWN / "my_metric.py:WorstOff"), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert {"spread", "worst_off"} <= set(again["true_metrics"]) and again["true_metrics"]["spread"] == pytest.approx(
        record["true_metrics"]["spread"], rel=1e-4
    )


def test_encoders_by_name_by_kind_and_for_all() -> None:
    """The most particular choice counts; images without one have `image`; vectors without one go in as they are."""
    own = {"camera": Image((5,)), "image": Image((6,)), "all": Vector((7,))}
    fuse = lambda **encoders: Ctde(encoders=encoders, image=Image((9,))).actor_fuse(SPEC.groups[0]).encoders
    assert fuse(**own) == {"camera": Image((5,)), "map": Image((6,)), "place": Vector((7,))}
    assert fuse() == {"camera": Image((9,)), "map": Image((9,))}
    assert fuse(all=Image((3,))) == {"camera": Image((3,)), "map": Image((3,))}
    assert fuse(vector=Vector((2,))) == {"camera": Image((9,)), "map": Image((9,)), "place": Vector((2,))}


@pytest.mark.parametrize(
    ("encoders", "says"),
    [
        ({"camra": Image()}, "no observation of this environment is called 'camra'; did you mean 'camera'"),
        ({"place": Image()}, r"architecture.encoders.place \(Image\) encodes image leaves, and 'place' is of kind vector"),
        ({"image": Vector()}, "'camera' is of kind image"),
    ],
)
@pytest.mark.parametrize("architecture", [Decentralized, Ctde, Hierarchical], ids=lambda a: a.kind)
def test_encoders_that_do_not_fit_are_refused(architecture: Any, encoders: dict[str, Any], says: str) -> None:
    it = architecture(encoders=encoders)
    spec = SPEC if it.managers() is None else it.managers().over(type("Env", (), {"spec": SPEC})()).spec
    with pytest.raises(ValueError, match=says):
        Algorithm(spec, it, Individual(), PolicyGradient())


def test_an_encoder_that_no_leaf_fits_is_refused_and_so_is_a_leaf_too_small() -> None:
    vectors = Spec((Group("g", ("a",), {"place": LEAVES["place"]}, Discrete(2)),), 3)
    with pytest.raises(ValueError, match=r"architecture.encoders.all \(Image\) encodes image leaves, and 'place' is of kind vector"):
        Algorithm(vectors, Decentralized(encoders={"all": Image()}), Individual(), PolicyGradient())
    mine = load(None, {"env": "any", "encoder": str(OWN / "my_encoder.py:MyEncoder")}).architecture
    small = Spec((Group("g", ("a",), {"eye": Leaf("image", (3, 9, 1), "uint8")}, Discrete(2)),), 3)
    with pytest.raises(ValueError, match="cannot take 'eye', image 3x9x1: it halves pictures"):
        Algorithm(small, mine, Individual(), PolicyGradient())


def test_an_encoder_of_another_width_than_it_says_is_refused_before_anything_runs() -> None:
    class Wider(Vector):
        def width(self, leaf: Leaf) -> int:
            return super().width(leaf) + 1

    vectors = Spec((Group("g", ("a",), {"place": LEAVES["place"]}, Discrete(2)),), 3)
    with pytest.raises(ValueError, match=r"all \(Wider\) of 'place': width says 5 features.*\(2, 4\); marlstone check-encoder"):
        Algorithm(vectors, Decentralized(encoders={"all": Wider((4,))}), Individual(), PolicyGradient())


def test_toml_and_flags_say_the_same() -> None:
    flags = load(None, {"env": "any", "architecture": "ctde", "encoder": "image", "architecture.encoders.all.channels": "[4]"})
    said = parse('env = "any"\narchitecture.kind = "ctde"\n[architecture.encoders.all]\nkind = "image"\nchannels = [4]')
    assert flags == said == parse(dump(flags)) and said.architecture.encoders == {"all": Image((4,))}
    assert parse('env = "any"\nencoder = "vector"').architecture.encoders == {"all": Vector()}
    with pytest.raises(UserError, match=r"encoder and architecture.encoders.all are both given"):
        parse('env = "any"\nencoder = "vector"\n[architecture.encoders]\nall = "image"')
    switched = load(None, {"env": "any", "encoder": "vector", "architecture.encoders.all.hidden": "[3]"})
    assert switched.architecture.encoders == {"all": Vector((3,))}


@pytest.mark.parametrize("contract", [Architecture, Body, Credit, Encoder], ids=lambda c: c.__name__)
def test_one_set_of_rules_for_every_part(contract: Any, tmp_path: Path) -> None:
    """No such name, no class, not frozen, not of the contract: the same sentences whatever the part."""
    field = {"Body": "architecture.body", "Encoder": "architecture.encoders.all"}.get(contract.__name__, contract.__name__.lower())
    file = tmp_path / "mine.py"
    loose, other = "@dataclass\nclass Loose: pass\n", "@dataclass(frozen=True)\nclass Other: pass\n"
    file.write_text(f"from dataclasses import dataclass\n{loose}{other}def function(): pass\n")
    for kind, says in (
        ("nonsense", "there is no such"),
        (f"{file}:Lose", "defines no class 'Lose'; did you mean 'Loose'"),
        (f"{file}:function", "defines no class 'function'"),
        (f"{file}:Loose", "Loose is no frozen dataclass; write @dataclass"),
        (f"{file}:Other", "Other (lacks|is no) "),
        (f"{tmp_path / 'gone.py'}:X", "there is no file"),
    ):
        with pytest.raises(UserError, match=f"{field} = .*{says}"):
            load(None, {"env": "any", field: kind})


@pytest.mark.parametrize("sharing", ["all", "none"])
def test_own_parts_act_in_numpy_as_in_jax(sharing: Any) -> None:
    """By a description that names them and weights, with their classes given; refused where a class does not say that it runs there."""
    fields = {"architecture.encoders.all.channels": "2", "architecture.body.width": "6", "architecture.sharing": sharing}
    own = {"encoder": str(OWN / "my_encoder.py:MyEncoder"), "body": str(OWN / "my_body.py:MyBody")}
    it = Algorithm(SPEC, load(None, {"env": "any", **own, **fields}).architecture, Individual(), PolicyGradient())
    policy, rng, ones = begun(it).policy, np.random.default_rng(0), np.ones((3, 2), np.float32)
    seen = {k: rng.integers(0, 256, (3, 2, *x.shape)).astype(x.dtype) for k, x in LEAVES.items()}
    here, no = ones.astype(bool), np.zeros(3, bool)
    step = Step((seen,), np.zeros((3, 3), np.float32), ones, ones[:, 0], ones, ones[:, 0], no, no, (None,), here, here, {})
    actor = FastActor(json.loads(json.dumps(describe(it))), own_parts(it))
    actor.load(weights(policy))
    (mine,), _ = actor.heads(step, actor.memory(3))
    (theirs,), _ = quick(it.heads)(policy, step, it.memory(3))
    assert isinstance(mine, np.ndarray)
    np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="give its class"):
        FastActor(describe(it))
    silent = type("Silent", (type(it.architecture.body),), {})
    with pytest.raises(ValueError, match="Silent does not say that it runs in NumPy"):
        describe(Algorithm(SPEC, Decentralized(silent(6)), Individual(), PolicyGradient()))


def test_a_fleets_actors_are_told_of_own_parts() -> None:
    own = {"encoder": str(OWN / "my_encoder.py:MyEncoder"), "body": str(OWN / "my_body.py:MyBody")}
    told = fleet_parts(load(None, {"env": "any", **own}))
    assert told == [own["body"], own["encoder"]] and [part_class(name).__name__ for name in told] == ["MyBody", "MyEncoder"]
    assert fleet_parts(load(None, {"env": "any"})) == []
