"""What each link between two agents is worth: the return as deployed less the return with that one link cut, on the same episodes.

    worth_ij = IQM over seeds of (R - R without j -> i),   loss_ij = worth_ij / span,   span = IQM(R) - IQM(chance's return)

A message on a cut link is refused before it is sent, as if the sender had been silent towards that recipient; everything else is equal,
keys too. Intervals hold for all links that were judged together (`stats.families`). A link is removable where the whole interval of its
loss lies below 1% of the span, not removable where the whole interval lies above; else that is not shown. Each link is judged alone: two
links that say the same are removable one by one and not together, so all removable ones are cut once more at the same time.

Of a large team (n^2 > 64) senders are judged first, each one silenced as a whole; then every link of the most and of the least valuable
one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from marlstone.core.acting import Act
from marlstone.envs.faults import MessageCut
from marlstone.play.player import Player
from marlstone.rollout.state import State
from marlstone.stats.families import alpha_each
from marlstone.stats.intervals import interval, share

REMOVABLE = 0.01
ALL_LINKS = 64  # n^2 above which senders are judged first
Tell = Callable[[str], None]


def known(ends: Sequence[float]) -> list[float | None]:
    """An interval as records have it: None where there is no end."""
    return [float(x) if np.isfinite(x) else None for x in ends]


def worth_record(whole: np.ndarray, without: np.ndarray, chance: np.ndarray, count: int) -> dict[str, Any]:
    """`worth worth_ci95 loss loss_ci95 removable note` from returns `[seeds episodes]` as deployed, with something cut, and by chance; NaN
    where an episode did not end. `count`: statements that hold together."""
    lost, top, bottom = ([r[~np.isnan(r)] for r in x] for x in (whole - without, whole, chance))
    if not all(r.size for r in (*lost, *top, *bottom)):
        nothing = {"worth": None, "worth_ci95": [None, None], "loss": None, "loss_ci95": [None, None], "removable": None}
        return nothing | {"note": "of some seed not one episode ended both with the link and without: raise evaluate.max_steps"}
    level = 1 - alpha_each(count)
    worth, around = interval(lost, level)
    loss, ends = 0.0, (0.0, 0.0)
    if any(r.any() for r in lost):  # else nothing changed, whatever was learned
        loss, ends = share(lost, top, bottom, level)
    removable = True if ends[1] < REMOVABLE else False if ends[0] > REMOVABLE else None
    return {
        "worth": worth,
        "worth_ci95": known(around),
        "loss": loss if np.isfinite(loss) else None,
        "loss_ci95": known(ends),
        "removable": removable,
        "note": "" if removable is not None else _why(len(whole), bool(np.isfinite(ends[0]))),
    }


def _why(seeds: int, shown: bool) -> str:
    if seeds < 2:
        return "one seed has no interval: train with --seeds 5"
    if not shown:
        return "not shown to return more than chance: train longer, or raise evaluate.episodes"
    return "the interval holds 1%: train more seeds, or raise evaluate.episodes"


@dataclass(frozen=True)
class LinkJudge:
    """Plays policies with links cut. `whole`, `chance`: returns `[seeds episodes]` of the same episodes as deployed, and by chance."""

    runtime: Player
    state: State
    episodes: int
    act: Act
    whole: np.ndarray
    chance: np.ndarray
    tell: Tell

    @property
    def agents(self) -> tuple[str, ...]:
        """Who talks."""
        return self.runtime.algorithm.spec.team.agents

    def returns(self, cuts: Sequence[tuple[str, ...]]) -> list[np.ndarray]:
        """Returns with each of these sets of links cut, `[seeds episodes]` each; one program plays all of them."""
        faults = [MessageCut(links) for links in cuts]
        out = []
        for links, played in zip(cuts, self.runtime.under_each(self.state, self.episodes, faults, self.act), strict=True):
            self.tell(f"without {', '.join(links)}")
            out.append(played.ended_only())
        return out

    def _links(self, senders: Sequence[str]) -> list[tuple[str, str]]:
        return [(s, r) for s in senders for r in self.agents if r != s]

    def record(self) -> dict[str, Any]:
        """`judged`, in words; `links`, and where senders came first `senders`; and `removable_together`: the return that is lost when
        everything that is removable is cut at once (None where there is nothing of that)."""
        n, senders = len(self.agents), list[dict[str, Any]]()
        chosen, words, count = self.agents, "every link", n * (n - 1)
        if n * n > ALL_LINKS:
            count = n + 2 * (n - 1)
            silenced = self.returns([(f"{a}>*",) for a in self.agents])
            senders = [{"sender": a} | worth_record(self.whole, x, self.chance, count) for a, x in zip(self.agents, silenced, strict=True)]
            order = sorted((s for s in senders if s["worth"] is not None), key=lambda s: s["worth"])
            ends = [order[-1]["sender"], order[0]["sender"]] if order else list(self.agents[:2])
            chosen = tuple(dict.fromkeys(ends))
            words = f"every sender, then the links of the most and the least valuable: {', '.join(chosen)}"
        links = self._links(chosen)
        played = self.returns([(f"{s}>{r}",) for s, r in links])
        rows = [
            {"sender": s, "recipient": r} | worth_record(self.whole, x, self.chance, count) for (s, r), x in zip(links, played, strict=True)
        ]
        return {"judged": words, "senders": senders, "links": rows, "removable_together": self._together(rows, senders)}

    def _together(self, rows: list[dict[str, Any]], senders: list[dict[str, Any]]) -> dict[str, Any] | None:
        links = tuple(f"{x['sender']}>{x.get('recipient', '*')}" for x in (*rows, *senders) if x["removable"])
        if len(links) < 2:
            return None
        return {"links": list(links), **worth_record(self.whole, self.returns([links])[0], self.chance, 1)}
