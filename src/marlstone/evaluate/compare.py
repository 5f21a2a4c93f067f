"""Which of two runs' final policies earns more? Both play the same episodes, each as it is deployed; what counts is the difference in each.

    x_e = mean over training seeds i of  R(policy i of the first, episode e) - R(policy i of the second, episode e)

The interval is a confidence sequence for the mean of x (`sequences`): it holds at every episode at once, so that playing goes on in
rounds until 0 lies outside, and stopping there costs nothing. It needs bounds. Declared, as the least and the greatest team return
an episode can have, they cost no evidence. Otherwise the first round shows them: no difference is taken to be wider than the widest
spread of returns met there; that round is then no evidence, and what lies outside later is clipped and counted, so that the interval
is of clipped differences. Agents' own returns are always bounded by their first round, at alpha over the number of agents.
"""

from typing import Any

from marlstone.config import RunConfig
from marlstone.evaluate.families import alpha_each
from marlstone.evaluate.paired import ALPHA, Evidence, Players, rounds, together
from marlstone.runs.checkpoint import Checkpoint

Side = tuple[RunConfig, Checkpoint]


def compare(first: Side, second: Side, episodes: int, bounds: tuple[float, float] | None = None) -> dict[str, Any]:
    """The record (INTERFACE `compare`): the first run less the second, per episode. Raises `UserError` for different environments."""
    (a, at), (b, bt) = first, second
    a, b, seeds = together(a, b)
    count, each = rounds(episodes, a, b)
    team = Evidence(ALPHA, None if bounds is None else bounds[1] - bounds[0])
    with Players.of(a, seeds) as ours, Players.of(b, seeds) as theirs:
        names = [n for n in ours.spec.team.agents if n in theirs.spec.team.agents]
        own = {n: Evidence(alpha_each(len(names))) for n in names}
        left, right = ours.policies(at.path), theirs.policies(bt.path)
        home = lambda checkpoint: checkpoint.path.parent.parent
        acts = [ours.acting(a, home(at), left), theirs.acting(b, home(bt), right)]
        place = lambda side: [side.spec.agents.index(n) for n in names]
        played = 0
        for nth in range(count):
            x, y = ours.play(left, each, nth, acts[0]), theirs.play(right, each, nth, acts[1])
            played += each
            team.add(x.ended_only(), y.ended_only())
            for n, i, j in zip(names, place(ours), place(theirs), strict=True):
                own[n].add(x.ended_only(x.agent_return[..., i]), y.ended_only(y.agent_return[..., j]))
            if team.x and team.decided:
                break
    low, high = team.ci
    return {
        "runs": [str(c.path.parent.parent) for c in (at, bt)],
        "steps": [at.step, bt.step],
        "acting": acts,
        "env": a.env,
        "seeds": seeds,
        "episodes": played,
        "counted": int(team.all.size),
        **team.record(),
        "better": 0 if low > 0 else 1 if high < 0 else None,
        "bounds": [-float(team.span or 0), float(team.span or 0)],
        "bounds_declared": bounds is not None,
        "clipped": team.clipped,
        "agents": {n: e.record() for n, e in own.items()},
    }
