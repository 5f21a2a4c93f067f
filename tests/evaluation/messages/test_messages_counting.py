"""What is sent, counted: costs beside true metrics, prices, the store by sender and recipient."""

import json
from pathlib import Path

import pytest

from marlstone.comms import Broadcast
from marlstone.comms.talking import talking
from marlstone.core.ledger import Ledger
from marlstone.core.spec_json import spec_from_json, spec_to_json
from marlstone.envs.make import make
from marlstone.evaluation.paired.check_hacking import declared
from marlstone.evaluation.paired.players import Players
from marlstone.evaluation.select.prices import Cost, Prices
from marlstone.play.episodes import recorder
from marlstone.play.judging import judge, returns_record
from marlstone.runs.store import Store
from marlstone.training.loop import runtime_of
from tests.evaluation.messages.small import config

pytestmark = pytest.mark.usefixtures("compiled_once")
TALK = Broadcast(size=2, gate=False)


def test_messages_and_bits_are_costs_and_no_true_metrics(tmp_path: Path) -> None:
    """In records they stand by their names; in the store's logged episodes by sender and recipient."""
    runtime = runtime_of(config("proving:signal", comms=TALK))
    state = runtime.start()
    record = returns_record(judge(runtime, state, 4, "mode"), runtime.algorithm.spec)
    for found in (record, *record["returns_by_acting"].values()):
        assert found["messages_per_step"] == 2 and found["bits_per_step"] == 128 and set(found["true_metrics"]) == {"named"}
    with Store(tmp_path / "metrics.sqlite", "run") as store:
        recorder(runtime, 2)(store, 8, state)
        bits = {name: [x.value.tolist() for x in store.series(name)] for name in store.names() if name.startswith("bits/")}
    assert bits == {"bits/scout>worker": [[64.0], [64.0]], "bits/worker>scout": [[64.0], [64.0]]}


def test_hacking_cannot_be_checked_by_what_only_costs() -> None:
    c = config("proving:additive", comms=TALK)
    with pytest.raises(ValueError, match="declares no true metric"), Players.of(c, 1) as players:
        declared(c, players)


def test_specs_with_costs_and_requests_read_back_and_older_ones_are_as_they_were() -> None:
    for env in (make("proving:errands"), talking(TALK, make("proving:errands"))):
        assert spec_from_json(json.loads(json.dumps(spec_to_json(env.spec)))) == env.spec
    assert all("cost" not in m for m in spec_to_json(make("proving:signal").spec)["metrics"].values())


def test_bits_have_a_price_in_training_and_in_decisions() -> None:
    prices = Prices("EUR", step=0, flop=0, byte=0, message=10.0, bit=0.5)
    assert prices.of(Ledger(messages=2, bits=8)) == 24
    cost = Cost.of(prices, [{"steps": 10, "messages": 2, "bits": 8}], act_flops=6, agents=2, messages=3.0, bits=4.0)
    assert cost.train == 24 and cost.per_1k_decisions == 1000 * (30 + 2) / 2
