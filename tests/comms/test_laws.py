"""The laws of channels: this package's keep them in every form of message, and each law catches a channel that breaks it."""

import functools
import json
from pathlib import Path

import pytest

from marlstone.cli import main
from marlstone.comms import Broadcast, Channel, NoMessages, Targeted
from marlstone.config import load
from marlstone.evaluation.comms_cases import ChannelCase, channel_case
from marlstone.evaluation.comms_laws import LAWS, check
from marlstone.evaluation.laws import judged, title

pytestmark = pytest.mark.usefixtures("compiled_once")
BROKEN = Path(__file__).parent / "broken.py"
VIOLATORS = {
    "inboxes have their shape": "Wide",
    "only what reached an agent moves its inbox": "Overhears",
    "what is heard was chosen and counted": "Pushy",
    "the absent change nothing": "Crowded",
    "relabeled agents hear the same": "Ranked",
    "ages are true": "Forgetful",
    "compiling changes nothing": "Diary",
    "many at once are one by one": "Mixed",
    "numpy and jax agree": "JaxOnly",
    "a checkpoint resumes exactly": "Diary",
    "budgets are never exceeded": "Generous",
    "learning recomputes what acting recorded": "Mixed",
    "losses of receivers reach senders": "Numb",
    "fields survive toml": "Growing",
}
CHANNELS: dict[str, Channel] = {
    "broadcast float": Broadcast("float", 2, gate=False),
    "broadcast dithered": Broadcast("dithered", 2),
    "broadcast symbols within reach": Broadcast("symbols", 3, reach="near", budget_bits=(1.0, 2.0)),
    "targeted float": Targeted("float", 2, signature=2, each=False),
    "targeted dithered": Targeted("dithered", 2, signature=2, hold=1),
}
ACTING = [law for law in LAWS if not title(law).startswith(("learning", "losses"))]  # those of learning compile more
QUICK = ("broadcast symbols within reach", "targeted dithered")  # the others show the same of fewer things


@functools.cache
def mine(name: str) -> ChannelCase:
    return channel_case(load(None, {"env": "any", "comms": f"{BROKEN}:{name}"}).comms, None)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANNELS)
def test_the_packages_channels_keep_every_law(name: str) -> None:
    assert [(v.law, v.says) for v in check(channel_case(CHANNELS[name], None)) if not v.held] == []


@pytest.mark.parametrize("name", QUICK)
def test_the_packages_channels_keep_the_laws_of_acting(name: str) -> None:
    case = channel_case(CHANNELS[name], None)
    assert [v for law in ACTING if not (v := judged(law, case)).held] == []


@pytest.mark.parametrize(("law", "name"), VIOLATORS.items(), ids=str)
def test_each_law_catches_who_breaks_it(law: str, name: str) -> None:
    verdict = judged(next(x for x in LAWS if title(x) == law), mine(name))
    assert verdict.held is False and len(verdict.says) > 20, verdict


def test_every_law_has_a_violator() -> None:
    assert list(VIOLATORS) == [title(law) for law in LAWS]


def test_where_nobody_speaks_nothing_is_checked() -> None:
    assert {(v.held, v.says) for v in check(channel_case(NoMessages(), None))} == {(None, "nobody speaks")}


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-comms", f"{BROKEN}:Wide", "--set", "comms.size=3", "--json"]) == 3
    record = json.loads(capsys.readouterr().out)
    assert record["broken"] == ["inboxes have their shape"] and record["agents"] == ["player_0", "player_1", "arm_0", "late_0"]
    assert {x["says"] for x in record["laws"][1:]} == {"its inboxes are not as asked"}
    for words, says in (
        (["brodcast"], "did you mean 'broadcast'"),
        (["broadcast", "--set", "comms.sise=3"], "did you mean 'size'"),
        (["broadcast", "--set", "comms.reach=near", "--env", "proving:climbing"], "comms.reach is 'near', and group"),
        (["targeted", "--env", "proving:rps"], "agents talk within one team"),
    ):
        assert main(["check-comms", *words]) == 2
        assert says in capsys.readouterr().err
