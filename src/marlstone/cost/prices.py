"""What one unit of every counted quantity costs, from a versioned table: quantities are counted once, and may be priced again and again.

    version = "2026-11"
    currency = "EUR"

    [[price]]
    kind = "tool_calls"      # of core.ledger.KINDS
    price = 0.002            # of one; or of as many as `per` says
    per = "thousand"         # a number, or a word: thousand, million, GB, hour ...
    from = 2026-07-01        # valid from this day on, until a later entry of the same kind, agents and phase
    agents = "scout*"        # of these agents alone, by name or pattern; "shared" for what belongs to none
    phase = "infer"          # of this phase alone: train, evaluate, infer

    [[price]]
    kind = "input_tokens"
    model = "gpt-4o-mini"    # its price in the genai-prices package, as of `from`, else today

An entry for one agent goes before one for a pattern, that before one for all; then one for a phase; then the latest. What a table has no
entry for costs nothing, and is named where costs are shown.
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from marlstone.core.errors import UserError, suggest
from marlstone.core.ledger import KINDS, PHASES

EVER = date(1970, 1, 1)
TOKENS = ("input_tokens", "output_tokens")
_TIME = {"microsecond": 1, "second": 10**6, "minute": 60 * 10**6, "hour": 3600 * 10**6}
_COUNT = {"one": 1, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "quintillion": 10**18}
_SIZE = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
FIELDS = ("kind", "price", "per", "from", "agents", "phase", "model")
PAID = 1e-6
"""Of a `paid_micro`, unless a table says otherwise: what a tool charged is money already."""


@dataclass(frozen=True)
class Price:
    """Of one unit of a `kind`, from the day `since` on; of `agents` (a name or a pattern; empty: all) in a `phase` (empty: all). `model`:
    whose price it is, of tokens."""

    kind: str
    unit: float
    since: date = EVER
    agents: str = ""
    phase: str = ""
    model: str = ""

    def covers(self, agent: str, phase: str) -> bool:
        """Whether it is of this agent in this phase."""
        return (not self.phase or self.phase == phase) and (not self.agents or fnmatchcase(agent, self.agents))

    @property
    def precedence(self) -> tuple[int, int, bool, date]:
        """What makes one entry go before another."""
        pattern = any(c in self.agents for c in "*?[")
        return (0 if not self.agents else 1 if pattern else 2), len(self.agents), bool(self.phase), self.since


@dataclass(frozen=True)
class PriceTable:
    """Prices in one `currency`, under a `version`; `source`: where they are written."""

    version: str
    currency: str
    entries: tuple[Price, ...]
    source: str = field(default="", compare=False)

    @cached_property
    def sha256(self) -> str:
        """Of what it says: two files that say the same have the same."""
        entries = sorted(({**asdict(x), "since": x.since.isoformat()} for x in self.entries), key=json.dumps)
        content = {"version": self.version, "currency": self.currency, "entries": entries}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def identity(self) -> dict[str, str]:
        """What a record that used it says of it."""
        return {"version": self.version, "sha256": self.sha256, "currency": self.currency, "source": self.source}

    def unit(self, kind: str, agent: str, phase: str, day: date) -> float | None:
        """The price of one unit; None where the table has none of that kind for this agent and phase. Raises `UserError` for a day before
        its first."""
        mine = [x for x in self._of_kind.get(kind, ()) if x.covers(agent, phase)]
        if not mine:
            return PAID if kind == "paid_micro" else None
        valid = [x for x in mine if x.since <= day]
        if not valid:
            first = min(x.since for x in mine)
            raise UserError(f"{self.source}: no price of {kind} for {day}: the first is from {first}; add an entry that is valid before")
        return max(valid, key=lambda x: x.precedence).unit

    @cached_property
    def _of_kind(self) -> dict[str, tuple[Price, ...]]:
        kinds = dict.fromkeys(x.kind for x in self.entries)
        return {kind: tuple(x for x in self.entries if x.kind == kind) for kind in kinds}

    @classmethod
    def shipped(cls) -> "PriceTable":
        """The package's own, a scale."""
        return cls.of(tomllib.loads(files("marlstone.cost").joinpath("prices.toml").read_text()), "marlstone's prices.toml")

    @classmethod
    def read(cls, path: str | Path) -> "PriceTable":
        """Of a TOML file. Raises `UserError`."""
        try:
            content = tomllib.loads(Path(path).expanduser().read_text())
        except OSError as error:
            raise UserError(f"prices {str(path)!r} cannot be read: {error.strerror}: name a TOML file (docs: costs)") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: not valid TOML: {error}") from error
        return cls.of(content, str(path))

    @classmethod
    def of(cls, content: Mapping[str, Any], where: str) -> "PriceTable":
        """Of a table as TOML has it. Raises `UserError`, naming entry, field and remedy."""
        for key in content:
            if key not in ("version", "currency", "price"):
                raise UserError(f"{where}: {key} is unknown; {suggest(key, ('version', 'currency', 'price'))}")
        for name in ("version", "currency"):
            if not isinstance(content.get(name), str) or not content[name]:
                raise UserError(
                    f"{where}: {name} = {content.get(name)!r}: give a text, such as {'2026-11' if name == 'version' else 'USD'!r}"
                )
        rows = content.get("price", [])
        if not isinstance(rows, list) or not all(isinstance(x, dict) for x in rows):
            raise UserError(f"{where}: price is no list of tables: write each as [[price]]")
        entries = tuple(_entry(row, f"{where}: price {i + 1}") for i, row in enumerate(rows))
        seen: dict[tuple[Any, ...], int] = {}
        for i, x in enumerate(entries):
            mine = (x.kind, x.agents, x.phase, x.since)
            if mine in seen:
                raise UserError(f"{where}: prices {seen[mine] + 1} and {i + 1} are both of {x.kind} from {x.since}: leave one out")
            seen[mine] = i
        return cls(content["version"], content["currency"], entries, where)


def _entry(row: Mapping[str, Any], where: str) -> Price:
    for key in row:
        if key not in FIELDS:
            raise UserError(f"{where}: {key} is unknown; {suggest(key, FIELDS)}")
    kind, agents, phase, model, since = (
        row.get("kind"),
        row.get("agents", ""),
        row.get("phase", ""),
        row.get("model", ""),
        row.get("from", EVER),
    )
    if kind not in KINDS:
        raise UserError(f"{where}: kind = {kind!r} is not counted; {suggest(str(kind), KINDS)}")
    if not isinstance(agents, str) or phase not in ("", *PHASES):
        raise UserError(f"{where}: agents = {agents!r}, phase = {phase!r}: give a name or pattern, and one of {', '.join(PHASES)}")
    if not isinstance(since, date) or isinstance(since, datetime):
        raise UserError(f"{where}: from = {since!r}: give a day, such as 2026-07-01")
    if model:
        if kind not in TOKENS or "price" in row or "per" in row or not isinstance(model, str):
            raise UserError(f"{where}: model = {model!r} stands in place of a price, of {' or '.join(TOKENS)} alone")
        return Price(kind, _of_model(kind, model, since, where), since, agents, phase, model)
    amount = row.get("price")
    if isinstance(amount, bool) or not isinstance(amount, int | float) or not 0 <= amount < 1e12:
        raise UserError(f"{where}: price = {amount!r}: give a price of at least 0")
    return Price(kind, amount / _per(kind, row.get("per", 1), where), since, agents, phase)


def _per(kind: str, per: Any, where: str) -> float:
    words = _TIME if kind.endswith("_us") else {**_COUNT, **(_SIZE if kind == "bytes" else {})}
    if isinstance(per, str):
        if per not in words:
            raise UserError(f"{where}: per = {per!r} is no measure of {kind}; {suggest(per, words)}")
        return words[per]
    if isinstance(per, bool) or not isinstance(per, int | float) or not 0 < per < 1e30:
        raise UserError(f"{where}: per = {per!r}: give how many the price is of, or one of {', '.join(words)}")
    return per


def _of_model(kind: str, model: str, since: date, where: str) -> float:
    """Of one token, by the genai-prices package as it is installed."""
    try:
        from genai_prices import Usage, calc_price
    except ModuleNotFoundError as error:
        raise UserError(f"{where}: prices of models need the genai-prices package: pip install 'marlstone[genai-prices]'") from error
    when = datetime.now(UTC) if since == EVER else datetime(since.year, since.month, since.day, tzinfo=UTC)
    million = Usage(**{kind: 10**6, **{other: 0 for other in TOKENS if other != kind}})
    try:
        return float(calc_price(million, model, genai_request_timestamp=when).total_price) / 10**6
    except LookupError as error:
        raise UserError(
            f"{where}: model = {model!r} is not known to genai-prices: {error}; give its `price` in place of `model`"
        ) from error
