"""The docs' tables of messages: methods side by side, bits beside the entropy, budgets, links, chatter, speed; from results/messages*."""

import json
from pathlib import Path
from typing import Any

from messages_config import GROUNDS, METHODS
from record import RESULTS, read
from tables import between, number, table

from marlstone.stats.intervals import iqm

BEGIN, END = "<!-- messages: written by benchmarks/render.py -->", "<!-- /messages -->"
Result = dict[str, Any]
HARD = "traffic_hard"
EQUAL = 0.01  # of success


def _one(name: str) -> Result | None:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def _percent(x: float | None) -> str:
    return "-" if x is None else f"{number(100 * x)}%"


def _success(r: Result) -> str:
    low, high = r["success_ci95"]
    ci = "" if low is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    return f"{100 * r['success']:.1f}%{ci}, worst {100 * r['success_worst_seed']:.1f}"


def _from(r: Result, seeds: int | None = None) -> str:
    count = f"{seeds} seeds, " if seeds else ""
    return f"{count}{r['date'][:10]} `{r['commit']}`"


def _bad(r: Result) -> bool:
    link = r["config"]["comms"].get("link", {})
    return bool(link.get("delay") or link.get("copies") or link.get("loss_good") or (link.get("to_bad") and link.get("loss")))


def _label(r: Result) -> str:
    c = r["config"]["comms"]
    words = [f"`{r['method']}`"]
    words += [f"price {c['price']:g}"] if c.get("price") else []
    words += [f"budget {', '.join(f'{b:g}' for b in c['budget_bits'])}"] if c.get("budget_bits") else []
    words += [f"share {c['keep']:.3g}"] if "keep" in c else []
    return ", ".join([*words, "bad links"] if _bad(r) else words)


def _recorded() -> list[Result]:
    """Results on reporting seeds, in the order of grounds, methods and variants."""
    found = [r for r in read("messages").values() if r["purpose"] == "reporting" and r["ground"] in GROUNDS and r["method"] in METHODS]

    def place(r: Result) -> tuple[Any, ...]:
        c = r["config"]["comms"]
        return (tuple(GROUNDS).index(r["ground"]), METHODS.index(r["method"]), _bad(r), c.get("price", 0.0), c.get("budget_bits", []))

    return sorted(found, key=place)


def methods() -> str:
    """One row a ground, method and variant, with its messages and bits as shares of CommNet's on that ground."""
    found = _recorded()
    all_ = {r["ground"]: r for r in found if r["method"] == "commnet" and not _bad(r)}
    share = lambda r, k: _percent(r[k] / all_[r["ground"]][k]) if r["ground"] in all_ else "-"
    head = ["ground", "method", "success", "return", "messages/step", "of CommNet's", "bits/step", "of CommNet's",
            "not enforced: bits/step, p95", "refused", "steps per seed", "measured"]  # fmt: skip
    rows = []
    for r in found:
        free = r.get("unenforced")
        rows.append(
            [
                r["ground"], _label(r), _success(r), f"{r['return']:.3g}",
                number(r["messages_per_step"]), share(r, "messages_per_step"), number(r["bits_per_step"]), share(r, "bits_per_step"),
                "-" if free is None else f"{number(free['bits_per_step'])}, {number(free['bits_p95'])}",
                _percent(r.get("refused")) if free else "-", number(float(r["steps"])), _from(r, len(r["seeds"])),
            ]
        )  # fmt: skip
    known = {(r["ground"], r["method"]) for r in found}
    lacking = {g: [m for m in METHODS if (g, m) not in known] for g in GROUNDS}
    gone = [f"{g}: {'all' if len(x) == len(METHODS) else ', '.join(x)}" for g, x in lacking.items() if x]
    text = f"Not recorded yet: {'; '.join(gone)}.\n" if gone else ""
    return "\n".join(x for x in (table(head, rows) if rows else "", text) if x)


def frontier() -> str:
    """What `ours` loses against CommNet, at what share of its messages and bits, and its bits over the fewest of DDCL at equal success."""
    found, rows = [r for r in _recorded() if not _bad(r)], []
    of = lambda ground, method: [r for r in found if (r["ground"], r["method"]) == (ground, method)]
    for r in found:
        if r["method"] != "ours" or not of(r["ground"], "commnet"):
            continue
        all_ = of(r["ground"], "commnet")[0]
        equal = [d for d in of(r["ground"], "ddcl") if d["success"] >= r["success"] - EQUAL]
        best = min(equal, key=lambda d: d["bits_per_step"]) if equal else None
        tried = len(of(r["ground"], "ddcl"))
        theirs = (
            f"none of {tried} prices" if best is None else f"{number(best['bits_per_step'])} at price {best['config']['comms']['price']:g}"
        )
        rows.append(
            [
                r["ground"], _label(r), f"{100 * (all_['success'] - r['success']):.1f} points",
                _percent(r["messages_per_step"] / all_["messages_per_step"]), _percent(r["bits_per_step"] / all_["bits_per_step"]),
                theirs if tried else "not recorded", _percent(r["bits_per_step"] / best["bits_per_step"]) if best else "-",
            ]
        )  # fmt: skip
    head = ["ground", "method", "success lost against CommNet", "of its messages", "of its bits",
            "DDCL's fewest bits/step at equal success", "of DDCL's"]  # fmt: skip
    about = f"What is lost for what is saved; equal success of DDCL is at most {100 * EQUAL:g} point less:\n"
    return f"{about}\n{table(head, rows)}" if rows else "The frontier of success against bits is not recorded yet.\n"


def curves() -> str:
    """Success in training on the hard junction at five points of the budget."""
    parts = (0.2, 0.4, 0.6, 0.8, 1.0)
    rows = []
    for r in _recorded():
        if r["ground"] != HARD or not (steps := r["curve"]["steps"]):
            continue
        at = [min(range(len(steps)), key=lambda k: abs(steps[k] - p * steps[-1])) for p in parts]
        seen = [[row[k] for row in r["curve"][r["metric"]] if row[k] is not None] for k in at]
        rows.append([_label(r), *(_percent(float(iqm(x))) if x else "-" for x in seen)])
    if not rows:
        return f"The curve of {HARD} is not recorded yet.\n"
    about = f"Success of {HARD} in training, where actions are sampled and the add rate rises in stages, IQM over seeds:\n"
    return f"{about}\n{table(['method', *(f'at {p:.0%} of the steps' for p in parts)], rows)}"


def signal() -> str:
    """Bits of each of the scout's messages, beside the entropy of what it sees."""
    from marlstone.envs.proving.signal import Signal

    ground, rows = Signal(), []
    for r in _recorded():
        scout = r.get("senders", {}).get("scout")
        if r["ground"] == "signal" and scout and scout["messages_per_step"] > 0:
            each = scout["bits_per_step"] / scout["messages_per_step"]
            rows.append([_label(r), f"{each:.3g}", f"{scout['messages_per_step']:.3g}", f"{r['return']:.3g}"])
    if not rows:
        return "Bits of a message in `proving:signal` are not recorded yet.\n"
    about = (
        f"What the scout of `proving:signal` sends. A message each step needs {ground.entropy:.3f} bits, with a prefix code "
        f"{ground.huffman:.3g}; the best return is {ground.best_return:g}, without messages {ground.best_silent_return:.3g}. "
        "DDCL reports 4.75 bits.\n"
    )
    return f"{about}\n{table(['method', 'bits of a message', 'messages/step', 'return'], rows)}"


def budgets() -> str:
    """Usage of budgets by policies that nobody holds to them: a policy for each, and one for all."""
    head = ["ground", "budget, bits/step", "success as deployed", "used, mean over episodes", "used, 95th percentile",
            "seeds that keep it: mean, 95th percentile", "refused", "one policy for all: success", "used, mean, 95th percentile",
            "refused", "measured"]  # fmt: skip
    rows, mean = [], lambda x: _percent(sum(x) / len(x))
    for r in read("messages_budget").values():
        all_ = r["policies"].get("-".join(f"{b:g}" for b in r["budgets"]))
        for b in r["budgets"]:
            if (p := r["policies"].get(f"{b:g}")) is None:
                continue
            k = p["kept"]
            one, use = ((all_ or {}).get("levels") or {}).get(f"{b:g}"), ((all_ or {}).get("kept") or {}).get(f"{b:g}")
            both = "-" if use is None else f"{mean(use['bits_per_step_use'])}, {mean(use['bits_p95_use'])}"
            rows.append(
                [
                    r["ground"], f"{b:g}", _success(p), mean(k["bits_per_step_use"]), mean(k["bits_p95_use"]),
                    f"{k['bits_per_step_met']} and {k['bits_p95_met']} of {k['of']}", _percent(p["refused"]),
                    "-" if one is None else _success(one), both, "-" if one is None else _percent(one["refused"]), _from(r),
                ]
            )  # fmt: skip
    return table(head, rows) if rows else "Budgets that nobody enforces are not recorded yet.\n"


def links() -> str:
    """Training over ideal and over bad links, judged over both; shares are of what the ideal gives."""
    head = [
        "ground",
        "method",
        "trained over",
        "success over ideal links",
        "over bad ones",
        "of the lossless",
        "bits/step over bad ones",
        "measured",
    ]
    rows = []
    for r in read("messages_links").values():
        best = r["trained"].get("ideal", {}).get("over", {}).get("ideal", {}).get("success")
        for link in (x for x in ("ideal", "bad") if x in r["trained"]):
            found = r["trained"][link]
            ideal, bad = found["over"]["ideal"], found["over"]["bad"]
            part = "-" if not best else _percent(bad["success"] / best)
            of = _from(r, len(bad["success_per_seed"]))
            rows.append(
                [r["ground"], f"`{r['method']}`", f"{link} links", _success(ideal), _success(bad), part, number(bad["bits_per_step"]), of]
            )
    return table(head, rows) if rows else "Links that lose and delay are not recorded yet.\n"


def chatter() -> str:
    """The alarm on the chatty ground and its twin."""
    r = _one("messages_chatter")
    if r is None:
        return "The alarm on chatter is not recorded yet.\n"
    head = ["`proving:errands`", "alarm", "share of steps that ask", "of the best policy", "bound", "return (best: 1)", "measured"]
    rows = [
        [
            name, f"{sum(t['alarms'])} of {len(t['alarms'])} seeds",
            f"{t['asking']:.3f} ({min(t['asking_per_seed']):.3f} to {max(t['asking_per_seed']):.3f})", f"{t['best_asking']:.3g}",
            f"{t['bound']:g}", f"{t['return']:.3f}, worst {t['return_worst_seed']:.3f}", _from(r),
        ]
        for name, t in r["twins"].items()
    ]  # fmt: skip
    return table(head, rows)


def speed() -> str:
    """Steps/s with messages over those without, and the ledger's part."""
    r = _one("messages_speed")
    if r is None:
        return "Speed with messages is not recorded yet.\n"
    head = ["environment", "none, steps/s", "`broadcast` over none", "`targeted` over none", "the ledger's part of `targeted`", "measured"]
    rows = [
        [
            f"`{x['env']}`", number(x["rates"]["none"]), f"{x['over_none']['broadcast']:.2f}", f"{x['over_none']['targeted']:.2f}",
            _percent(x["ledger_share"]), f"{r['machine']}, {_from(r)}",
        ]
        for x in r["envs"].values()
    ]  # fmt: skip
    return table(head, rows)


def tables() -> str:
    """Everything between the marks."""
    return "\n".join(
        [
            "### Methods side by side\n",
            "Success of the final policies as deployed, by IQM over seeds with a 95% interval (`signal`: the share of symbols that the "
            "worker names). A budget is enforced; beside it what the same policies send where nobody enforces it.\n",
            methods(),
            frontier(),
            curves(),
            signal(),
            "Repeat with `python benchmarks/messages.py GROUND METHOD`; settings are in `benchmarks/messages/`.\n",
            "### Budgets, not enforced\n",
            budgets(),
            "### Links that lose 30% and delay by 0 to 3 steps\n",
            links(),
            "### The alarm on chatter\n",
            chatter(),
            "### Speed\n",
            speed(),
        ]
    )


def messages(page: Path) -> str:
    """The page with its tables, between two marks."""
    return between(page.read_text(), BEGIN, tables(), END)
