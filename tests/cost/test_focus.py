"""FOCUS rows: what the specification asks of every column that is there, and the same money as the statement."""

import csv
import io
import json
import re
import shutil
import subprocess
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from marlstone.core.ledger import KINDS, PHASES, SHARED, Costs
from marlstone.cost import focus
from marlstone.cost.prices import PriceTable
from marlstone.cost.pricing import on_day, priced, total

MANDATORY = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory",
    "ChargeClass", "ChargeDescription", "ChargePeriodEnd", "ChargePeriodStart", "ContractedCost", "EffectiveCost", "InvoiceIssuerName",
    "ListCost", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "ServiceCategory", "ServiceName",
)  # fmt: skip
NULLABLE = {"ChargeClass", "InvoiceId"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT00:00:00Z")


def written() -> tuple[str, float, int]:
    costs = Costs()
    for i, kind in enumerate(KINDS):
        costs.add(PHASES[i % 3], ("a, the first", SHARED)[i % 2], kind, 10**i)
    table = PriceTable.shipped()
    items = [*priced(on_day(costs, date(2026, 11, 28)), table), *priced(on_day(costs, date(2026, 12, 31)), table)]
    return focus.text([("run-1", x) for x in items], table), total(items), sum(x.unit is not None for x in items)


def test_rows_are_what_the_specification_asks() -> None:
    """Version 1.2: mandatory columns, nothing empty that must not be, times in UTC, periods that hold each other, JSON tags, decimals."""
    text, spent, count = written()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == count > 0 and set(MANDATORY) <= set(rows[0]) == set(focus.COLUMNS)
    assert set(focus.UNITS) == set(KINDS)
    for row in rows:
        assert all(v for k, v in row.items() if k not in NULLABLE) and not any(row[k] for k in NULLABLE)
        start, end, first, last = (row[k] for k in ("ChargePeriodStart", "ChargePeriodEnd", "BillingPeriodStart", "BillingPeriodEnd"))
        assert all(map(TIME.fullmatch, (start, end, first, last))) and first <= start < end <= last and first.endswith("-01T00:00:00Z")
        assert row["ChargeCategory"] == "Usage" and re.fullmatch("[A-Z]{3}", row["BillingCurrency"])
        assert json.loads(row["Tags"])["run"] == "run-1"
        for name in ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost", "ListUnitPrice", "PricingQuantity"):
            assert re.fullmatch(r"\d+(\.\d+)?", row[name]), row[name]
        assert Decimal(row["ListUnitPrice"]) * Decimal(row["PricingQuantity"]) == Decimal(row["ListCost"])
    assert float(sum(Decimal(row["BilledCost"]) for row in rows)) == pytest.approx(spent, rel=1e-12)


@pytest.mark.skipif(shutil.which("focus-validator") is None, reason="focus-validator is not installed (it needs Python 3.12 and numpy < 2)")
def test_the_validator_accepts_them(tmp_path: Path) -> None:
    """All rules but two of InvoiceId, which contradict each other."""
    (tmp_path / "spent.csv").write_text(written()[0])
    flags = ["--validate-version", "1.2", "--block-download", "--data-file", str(tmp_path / "spent.csv")]
    done = subprocess.run(["focus-validator", *flags], capture_output=True, text=True, cwd=_home())
    assert done.returncode == 0, done.stderr
    failed = set(re.findall(r"(\S+): FAIL", done.stdout))
    assert "Pass: " in done.stdout and len(failed - {"InvoiceId-C-004-C", "InvoiceId-C-005-C"}) == 0, failed


def _home() -> Path | None:
    """Where it finds its own list of currencies."""
    program = shutil.which("focus-validator")
    found = [] if program is None else list(Path(program).resolve().parents[1].glob("lib/python*/site-packages"))
    return found[0] if found else None
