"""Questions asked of runs and environments: `evaluate`, `compare`, `select`, `audit_credit`, `make_env`."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from marlstone.api.finding import find, find_policies, find_sides, new_path, reopened
from marlstone.api.results import Comparison, CreditAudit, Payoff, Returns, Selection, Tuning
from marlstone.api.runs import Run
from marlstone.core.errors import UserError


def evaluate(
    run: Run | str | Path, *, episodes: int | None = None, acting: str | None = None, env: str | None = None, metrics: Sequence[str] = (),
    checkpoint: Literal["final", "best"] = "final",
) -> Returns:  # fmt: skip
    """Play a run's final policies on fresh episodes, as they are deployed, by mode and sampled.

    Args: `episodes`: of each training seed (None: as configured); `acting`: another way to be deployed; `env`: another environment to play
    in, where groups are alike in what they see and do, or where the run's own lies now; `metrics`: true metrics of your own to measure
    beside its own, `file.py:Name`; `checkpoint`: the final policies, or the `best` ones that were kept by validation episodes.
    Raises `UserError`.
    """
    _prepare()
    from marlstone.training.trained import evaluate as played

    directory, found = find_policies(_path(run), checkpoint)
    changes = {"evaluate.episodes": None if episodes is None else str(episodes), "acting": acting}
    config, _ = reopened(directory, {k: v for k, v in changes.items() if v is not None} | _measured(metrics), env, elsewhere=True)
    return Returns.of(played(config, found, config.evaluate.episodes))


def compare(
    first: Run | str | Path, second: Run | str | Path, *, episodes: int = 256, bounds: tuple[float, float] | None = None,
    budget: float | str = 480.0, acting: str | None = None, metrics: Sequence[str] = (),
) -> Comparison:  # fmt: skip
    """Play two runs' final policies on the same episodes until it is decided which returns more; either may be a policy's folder, which is
    played as it is deployed, gate included.

    Args: `episodes`: of each training seed, at most; `bounds`: the least and greatest team return of an episode (None: estimated from the
    first round, which is then not counted); `budget`: of playing, at most: seconds, or `"8m"`; `metrics`: true metrics of your own,
    `file.py:Name`, to compare too. Raises `UserError` for runs of different environments.
    """
    _prepare()
    from marlstone.evaluation.paired.compare import compare as compared
    from marlstone.evaluation.paired.pace import seconds_of

    changes = ({} if acting is None else {"acting": acting}) | _measured(metrics)
    (ours, theirs), _ = find_sides([_path(first), _path(second)], changes)
    return Comparison.of(compared(ours, theirs, episodes, bounds, seconds_of(budget) if isinstance(budget, str) else budget))


def payoff(
    *runs: Run | str | Path, env: str | None = None, episodes: int = 64, team: str = "", seeds: int | None = None, acting: str | None = None
) -> Payoff:
    """Let every policy play the team against every policy as its opponents, on the same episodes.

    Args: `runs`: finished runs, policies' folders, `random` or `default`; `env`: where they play (None: the first run's environment);
    `episodes`: of each training seed and cell; `team`: whom the rows play, by name, type or group ("": the environment's own team);
    `seeds`: training seeds that play (None: as many as every run has); `acting`: one way for all (None: each as it is deployed).
    Raises `UserError` where nobody can play both sides.
    """
    _prepare()
    return Payoff.of(payoff_record([str(_path(r)) for r in runs], env, episodes, team, seeds, acting))


def payoff_record(
    runs: Sequence[str], env: str | None, episodes: int, team: str, seeds: int | None, acting: str | None,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:  # fmt: skip
    """The record of `marlstone payoff`; as `payoff`."""
    from marlstone.core.acting import Acting
    from marlstone.evaluation.paired.payoff import payoff as played
    from marlstone.runs.directory import CONFIG, RunDirectory

    if env is None:
        homes = [p for r in runs for p in (Path(r).expanduser(), Path(r).expanduser().resolve().parent.parent) if (p / CONFIG).is_file()]
        if not homes:
            raise UserError("payoff: none of these is a run, whose environment would be known: name one by --env")
        config, _ = reopened(RunDirectory.open(homes[0]), {})
        env, team = config.env, team or config.team
    act = None if acting is None else Acting.parse(acting).act
    if acting is not None and act is None:
        raise UserError(f"payoff: acting is {acting!r}: give mode, sample or temperature=T, or leave it out: each as it is deployed")
    return played(runs, env, episodes, team, seeds, act, tell)


def select(
    env: str, *, budget: str | int | None = None, quick: bool = False, candidates: str | Path | None = None, seeds: int | None = None,
    seed: int | None = None, episodes: int | None = None, acting: str | None = None, out: str | Path | None = None,
    settings: Mapping[str, Any] | None = None, progress: bool = True,
) -> Selection:  # fmt: skip
    """Train candidates under one budget, test them under failures, and recommend one, with evidence and cost.

    Args: `budget`: joint steps per seed (`"1e6"`), time per seed on a core (`"30m"`), or a price for all (`"2.5usd"`); `quick`: a first
    look; `candidates`: a TOML file; `seeds` of each candidate from `seed` on; `episodes` that judge each seed; `out`: a folder, where a
    selection that was broken off goes on; `settings`: fields of every candidate's runs, such as `{"rollout.envs": 64}`; `progress`: shown
    on stderr. Raises `UserError`.
    """
    _prepare()
    from marlstone.evaluation.select.asking import lanes, question, studied, timed

    numbers = {k: v for k, v in {"seeds": seeds, "seed": seed, "episodes": episodes}.items() if v is not None}
    asked = question(
        env, budget=None if budget is None else str(budget), quick=quick, candidates=candidates,
        settings={k: str(v) for k, v in (settings or {}).items()}, acting=acting, **numbers,
    )  # fmt: skip
    folder = Path(out or new_path("selections", env)).expanduser().absolute()
    say, do = _executor(lanes(asked), progress)
    return Selection.of(timed(folder, lambda: studied(asked, folder, do, say)))


def tune(
    env: str | None = None, *, space: Mapping[str, Any] | None = None, config: str | Path | None = None, steps: int | None = None,
    trials: int | None = None, eta: int | None = None, tuning_seeds: int | None = None, seeds: int | None = None,
    seed: int | None = None, sampler: str | None = None, baseline: bool | None = None, acting: str | None = None,
    out: str | Path | None = None, progress: bool = True, **settings: Any,
) -> Tuning:  # fmt: skip
    """Which settings of one configuration return most: successive halving on tuning seeds, then the best anew on reporting seeds.

    Args: `space`: `{"learner.lr": {"low": 1e-4, "high": 1e-2, "scale": "log"}, "learner.epochs": {"choices": [1, 4]}}`, beside that of
    `config`, a run's TOML; `steps` per seed of a trial that is not dropped; `trials`, of which one in `eta` goes on, on `tuning_seeds`
    seeds; `seeds` from `seed` on: of the report; `sampler`: `"random"` or `"optuna"`; `baseline`: whether the configuration as it was is
    reported too (None: yes); `out`: a folder, where a sweep that was broken off goes on; `settings`: other fields, as `train` takes them.
    Raises `UserError`.
    """
    _prepare()
    from marlstone.evaluation.select.asking import timed
    from marlstone.evaluation.tune.asking import lanes, tuned
    from marlstone.evaluation.tune.question import question

    asked = {"trials": trials, "eta": eta, "tuning_seeds": tuning_seeds, "seeds": seeds, "seed": seed, "sampler": sampler,
             "baseline": baseline}  # fmt: skip
    fields = {"env": env, "steps": steps, "acting": acting}
    wanted = question(
        config, {k: str(v) for k, v in fields.items() if v is not None}, space or {}, settings,
        **{k: v for k, v in asked.items() if v is not None},
    )  # fmt: skip
    folder = Path(out or new_path("sweeps", wanted.config({}, 0, 1).env)).expanduser().absolute()
    say, do = _executor(lanes(wanted), progress)
    return Tuning.of(timed(folder, lambda: tuned(wanted, folder, do, say)))


def _executor(lanes: int, progress: bool) -> tuple[Callable[[str], None], Any]:
    """Who is told how far it is, and where jobs are done, so many at once."""
    from marlstone.api.display import Display
    from marlstone.evaluation.select.executors import Beside, Here

    say = (lambda text: print(text, file=sys.stderr, flush=True)) if progress else (lambda text: None)
    show = Display if progress else _silent
    never = lambda: False
    return say, Beside(say, show, never, lanes) if lanes > 1 else Here(say, show, never)


@contextmanager
def _silent() -> Iterator[Any]:
    yield lambda progress, name="": None


def audit_credit(
    run: Run | str | Path, *, decisions: int = 256, continuations: int | None = None, window: int | None = None
) -> CreditAudit:
    """What a run's credit method says of each agent, against the truth.

    Args: `decisions`: audited per seed; `continuations`: how often each is played on at most (None: 16 times; 4 where Python steps, and
    episodes of shares); `window`: for how many steps (None: to the episode's end). Raises `UserError` where there is no truth to be had,
    ValueError where the environment cannot go back to a state it was in.
    """
    _prepare()
    from marlstone.evaluation.credit.audit import audit_run

    directory, checkpoint = find(_path(run))
    config, _ = reopened(directory, {})
    return CreditAudit.of(audit_run(config, checkpoint, decisions, directory.path / "credit_audit.png", continuations, window))


def make_env(name: str, **options: Any) -> Any:
    """The environment called `source:name?option=value`, with more `options`: an `Env` (JAX) or a `HostEnv`. Raises `UserError`."""
    from marlstone.envs.make import make

    return make(name, options)


def _measured(metrics: Sequence[str]) -> dict[str, str]:
    return {"metric": json.dumps(list(metrics))} if metrics else {}


def _path(run: Run | str | Path) -> str:
    return str(run.path if isinstance(run, Run) else run)


def _prepare() -> None:
    from marlstone.rollout.placement import prepare

    prepare()  # before anything asks JAX for its devices
