"""Laws that every credit method keeps, this package's and yours: `marlstone check-credit`.

A law is a function of a `Specimen` that returns where it holds, raises `Broken` with the numbers where it does not, and
`Skipped` with the reason where it does not apply. That steps of one environment never reach another's answers needs no law:
a method is asked about one environment at a time. `meta`, asked about a batch, is heard in `every_parameter_learns`.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.config import RunConfig, dump, parse
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.evaluation.credit.law_cases import Specimen, absent, apart, swapped
from marlstone.evaluation.laws import Broken, Skipped, Verdict, all_judged, judged
from marlstone.runs.checkpoint import load, save
from marlstone.runs.leaves import leaves, named

Array = Any
Answers = dict[str, np.ndarray]
CLOSE = 1e-4  # relative; programs compiled differently round differently


# ---- the laws
def answers_have_their_shapes(s: Specimen) -> None:
    """Reward, discount, advantage and contribution are one number per step and agent, `[t n]`; what predicts the return and the method's
    own loss one per step, `[t]`. All are floating, and finite."""
    shape = s.given.trajectory.logp.shape
    try:
        answers = jax.eval_shape(s.answers, s.p, s.given)
        mixed = None if "mix" not in s.credit.answers() else jax.eval_shape(s.mixed, s.p, s.given)
    except (TypeError, ValueError) as error:
        raise Broken(f"asked, it fails: {type(error).__name__}: {' '.join(str(error).split())[:300]}") from error
    wanted = dict.fromkeys(answers, shape) | {"loss": shape[:2], "prediction": (shape[0], shape[1] + 1, shape[2])}
    for name, x in answers.items():
        if x.shape != wanted[name]:
            raise Broken(f"{name} has shape {list(x.shape[1:])} where {list(wanted[name][1:])} is asked, of one environment")
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise Broken(f"{name} is of type {x.dtype}, not floating")
    if mixed is not None and mixed.shape != (shape[0], shape[1] + 1):
        raise Broken(f"mix has shape {list(mixed.shape[1:])} where {[shape[1] + 1]} is asked, of one environment")
    _finite(s, s.ask(s.p, s.given), "on random play")


def compiling_changes_nothing(s: Specimen) -> None:
    """Answers are functions of what they are given: compiled and step by step they agree."""
    _same(s, s.ask(s.p, s.given), _numpy(s.answers(s.p, s.given)), "step by step instead of compiled")


def agents_of_one_type_may_swap_places(s: Specimen) -> None:
    """Agents that nothing tells apart are treated alike: swapping them in the batch, and in parameters that hold one entry per agent,
    swaps their answers. Other parameters that know agents apart leave nothing to compare."""
    perm = s.swap
    if perm is None:
        raise Skipped("no two agents of one type here")
    p, unclear = s.swapped_parameters()
    if unclear:
        raise Skipped(f"its parameters know agents apart: {unclear}")
    after = s.ask(p, swapped(s, s.given))
    moved = {k: x[..., perm] if x.ndim == 3 else x for k, x in s.ask(s.p, s.given).items()}
    _same(s, moved, after, "of agents that swapped places")


def every_parameter_learns(s: Specimen) -> None:
    """No dead parameters: each array of `init` moves in two real updates."""
    before, after = s.trained[0].nets.credit, s.trained[2].nets.credit
    if not jax.tree.leaves(before):
        raise Skipped("it has no parameters")
    pairs = zip(named(before), jax.tree.leaves(after), strict=True)
    leaves_ = [(f"{name} {list(np.shape(x))}", x, y) for (name, x), y in pairs if np.size(x)]
    if wild := [name for name, _, y in leaves_ if not np.isfinite(y).all()]:
        raise Broken(f"after two updates on random play {len(wild)} arrays are not finite, {wild[0]} first")
    if still := [name for name, x, y in leaves_ if np.array_equal(x, y)]:
        raise Broken(f"no gradient reaches {', '.join(still)}: leave it out, or let `loss`, `mix` or `meta` use it")


def shares_add_up_to_the_return(s: Specimen) -> None:
    """Where shares are claimed: over an episode, and all agents, they sum to the team's return."""
    if s.credit.claims != "shares" or not s.algorithm.claims:
        raise Skipped("it claims no shares")
    step, answers = s.trajectories.step, s.ask(s.p, s.given)["contribution"]
    real, episode = np.asarray(s.trajectories.real), np.cumsum(np.asarray(step.first)[:, :-1], 1)
    for b, t in np.argwhere(np.asarray(step.last)[:, 1:]):
        k = episode[b, t]
        here = real[b] & (episode[b] == k)
        paid, shared = float(step.team_reward[b, 1:][here].sum()), float(answers[b][here].sum())
        if not abs(paid - shared) <= 1e-3 * max(1.0, abs(paid)):
            raise Broken(f"environment {b}, episode {k - 1}: shares sum to {shared:.6g}, the team's return is {paid:.6g}")


def the_absent_change_nothing(s: Specimen) -> None:
    """What stands in the steps of an agent that is never there reaches nobody's answers; of shares it is given none."""
    for i in np.unique(np.linspace(0, s.team.n - 1, min(4, s.team.n)).round().astype(int)).tolist():
        zeros, noise = (s.ask(s.p, absent(s, i, padding)) for padding in (0.0, 1.0))
        others = np.arange(s.team.n) != i
        _same(s, zeros, noise, f"when the padding of absent {s.team.agents[i]} changes", agents=others)
        if s.credit.claims == "shares" and "contribution" in zeros and (most := np.abs(zeros["contribution"][..., i]).max()) > 0:
            raise Broken(f"{s.team.agents[i]} is absent and gets a share of {most:.3g}")


def episodes_are_apart(s: Specimen) -> None:
    """Nothing is paid across a reset: what is earned, seen or done in another episode, earlier or later, changes no answer."""
    reset = s.resets
    if reset is None:
        raise Skipped(f"no episode ended within {s.length} steps")
    t, answers = np.arange(s.length + 1), s.ask(s.p, s.given)
    later, earlier = t >= reset[:, None], t < reset[:, None]
    _same(s, answers, s.ask(s.p, apart(s, later)), "when a later episode changes", rows=t < reset[:, None] - 1)
    _same(s, answers, s.ask(s.p, apart(s, earlier)), "when an earlier episode changes", rows=later)


def extreme_rewards_stay_finite(s: Specimen) -> None:
    """Nothing for ever, a million and minus a million a step: no answer and no parameter becomes NaN or infinite."""
    for pay in (0.0, 1e6, -1e6):
        _finite(s, s.ask(s.p, replace(s.given, trajectory=_paying(s.given.trajectory, pay))), f"when every step rewards {pay:g}")
        train = s.update(s.begun, _paying(s.trajectories, pay))
        wild = [name for name, x in named((train.nets, train.opt)) if not np.isfinite(x).all()]
        if wild:
            raise Broken(f"after an update in which every step rewards {pay:g}, {len(wild)} arrays are not finite, {wild[0]} first")


def a_key_makes_one_beginning(s: Specimen) -> None:
    """`init` depends on nothing but the environment's description and its key, and can be compiled."""
    made = [jax.make_jaxpr(lambda key: s.credit.init(s.team, key))(jax.random.key(0)) for _ in range(2)]
    first, second = ((str(m.jaxpr), [np.asarray(c).tolist() for c in m.consts]) for m in made)
    if first != second:
        raise Broken("called twice with one key, `init` makes two different beginnings: draw from the key alone")


def fields_survive_toml(s: Specimen) -> None:
    """Written to a run's config.toml and read again, the method is the same."""
    try:
        text = dump(RunConfig(env="proving:additive", credit=s.credit))
        again = parse(text).credit
    except UserError as error:
        raise Broken(f"its fields cannot be written or read: {error}") from error
    if again != s.credit:
        raise Broken(f"{s.credit} was written, {again} was read")


def resumed_is_never_stopped(s: Specimen) -> None:
    """Two updates are, bit for bit, one update, a checkpoint, and one update."""
    _, once, twice = s.trained
    with tempfile.TemporaryDirectory() as folder:
        kept, _ = load(save(Path(folder), 1, once, {}), once)
    resumed = s.update(kept, s.trajectories)
    one, two = leaves(twice), leaves(resumed)
    differ = [k for k in one if not np.array_equal(one[k].array, two[k].array, equal_nan=one[k].array.dtype.kind == "f")]
    if differ:
        furthest = max(float(np.abs(one[k].array.astype(float) - two[k].array.astype(float)).max()) for k in differ)
        raise Broken(f"{len(differ)} of {len(one)} arrays differ, by up to {furthest:.3g}, {differ[0]} first: something is kept elsewhere")


LAWS: tuple[Callable[[Specimen], None], ...] = (
    answers_have_their_shapes, compiling_changes_nothing, agents_of_one_type_may_swap_places, every_parameter_learns,
    shares_add_up_to_the_return, the_absent_change_nothing, episodes_are_apart, extreme_rewards_stay_finite,
    a_key_makes_one_beginning, fields_survive_toml, resumed_is_never_stopped,
)  # fmt: skip


def check(s: Specimen) -> list[Verdict]:
    """Every law's verdict. A method that cannot be asked is not asked further."""
    return all_judged(LAWS, lambda law: judged(law, s), "it cannot be asked")


# ---- comparing
def _numpy(answers: Any) -> Answers:
    return {k: np.asarray(x) for k, x in answers.items()}


def _paying(trajectory: Any, pay: float) -> Any:
    step, real = trajectory.step, trajectory.real
    rows = np.concatenate([np.zeros_like(real[:, :1]), real], 1)
    paid = lambda x: np.where(rows.reshape(*rows.shape, *(1,) * (x.ndim - 2)), np.full_like(x, pay), np.zeros_like(x))
    return replace(trajectory, step=replace(step, reward=paid(step.reward), team_reward=paid(step.team_reward)))


def _finite(s: Specimen, answers: Answers, when: str) -> None:
    for name, x in answers.items():
        if not np.isfinite(x).all():
            raise Broken(f"{name} is {x[~np.isfinite(x)][0]} {when}, {_place(s, np.argwhere(~np.isfinite(x))[0])}")


def _same(s: Specimen, a: Answers, b: Answers, when: str, rows: Any = None, agents: Any = None) -> None:
    """The same numbers, on these `rows [b t+1]` and of these `agents [n]`, up to rounding."""
    for name, x in a.items():
        y, here = b[name], np.ones(x.shape, bool)
        if rows is not None:
            here &= np.broadcast_to(rows, (len(x), s.length + 1))[:, : x.shape[1]].reshape(*x.shape[:2], *(1,) * (x.ndim - 2))
        if agents is not None and x.ndim == 3:
            here &= agents
        gap = np.where(here, np.abs(x - y), 0.0)
        near = gap <= CLOSE * (np.maximum(np.abs(x), np.abs(y)) + np.abs(np.where(here, x, 0)).mean())
        if not near.all():
            worst = np.unravel_index(np.argmax(np.where(near, -1.0, np.nan_to_num(gap, nan=np.inf))), gap.shape)
            raise Broken(f"{name} is {y[worst]:.6g} and not {x[worst]:.6g} {when}, {_place(s, worst)}")


def _place(s: Specimen, at: Any) -> str:
    b, t, *n = (int(i) for i in at)
    return f"environment {b}, step {t}" + (f", {s.team.agents[n[0]]}" if n else "")
