"""Prices: which entry counts, what is refused, what an amount costs, when acting has cost more than training, what traffic will cost."""

import math
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marlstone.core.errors import UserError
from marlstone.core.ledger import KINDS, SHARED, Costs
from marlstone.cost.prices import PriceTable
from marlstone.cost.pricing import crossover, on_day, priced, summed, total, unpriced
from marlstone.cost.traffic import Rate, forecast

TODAY = date(2026, 11, 28)
HEAD = 'version = "1"\ncurrency = "EUR"\n'


def table(*rows: str, head: str = HEAD) -> PriceTable:
    return PriceTable.of(tomllib.loads(head + "".join(f"[[price]]\n{row}\n" for row in rows)), "t.toml")


def test_the_most_particular_entry_that_is_valid_counts() -> None:
    """One agent's before a pattern's before all's, then a phase's, then the latest one's."""
    prices = table(
        'kind = "flops"\nprice = 1',
        'kind = "flops"\nprice = 2\nfrom = 2026-06-01',
        'kind = "flops"\nprice = 3\nagents = "scout*"',
        'kind = "flops"\nprice = 4\nagents = "scout_1"',
        'kind = "flops"\nprice = 5\nphase = "infer"',
        'kind = "flops"\nprice = 6\nagents = "scout*"\nphase = "infer"',
        'kind = "flops"\nprice = 7\nagents = "shared"',
    )
    unit = lambda agent, phase="train", day=TODAY: prices.unit("flops", agent, phase, day)
    assert (unit("w"), unit("w", day=date(2026, 5, 31)), unit("w", day=date(2026, 6, 1))) == (2, 1, 2)
    assert (unit("scout_0"), unit("scout_1"), unit("scout_1", "infer"), unit("scout_0", "infer")) == (3, 4, 4, 6)
    assert (unit("w", "infer"), unit(SHARED), prices.unit("bits", "w", "train", TODAY)) == (5, 7, None)
    assert prices.unit("paid_micro", "w", "train", TODAY) == 1e-6, "what a tool charged is money already"
    late = table('kind = "bits"\nprice = 1\nfrom = 2027-01-01')
    with pytest.raises(UserError, match="no price of bits for 2026-11-28: the first is from 2027-01-01"):
        late.unit("bits", "a", "train", TODAY)


def test_prices_are_of_as_many_as_they_say() -> None:
    prices = table(
        'kind = "cpu_us"\nprice = 3.6\nper = "hour"', 'kind = "bytes"\nprice = 2\nper = "GB"', 'kind = "bits"\nprice = 3\nper = 4'
    )
    assert [prices.unit(k, "a", "train", TODAY) for k in ("cpu_us", "bytes", "bits")] == [1e-9, 2e-9, 0.75]


def test_a_table_is_known_by_what_it_says(tmp_path: Path) -> None:
    a, b = 'kind = "bits"\nprice = 1', 'kind = "flops"\nprice = 2'
    (tmp_path / "p.toml").write_text(f"# a remark\n{HEAD}[[price]]\n{b}\n[[price]]\n{a}\n")
    assert table(a, b).sha256 == table(b, a).sha256 == PriceTable.read(tmp_path / "p.toml").sha256 and len(table(a).sha256) == 64
    others = table(a), table(a, 'kind = "flops"\nprice = 3'), table(a, b, head=HEAD.replace("EUR", "USD"))
    assert len({x.sha256 for x in (*others, table(a, b))}) == 4


def test_the_shipped_table_prices_the_work() -> None:
    prices = PriceTable.shipped()
    assert {x.kind for x in prices.entries} == {"steps", "flops", "bytes", "messages", "bits"} and prices.currency == "USD"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ('kind = "flop"\nprice = 1', "did you mean 'flops'"),
        ('kind = "flops"\nprice = -1', "give a price of at least 0"),
        ('kind = "flops"\nprice = true', "give a price of at least 0"),
        ('kind = "flops"\nprice = nan', "give a price of at least 0"),
        ('kind = "flops"', "give a price of at least 0"),
        ('kind = "flops"\nprice = 1\nper = "hour"', "per = 'hour' is no measure of flops"),
        ('kind = "flops"\nprice = 1\nper = 0', "give how many the price is of"),
        ('kind = "flops"\nprice = 1\nphase = "play"', "one of train, evaluate, infer"),
        ('kind = "flops"\nprice = 1\nfrom = "monday"', "give a day"),
        ('kind = "flops"\nprize = 1', "did you mean 'price'"),
        ('kind = "flops"\nmodel = "gpt-4o-mini"', "input_tokens or output_tokens alone"),
        ('kind = "flops"\nprice = 1\n[[price]]\nkind = "flops"\nprice = 2', "prices 1 and 2 are both of flops from 1970-01-01"),
    ],
)
def test_mistakes_are_named(row: str, says: str) -> None:
    with pytest.raises(UserError, match=r"t\.toml") as error:
        table(row)
    assert says in str(error.value)


def test_tables_that_are_none_are_refused(tmp_path: Path) -> None:
    for head, says in (("", "version"), ('version = "1"\n', "currency"), (HEAD + "prices = 1\n", "did you mean 'price'")):
        with pytest.raises(UserError, match=says):
            table(head=head)
    (tmp_path / "p.toml").write_text("x =")
    for file, says in (("p.toml", "not valid TOML"), ("none.toml", "cannot be read")):
        with pytest.raises(UserError, match=says):
            PriceTable.read(tmp_path / file)


def test_models_have_the_prices_of_their_package() -> None:
    pytest.importorskip("genai_prices")
    prices = table(
        'kind = "input_tokens"\nmodel = "gpt-4o-mini"\nfrom = 2025-01-01',
        'kind = "output_tokens"\nmodel = "gpt-4o-mini"\nfrom = 2025-01-01',
    )
    mine = [prices.unit(k, "a", "infer", TODAY) for k in ("input_tokens", "output_tokens")]
    assert mine == pytest.approx([0.15e-6, 0.6e-6])
    with pytest.raises(UserError, match="is not known to genai-prices"):
        table('kind = "input_tokens"\nmodel = "nobodys-model"')


def test_money_adds_up_over_agents_phases_and_kinds() -> None:
    rng, costs = np.random.default_rng(0), Costs()
    for phase in ("train", "evaluate"):
        for agent in ("a", "b", SHARED):
            for kind in KINDS:
                costs.add(phase, agent, kind, int(rng.integers(0, 2**60)))
    items = priced(on_day(costs, TODAY), PriceTable.shipped())
    sums = [summed(items, by) for by in (lambda x: x.agent, lambda x: x.phase, lambda x: x.kind)]
    assert all(math.isclose(math.fsum(x.values()), total(items), rel_tol=1e-12) for x in sums)
    assert "decisions" not in unpriced(items) and {"wall_us", "cpu_us", "tool_calls"} <= set(unpriced(items))
    assert total(items) == pytest.approx(sum(x.amount * x.unit for x in items if x.unit is not None))


def test_the_crossover_is_the_first_decision_that_makes_acting_dearer() -> None:
    assert crossover(10.0, 2.5) == 5 and crossover(10.1, 2.5) == 5 and crossover(0.0, 1.0) == 1 and crossover(1.0, 0.0) is None
    n = crossover(7.3, 0.01)
    assert n is not None and n * 0.01 > 7.3 >= (n - 1) * 0.01


def test_forecasts_cover_what_traffic_costs() -> None:
    """Of episodes of uneven length and cost: the 80% interval has the true rate in 75 to 86% of 1,000 samples."""
    rng, hits = np.random.default_rng(1), 0
    for _ in range(1000):
        decisions = rng.integers(1, 20, 32)
        rate = Rate.of([(2.0 * decisions * rng.gamma(4, 0.25, 32)).tolist()], [decisions.tolist()])
        assert rate.low is not None and rate.high is not None
        hits += rate.low <= 2.0 <= rate.high
    assert 750 <= hits <= 860
    fixed: Any = Rate.of([[2.0, 4.0]], [[1, 2]])
    assert (fixed.mean, fixed.low, fixed.high) == (2.0, 2.0, 2.0) and Rate.of([[2.0]], [[1]]).low is None
    apart = Rate.of([[1.0] * 9, [3.0] * 9], [[1] * 9, [1] * 9])
    assert apart.mean == 2 and apart.low == 0 and apart.high is not None and apart.high > 4, "seeds are what is deployed, not episodes"
    ahead = forecast(fixed, 100, TODAY, days=30, budget=450)
    assert (ahead["total"], ahead["spent_by"]) == (6000, "2026-11-30") and forecast(fixed, 100, TODAY, 30, 6001)["spent_by"] is None
