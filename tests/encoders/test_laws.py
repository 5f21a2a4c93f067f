"""The laws of encoders: this package's keep them, and each law catches an encoder that breaks it and no other."""

import json
from pathlib import Path

import pytest

from marlstone.cli import main
from marlstone.config.structure import part
from marlstone.core.types import Leaf
from marlstone.encoders import Encoder, Image, Vector
from marlstone.evaluation.encoder_laws import LAWS, Specimen, check, judged_on_all, leaves_for
from marlstone.evaluation.laws import title

BROKEN = Path(__file__).parent / "broken.py"
LEAF = Leaf("vector", (5,))
VIOLATORS = {
    "Wide": "features have their shape",
    "Flat": "features have their shape",
    "Dice": "a key makes one beginning",
    "Counted": "a key makes one beginning",
    "Whim": "compiling changes nothing",
    "Crowd": "entries are encoded apart",
    "Idle": "every parameter learns",
    "Blind": "all of an observation counts",
    "Steep": "extreme observations stay finite",
    "First": "agents may have parameters of their own",
    "JaxOnly": "numpy and jax agree",
    "Growing": "fields survive toml",
}


def mine(name: str) -> Encoder:
    return part(Encoder, f"{BROKEN}:{name}", "encoder")


@pytest.mark.parametrize("encoder", [Image((3,)), Vector((4, 3)), mine("Sound")], ids=lambda e: type(e).__name__)
def test_the_packages_encoders_keep_every_law(encoder: Encoder) -> None:
    leaf = LEAF if "vector" in encoder.accepts else Leaf("image", (6, 5, 2), "uint8")
    assert [(v.law, v.says) for v in check(encoder, [leaf]) if not v.held] == []


@pytest.mark.parametrize(("name", "law"), VIOLATORS.items(), ids=str)
def test_each_law_catches_who_breaks_it(name: str, law: str) -> None:
    s = Specimen(mine(name), LEAF)
    verdict = judged_on_all(next(x for x in LAWS if title(x) == law), [s])
    assert verdict.held is False and verdict.says
    if name == "Blind":
        assert "[4]" in verdict.says


def test_every_law_has_a_violator() -> None:
    assert set(VIOLATORS.values()) == {title(law) for law in LAWS}


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-encoder", f"{BROKEN}:Idle", "--json"]) == 3
    record = json.loads(capsys.readouterr().out)
    assert record["broken"] == ["every parameter learns"] and record["leaves"] == ["vector 5 float32", "vector 1 float32"]
    for words, says in (
        (["imag"], "did you mean 'image'"),
        (["vector", "--set", "hiden=[3]"], "did you mean 'hidden'"),
        (["vector", "--set", "kind=image"], "the kind is the argument"),
        (["image", "--env", "proving:climbing"], "accepts image leaves, and none of proving:climbing"),
    ):
        assert main(["check-encoder", *words]) == 2
        assert says in capsys.readouterr().err


def test_an_environments_own_leaves_are_checked() -> None:
    assert [leaf.kind for leaf in leaves_for(Image(), "proving:dials")] == ["image"]
