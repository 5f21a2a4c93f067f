"""Laws that every learner keeps, this package's and yours: `marlstone check-learner`.

A law is a function of a `LearnerCase` that returns where it holds, raises `Broken` with the numbers where it does not, and `Skipped` with
the reason where it does not apply.
"""

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.algorithm import Algorithm, Nets
from marlstone.config import RunConfig, dump, parse
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.credit import Credit
from marlstone.credit.contract import QUESTIONS
from marlstone.evaluation.laws import Broken, Skipped, Verdict, all_judged, judged
from marlstone.evaluation.learner.bandit import CHANCE, LR, UPDATES, learned
from marlstone.evaluation.learner.law_cases import (
    LearnerCase,
    with_agent_absent,
    with_agent_changed,
    with_final_observations_changed,
    with_reset_steps_changed,
    with_rewards,
)  # fmt: skip
from marlstone.runs.checkpoint import load, save
from marlstone.runs.leaves import leaves, named

Array = Any
GAINED = 0.2  # of the reward of 1, over chance, that is learned of a bandit at least


def an_update_can_be_made(case: LearnerCase) -> None:
    """An update changes no shape and no type of what learning carries, and every figure it records is one number."""
    train = case.begun()
    update = lambda t, c: case.algorithm("all").update(t, c, jnp.float32(0.25), jax.random.key(7))
    try:
        after, metrics = jax.eval_shape(update, train, case.trajectories)
    except (TypeError, ValueError, AttributeError, NotImplementedError) as error:
        raise Broken(f"an update fails: {type(error).__name__}: {' '.join(str(error).split())[:300]}") from error
    like = lambda tree: [(name, x.shape, x.dtype) for name, x in named(tree)]
    before, later = like(jax.eval_shape(lambda: train)), like(after)
    if before != later:
        changed = next(((a, b) for a, b in zip(before, later, strict=False) if a != b), (before[-1], later[-1]))
        raise Broken(f"an update turns {changed[0][0]} from {changed[0][1:]} into {changed[1]}: training could not go on")
    for name, x in metrics.items():
        if x.shape != ():
            raise Broken(f"the figure {name!r} has shape {list(x.shape)}: record one number")


def updates_stay_finite(case: LearnerCase) -> None:
    """On random play, and where every step earns nothing, a million or minus a million, no number becomes NaN or infinite."""
    for reward in (None, 0.0, 1e6, -1e6):
        batch = case.trajectories if reward is None else with_rewards(case.trajectories, reward)
        train, metrics = case.update(case.begun(version=0), batch)
        when = "on random play" if reward is None else f"where every step earns {reward:g}"
        if wild := [name for name, x in named((train.nets, train.opt)) if not np.isfinite(x).all()]:
            raise Broken(f"after an update {when} {len(wild)} arrays are not finite, {wild[0]} first")
        if loose := [name for name, x in metrics.items() if not np.isfinite(x).all()]:
            raise Broken(f"after an update {when} the figure {loose[0]!r} is {metrics[loose[0]]}")


def reset_steps_teach_nothing(case: LearnerCase) -> None:
    """Actions that a reset ignored, their log-probs and the rewards beside them change no parameter, bit for bit."""
    changed = with_reset_steps_changed(case.trajectories)
    if np.array_equal(changed.logp, case.trajectories.logp):
        raise Skipped(f"no episode ended within {case.length} steps")
    _unmoved(case.updated(case.trajectories, 2).nets, case.updated(changed, 2).nets, "when ignored actions and rewards of resets change")


def the_absent_teach_nothing(case: LearnerCase) -> None:
    """What stands in the place of an agent that is never there changes no parameter, bit for bit."""
    for i in dict.fromkeys((0, case.spec.n - 1)):
        zeros, other = (case.updated(with_agent_absent(case.spec, case.trajectories, i, changed), 2) for changed in (False, True))
        _unmoved(zeros.nets, other.nets, f"when what stands in place of absent {case.spec.agents[i]} changes")


def agents_who_share_nothing_touch_nothing(case: LearnerCase) -> None:
    """Where no parameters are shared, what one agent sees, does and earns changes no other's, bit for bit; and it changes its own."""
    if case.spec.n < 2:
        raise Skipped("there is one agent")
    if case.config.architecture.central:
        raise Skipped("critics see the global state, and so the data of all agents")
    if getattr(case.learner.replay, "priority", 0):
        raise Skipped("all agents' errors decide what is drawn from the replay")
    it = case.algorithm("none")
    first, second = (
        case.updated(batch, 2, "none", version=0).nets for batch in (case.trajectories, with_agent_changed(case.spec, case.trajectories, 0))
    )
    for n, (a, b) in enumerate(zip(_of_agents(it, first), _of_agents(it, second), strict=True)):
        if n:
            _unmoved(a, b, f"of {case.spec.agents[n]}, when the data of {case.spec.agents[0]} change")
        elif all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)):
            raise Broken(f"{case.spec.agents[0]} sees, does and earns something else, and learns the same")


def every_parameter_of_the_actor_learns(case: LearnerCase) -> None:
    """A gradient reaches each array of the actors' networks within two updates."""
    before, after = case.begun(version=0).nets.actor, case.updated(case.trajectories, 2, version=0).nets.actor
    pairs = zip(named(before), jax.tree.leaves(after), strict=True)
    if still := [f"{name} {list(np.shape(x))}" for (name, x), y in pairs if np.size(x) and np.array_equal(x, y)]:
        raise Broken(f"no gradient reaches {', '.join(still[:4])}: let `loss` use the policy (views.logp) or its action values")


def only_truncated_episodes_are_bootstrapped(case: LearnerCase) -> None:
    """The final observation of an episode changes nothing where the episode terminated; where it was truncated its value is used."""
    step = case.trajectories.step
    ends, cut = np.asarray(step.last)[:, :-1], np.asarray(step.team_discount)[:, :-1] > 0
    if not (ends & ~cut).any() or not (ends & cut).any():
        raise Skipped(f"too few episodes ended within {case.length} steps")
    plain = case.updated(case.trajectories).nets
    terminated, truncated = (case.updated(with_final_observations_changed(case.trajectories, cut)).nets for cut in (False, True))
    _unmoved(plain, terminated, "when the final observation of a terminated episode changes: it bootstraps from what never comes")
    if not case.learner.needs & {"value", "q_chosen", "q_best"}:
        raise Skipped("terminations are right; it predicts no values that a truncation could be bootstrapped from")
    if all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(plain), jax.tree.leaves(truncated), strict=True)):
        raise Broken("nothing changes with the final observation of a truncated episode: its return goes on, so bootstrap from its value")


def declared_queries_are_asked(case: LearnerCase) -> None:
    """Each of `queries` is really asked of the credit method: what a method answers to others is refused, and must not be ignored."""
    if unknown := sorted(case.learner.queries - set(QUESTIONS)):
        raise Broken(f"queries names {unknown[0]!r}: choose among {', '.join(QUESTIONS)}")
    asked: set[str] = set()
    it = replace(case.algorithm("all"), credit=_listening(case.learner.queries, asked))
    train, key = jax.eval_shape(it.init, jax.random.key(0), case.trajectories), jax.random.key(7)
    jax.eval_shape(lambda t, c: it.update(t, c, jnp.float32(0.25), key), train, case.trajectories)
    if unheard := sorted(case.learner.queries - asked):
        raise Broken(f"queries names {unheard[0]!r}, which an update never asks: leave it out, or ask batch.credit for it")


def fields_survive_toml(case: LearnerCase) -> None:
    """Written to a run's config.toml and read again, the learner is the same."""
    try:
        again = parse(dump(RunConfig(env="any", learner=case.learner))).learner
    except UserError as error:
        raise Broken(f"its fields cannot be written or read: {error}") from error
    if again != case.learner:
        raise Broken(f"{case.learner} was written, {again} was read")


def resumed_is_never_stopped(case: LearnerCase) -> None:
    """Two updates are, bit for bit, one update, a checkpoint, and one update."""
    once, _ = case.update(case.begun(), case.trajectories)
    twice, _ = case.update(once, case.trajectories)
    with tempfile.TemporaryDirectory() as folder:
        kept, _ = load(save(Path(folder), 1, once, {}), once)
    resumed, _ = case.update(kept, case.trajectories)
    one, two = leaves(twice), leaves(resumed)
    differ = [k for k in one if not np.array_equal(one[k].array, two[k].array, equal_nan=one[k].array.dtype.kind == "f")]
    if differ:
        raise Broken(f"{len(differ)} of {len(one)} arrays differ, {differ[0]} first: something is kept elsewhere")


def the_better_action_is_learned(case: LearnerCase) -> None:
    """Of a bandit, in which one of three actions earns 1: after 60 updates policies earn clearly more than chance."""
    fields = {f.name for f in dataclasses.fields(case.learner)}  # type: ignore[arg-type]
    learner = replace(case.learner, lr=max(LR, case.learner.lr)) if "lr" in fields else case.learner  # type: ignore[type-var]
    before, after = learned(learner)
    if not after >= CHANCE + GAINED:
        raise Broken(f"{UPDATES} updates on a bandit: {before:.2f} of 1 was earned before, {after:.2f} after; chance earns {CHANCE:.2f}")


LAWS: tuple[Callable[[LearnerCase], None], ...] = (
    an_update_can_be_made, updates_stay_finite, reset_steps_teach_nothing, the_absent_teach_nothing,
    agents_who_share_nothing_touch_nothing, every_parameter_of_the_actor_learns, only_truncated_episodes_are_bootstrapped,
    declared_queries_are_asked, fields_survive_toml, resumed_is_never_stopped, the_better_action_is_learned,
)  # fmt: skip


def check(case: LearnerCase) -> list[Verdict]:
    """Every law's verdict. A learner that can make no update is checked no further."""
    return all_judged(LAWS, lambda law: judged(law, case), "it can make no update")


def _unmoved(a: Any, b: Any, when: str) -> None:
    """Raises `Broken` for the first parameter that is not the same, bit for bit."""
    pairs = [(name, np.asarray(x), np.asarray(y)) for (name, x), (_, y) in zip(named(a), named(b), strict=True)]
    if moved := [(name, x, y) for name, x, y in pairs if not np.array_equal(x, y, equal_nan=x.dtype.kind == "f")]:
        name, x, y = moved[0]
        by = float(np.abs(x.astype(float) - y.astype(float)).max())
        raise Broken(f"{len(moved)} of {len(pairs)} parameter arrays change, by up to {by:.3g}, {name} first, {when}")


def _of_agents(it: Algorithm, nets: Nets) -> list[Any]:
    """Per agent: the parameters of actors and critics that are its own."""
    out = []
    for g, (group, k) in enumerate(zip(it.spec.groups, it.sets.sizes, strict=True)):
        for owner in it.architecture.owners(group):
            pick = (lambda x, o=owner: np.asarray(x)[o]) if k > 1 else np.asarray
            out.append(jax.tree.map(pick, (nets.actor[g], nets.critic[g] if nets.critic else None)))
    return out


def _listening(queries: frozenset[str], asked: set[str]) -> Credit:
    """A credit method that answers these questions neutrally, and notes which are put to it."""

    @dataclasses.dataclass(frozen=True)
    class Listening(Credit):
        """Answers what the learner declares to ask."""

        def answers(self) -> frozenset[str]:
            return queries

        def reward(self, p: Any, views: Any, trajectory: Any) -> tuple[Array, Array]:
            asked.add("reward")
            return super().reward(p, views, trajectory)

        def mix(self, p: Any, chosen: Array, best: Array, state: Array) -> Array:
            asked.add("mix")
            return chosen.sum(-1)

        def advantage(self, p: Any, views: Any, trajectory: Any, td: Array) -> Array:
            asked.add("advantage")
            return td

        def loss(self, p: Any, views: Any, trajectory: Any) -> Array:
            asked.add("loss")
            return super().loss(p, views, trajectory)

        def meta(self, p: Any, views: Any, trajectory: Any, ahead: Any) -> Array:
            asked.add("meta")
            return super().meta(p, views, trajectory, ahead)

        def contribution(self, p: Any, views: Any, trajectory: Any) -> Array | None:
            asked.add("contribution")
            return None

    return Listening()
