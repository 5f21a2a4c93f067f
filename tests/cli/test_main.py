"""The commands' common ground: help without JAX, exit codes, refusals told from failures."""

import json
import subprocess
import sys

import pytest

from marlstone.architectures import Architecture
from marlstone.architectures.body import Body
from marlstone.cli import COMMANDS, main
from marlstone.cli.arguments import KINDS
from marlstone.cli.outcome import conclude
from marlstone.comms import Channel
from marlstone.config import kinds
from marlstone.config.schema import Rollout
from marlstone.credit import Credit
from marlstone.encoders import Encoder
from marlstone.envs.make import parse
from marlstone.learners import Learner
from marlstone.runs.sinks import Sink

HELP = """
import sys
from marlstone.cli import main
try:
    main(sys.argv[1:])
except SystemExit as leaving:
    assert leaving.code == 0
assert not {"jax", "numpy", "rich"} & set(sys.modules)
"""


@pytest.mark.parametrize("words", [["--help"], *([command, "--help"] for command in COMMANDS)], ids=lambda words: words[0])
def test_help_is_light(words: list[str]) -> None:
    """Help imports neither JAX nor NumPy."""
    done = subprocess.run([sys.executable, "-c", HELP, *words], capture_output=True, text=True)
    assert done.returncode == 0 and "usage: marlstone" in done.stdout, done.stderr


def test_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in COMMANDS)
    assert main([]) == 2
    assert main(["--version"]) == 0
    capsys.readouterr()
    assert main(["trian"]) == 2
    assert "did you mean 'train'" in capsys.readouterr().err


def test_envs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["envs", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    listed, worlds = shown["environments"], [w["env"] for w in shown["worlds"]]
    assert {"jumanji", "pettingzoo", "sumo"} <= {e["name"] for e in listed} and all(e["examples"] for e in listed)
    assert len(set(worlds)) == len(worlds) and {parse(w)[0] for w in worlds} <= {e["name"] for e in listed}
    assert main(["envs"]) == 0
    text = "".join(capsys.readouterr().out.split())
    assert "jumanji:LevelBasedForaging?task=8x8-2p-2f-coop" in text and "jaxmarl:hanabi" in text and "marlstone[mabrax]" in text


def test_a_name_is_shown_as_it_reads(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["envs", "my.py:make_env?a=1&b=007&c:=[1]", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["options"] == {"a": 1, "b": "007", "c": [1]} and len(shown["notes"]) == 1
    assert main(["envs", "my.py:make_env?b=007"]) == 0
    assert "'007' (str)" in capsys.readouterr().out
    assert main(["envs", "my.py"]) == 2


def test_help_lists_every_kind_of_part() -> None:
    """Help imports no part: its lists are held against the parts here."""
    contracts = {
        "architecture": Architecture, "credit": Credit, "learner": Learner, "comms": Channel, "body": Body, "encoder": Encoder,
        "sink": Sink,
    }  # fmt: skip
    assert {part: kinds.names(contract).keys() for part, contract in contracts.items()} == {
        k: dict.fromkeys(v).keys() for k, v in KINDS.items()
    }


def _elsewhere() -> int:
    raise ValueError("a bug somewhere")


def test_refusals_are_told_from_failures(capsys: pytest.CaptureFixture[str]) -> None:
    """A `raise` of this package is the user's to mend; any other error keeps its traceback."""

    def ours() -> int:
        Rollout(length=0)
        return 0

    assert conclude(ours, as_json=False) == 2
    assert capsys.readouterr().err == "error: rollout.length is 0: give at least 1\n"
    with pytest.raises(ValueError, match="a bug somewhere"):
        conclude(_elsewhere, as_json=False)
