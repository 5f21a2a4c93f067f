"""How long a selection will take, printed before it begins: its joint steps, stage by stage, over a speed.

    core seconds of a candidate = joint steps (all seeds) / steps per second on one core,   time = their sum / cores

Before anything was trained, a core's speed is 1 / (1 / random play's, measured within seconds, + 1 / `NETWORKS`): right where the simulator
is the limit, a guess where networks are. As soon as tuning or a pilot has trained a candidate, its measured speed counts.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from marlstone.core.records import replace
from marlstone.evaluation.select import QUICK_BUDGET
from marlstone.evaluation.select.question import QUICK, Question

NETWORKS = 20_000.0  # joint steps per second that one core acts and learns with the default networks of a few agents, about
BUILT = 15.0  # seconds of one core for starting and compiling a job
UNKNOWN = 200  # steps of an episode whose length is not declared
CASES = 15  # edge cases, about
WORTH = 120.0  # seconds from which on shorter ways are worth a line


@dataclass(frozen=True)
class Speed:
    """Joint steps per second of one candidate on one core; whether a training measured it."""

    each: float
    measured: bool = False

    @classmethod
    def guessed(cls, alone: float) -> "Speed":
        """From random play's in the environment `alone`."""
        return cls(1 / (1 / alone + 1 / NETWORKS))


@dataclass(frozen=True)
class Stage:
    """Part of a selection: its name, joint steps over all seeds by candidate, and how many jobs it has."""

    name: str
    steps: Mapping[str, float]
    jobs: int


def stages(
    question: Question, steps: Mapping[str, int], tries: Mapping[str, int], episode: int | None, trained: Collection[str] = ()
) -> list[Stage]:
    """All of a selection, in its order.

    Args: `steps`: each candidate's budget, joint steps per seed; `tries`: how many settings tuning tries of each; `episode`: about how many
    steps an episode has, None where that is not known; `trained`: candidates that need no more tuning and training.
    Returns: the most that it may come to: candidates that are stopped early save some of it. Of the winner, whoever that is, the mean is
    counted.
    """
    q, mean = question, sum(steps.values()) / len(steps)
    tuned = {k: q.tuning * n * q.tuning_seeds * tries[k] for k, n in steps.items() if q.tuning and tries[k] > 1 and k not in trained}
    of_winner = (q.confirm * q.seeds + q.soak * q.soak_seeds) * mean
    longest = sorted(steps, key=lambda k: -steps[k])[: q.survivors]
    played = (CASES + min(q.seeds, 5)) * q.episodes * q.seeds * (episode or UNKNOWN)
    return [
        Stage("tuning", tuned, sum(tries[k] for k in tuned)),
        Stage("training", {k: float(n * q.seeds) for k, n in steps.items() if k not in trained}, len(steps) - len(trained)),
        Stage("stress", dict.fromkeys(longest, float(played)), len(longest)),
        Stage("fresh seeds and a soak", dict.fromkeys(steps, of_winner / len(steps)), int(q.confirm) + int(q.soak > 0)),
    ]


def seconds(parts: Sequence[Stage], speed: Mapping[str, float], cores: int) -> dict[str, float]:
    """Each stage's seconds, those without work left out. `speed`: joint steps per second of each candidate on one core."""
    work = {p.name: sum(n / speed[k] for k, n in p.steps.items()) + BUILT * p.jobs for p in parts if p.jobs}
    return {name: amount / cores for name, amount in work.items()}


def words(seconds_: float) -> str:
    """`50000` -> `14 h`, `900` -> `15 min`: two figures are all that an estimate has."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds_ >= (2 if unit == "days" else 1) * size:
            return f"{seconds_ / size:.2g} {unit}" if seconds_ / size < 10 else f"{seconds_ / size:.0f} {unit}"
    return f"{max(seconds_, 1):.0f} s"


def expected(
    question: Question, steps: Mapping[str, int], tries: Mapping[str, int], speeds: Mapping[str, Speed], episode: int | None, cores: int,
    done: Sequence[str] = (), trained: Collection[str] = (),
) -> list[str]:  # fmt: skip
    """What to expect, a line each: the time, stage by stage, and before anything is done, the options that make it shorter.

    Args: `steps`, `tries`, `episode`, `trained`: as `stages` takes them; `done`: names of the stages that are over.
    """
    speed = {k: s.each for k, s in speeds.items()}
    left = {k: v for k, v in seconds(stages(question, steps, tries, episode, trained), speed, cores).items() if k not in done}
    if not left:
        return []
    total = sum(left.values())
    parts = ", ".join(f"{name} {words(s)}" for name, s in left.items())
    how = "as measured in training" if all(s.measured for s in speeds.values()) else "from a second of random play; networks are guessed"
    about = f"about {words(total)}{' left' if done or trained else ''} on {cores} core{'s' if cores > 1 else ''}"
    out = [f"expected time: {about} ({parts}), {how}"]
    if total > WORTH and not (done or trained):
        first = replace(question, candidates=QUICK, tuning=0.0, survivors=len(QUICK), soak=0, confirm=False)
        mean = len(speed) / sum(1 / x for x in speed.values())
        short = stages(first, {c.name: int(float(QUICK_BUDGET)) for c in QUICK}, {c.name: 1 for c in QUICK}, episode)
        quick = sum(seconds(short, {c.name: mean for c in QUICK}, cores).values())
        options = [f"--quick (about {words(quick)})"] if quick < 0.7 * total else []
        options += [f"--seeds 3 (about {words(total * 3 / question.seeds)}; stability unrated)"] if question.seeds > 3 else []
        out.append(f"shorter with {', '.join([*options, 'a smaller --budget'])} or, on more machines, --fleet ray")
    return out
