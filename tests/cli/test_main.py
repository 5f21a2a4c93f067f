"""The commands' common ground: help without JAX, exit codes, refusals told from failures."""

import json
import subprocess
import sys

import pytest

from marlstone.cli import COMMANDS, main
from marlstone.cli.outcome import conclude
from marlstone.config.schema import Rollout

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
    listed = json.loads(capsys.readouterr().out)["environments"]
    assert {"jumanji", "pettingzoo", "sumo"} <= {e["name"] for e in listed} and all(e["examples"] for e in listed)
    assert main(["envs"]) == 0
    assert "jumanji:LevelBasedForaging?task=8x8-2p-2f-coop" in capsys.readouterr().out


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
