"""Methods of talking, side by side: a method's `[comms]` (`messages/methods/`) laid over the settings of a ground (`messages/grounds/`).

A ground is a configuration of its own, with the learner's settings that every method shares and the size of messages. A method's file has
`[comms]`, and under `[grounds.NAME]` the fields of `[comms]` that differ on one ground. Nothing else differs between methods.
"""

from typing import Any

from record import HERE, read

from marlstone.config import RunConfig
from marlstone.config.sources import built
from marlstone.config.sources import read as table_of

FOLDER = HERE / "messages"
GROUNDS = {
    "traffic_easy": "success",
    "traffic_medium": "success",
    "traffic_hard": "success",
    "predator_prey": "success",
    "signal": "named",
}
"""The true metric that counts as success, by ground."""
METHODS = ("none", "commnet", "ic3net", "tarmac", "ddcl", "thinned", "ours")
LOSSY: dict[str, Any] = {"to_bad": 3 / 28, "to_good": 0.25, "loss": 1.0, "delay": 3}
"""A Gilbert-Elliott link that is bad 30% of the time, four steps at a time, then loses everything; what arrives is up to 3 steps late."""
HOLD = 3
"""For how many more steps a message stays in the inbox, with the links above and where they are compared with ideal ones."""


def _method(method: str) -> dict[str, Any]:
    return table_of(FOLDER / "methods" / f"{method}.toml")


def prices(method: str) -> list[float]:
    """The prices a bit at which a method is run where none is given; none: it has no price."""
    return list(_method(method).get("prices", ()))


def kept_share(ground: str) -> float:
    """The share of CommNet's messages that `ours` sends, as recorded. Raises `SystemExit` where one of the two is not recorded."""
    recorded = read("messages")
    ours, all_ = (recorded.get(f"{ground}-{m}", {}).get("messages_per_step") for m in ("ours", "commnet"))
    if not ours or not all_:
        raise SystemExit(f"{ground} thinned: no result of ours and commnet says what share to keep: record these first, or give --keep")
    return float(min(1.0, ours / all_))


def configured(ground: str, method: str, comms: dict[str, Any] | None = None, settings: dict[str, str] | None = None) -> RunConfig:
    """A method on a ground; `comms`: more fields of `[comms]`; `settings`: other fields as typed, dotted (`learner.lr`)."""
    values = table_of(FOLDER / "grounds" / f"{ground}.toml")
    asked = _method(method)
    own = {**asked["comms"], **asked.get("grounds", {}).get(ground, {}), **(comms or {})}
    if "price" in (comms or {}):
        own.pop("budget_bits", None)
    values["comms"] = own if own["kind"] == "none" else {**values["comms"], **own}
    return built(values, settings or {})


def named(ground: str, method: str, comms: dict[str, Any]) -> str:
    """The name of a result: ground, method, and what was given of the variant."""
    words = [ground, method]
    words += [f"price-{comms['price']:g}"] if "price" in comms else []
    words += [f"budget-{'-'.join(f'{b:g}' for b in comms['budget_bits'])}"] if "budget_bits" in comms else []
    words += ["loss"] if "link" in comms else []
    return "-".join(words)


def same(recorded: dict[str, Any] | None, asked: dict[str, Any]) -> bool:
    """Whether a recorded configuration is what is asked now; fields that came since are at their defaults in it. A user's part, whose path
    was left out, is found from the repository's root alone."""
    return recorded is not None and (recorded == asked or built(recorded, {}) == built(asked, {}))


def without_paths(value: Any) -> Any:
    """A configuration without this machine's paths."""
    if isinstance(value, dict):
        return {k: without_paths(v) for k, v in value.items()}
    if isinstance(value, list):
        return [without_paths(v) for v in value]
    return value.replace(f"{HERE.resolve().parent}/", "") if isinstance(value, str) else value
