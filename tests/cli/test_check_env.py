"""`marlstone check-env` says what an environment is, before anything is trained in it; what goes wrong there is exit code 3."""

import json
from pathlib import Path

import pytest

from marlstone.cli import main

TESTS = Path(__file__).parents[1]


def test_groups_masks_metrics_and_speed_of_an_environment_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-env", f"{TESTS}/policy/worlds.py:make", "--steps", "48", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    cam, arm, dj = said["groups"]
    assert cam["agents"] == ["cam_0", "cam_1"] and cam["observation"] == {"eye": "image 9x10x3", "at": "vector 4"}
    assert cam["action"] == "one of 3" and 1 / 3 <= cam["legal_share"] <= 2 / 3
    assert arm["action"] == "2 numbers" and dj["action"] == "one of 2 and one of 2 and one of 2"
    assert said["kind"] == "python" and said["faults"] == {} and said["episode_length"] == 12 and said["episodes"] >= 3
    assert said["steps_per_second"] > 0 and said["hours"]["select"] == pytest.approx(35 * said["hours"]["train"])
    assert main(["check-env", f"{TESTS}/envs/couriers.py:make", "--steps", "16"]) == 0
    out = capsys.readouterr().out
    assert "delivered (true metric)" in out and max(map(len, out.splitlines())) <= 80


def test_what_goes_wrong_is_counted_and_is_exit_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-env", f"{TESTS}/cases/raises.py:make_env?mode=some", "--steps", "60", "--json"]) == 3
    out, err = capsys.readouterr()
    assert json.loads(out)["faults"]["raised"] > 0 and "fault: raised: " in err and "raises.py:" in err
    assert main(["check-env", "proving:nothing", "--json"]) == 2
    assert main(["check-env", "proving:additive", "--steps", "0"]) == 2


def test_environments_in_jax_are_timed_as_they_are_trained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-env", "proving:additive", "--steps", "20", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["kind"] == "jax" and said["environments"] == 32 and said["episode_length"] == 8 and said["true_metrics"] == {}
    assert said["default_actions"] == []
