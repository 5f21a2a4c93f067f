"""What was spent as FOCUS rows, which the tools that read cloud bills read too: one row a day, run, phase, agent and kind.

FOCUS, the FinOps Open Cost and Usage Specification, version 1.2: CSV, times in UTC, `Tags` as JSON. A row's price is that of the table; a
quantity without a price is left out. Extra columns begin with `x_`.
"""

import csv
import io
import json
from collections.abc import Iterable
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from marlstone.cost.prices import PriceTable
from marlstone.cost.pricing import Item

VERSION = "1.2"
COLUMNS = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingAccountType", "BillingCurrency", "BillingPeriodEnd",
    "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd", "ChargePeriodStart",
    "ConsumedQuantity", "ConsumedUnit", "ContractedCost", "ContractedUnitPrice", "EffectiveCost", "InvoiceId", "InvoiceIssuerName",
    "ListCost", "ListUnitPrice", "PricingCategory", "PricingCurrency", "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName",
    "ResourceId", "ResourceName", "ResourceType", "ServiceCategory", "ServiceName", "ServiceSubcategory", "SkuId", "SkuMeter",
    "SkuPriceId", "Tags", "x_Agent", "x_Phase", "x_PriceTable",
)  # fmt: skip
UNITS = {
    "steps": "Steps", "decisions": "Decisions", "flops": "Operations", "bytes": "Bytes", "messages": "Messages", "bits": "Bits",
    "tool_calls": "Calls", "memory_reads": "Reads", "memory_writes": "Writes", "attempts": "Attempts", "retries": "Retries",
    "input_tokens": "Tokens", "output_tokens": "Tokens", "paid_micro": "Micros", "wall_us": "Microseconds", "cpu_us": "Microseconds",
    "device_us": "Microseconds",
}  # fmt: skip
OURSELVES = "Marlstone"


def text(items: Iterable[tuple[str, Item]], table: PriceTable) -> str:
    """CSV of amounts, each with the run that it is of."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(run, x, table) for run, x in items if x.unit is not None)
    return out.getvalue()


def _row(run: str, x: Item, table: PriceTable) -> dict[str, Any]:
    cost, unit = _number(Decimal(x.amount) * Decimal(repr(x.unit))), _number(Decimal(repr(x.unit)))
    money = dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), cost)
    amount = f"{x.amount}.0"  # decimals: readers that guess types guess right
    quantity = {"ConsumedQuantity": amount, "PricingQuantity": amount, "ConsumedUnit": UNITS[x.kind], "PricingUnit": UNITS[x.kind]}
    name = f"{run}/{x.agent}"
    return {
        **money,
        **quantity,
        **dict.fromkeys(("ContractedUnitPrice", "ListUnitPrice"), unit),
        "BillingAccountId": OURSELVES.lower(),
        "BillingAccountName": OURSELVES,
        "BillingAccountType": "Ledger",
        "BillingCurrency": table.currency,
        "PricingCurrency": table.currency,
        "BillingPeriodStart": _midnight(x.day.replace(day=1)),
        "BillingPeriodEnd": _midnight((x.day.replace(day=1) + timedelta(days=32)).replace(day=1)),
        "ChargePeriodStart": _midnight(x.day),
        "ChargePeriodEnd": _midnight(x.day + timedelta(days=1)),
        "ChargeCategory": "Usage",
        "ChargeClass": "",
        "ChargeDescription": f"{x.kind} of {x.agent} in {x.phase}, run {run}",
        "ChargeFrequency": "Usage-Based",
        "InvoiceId": "",  # nobody has billed it
        "InvoiceIssuerName": OURSELVES,
        "PricingCategory": "Standard",
        "ProviderName": OURSELVES,
        "PublisherName": OURSELVES,
        "ResourceId": name,
        "ResourceName": name,
        "ResourceType": "Agent",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "Multi-agent reinforcement learning",
        "ServiceSubcategory": "Other (AI and Machine Learning)",
        "SkuId": x.kind,
        "SkuMeter": x.kind,
        "SkuPriceId": f"{x.kind}/{table.version}",
        "Tags": json.dumps({"run": run, "phase": x.phase, "agent": x.agent}),
        "x_Agent": x.agent,
        "x_Phase": x.phase,
        "x_PriceTable": table.sha256,
    }


def _number(x: Decimal) -> str:
    """Without an exponent and without trailing zeros."""
    plain = f"{x:f}"
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def _midnight(day: date) -> str:
    return f"{day.isoformat()}T00:00:00Z"
