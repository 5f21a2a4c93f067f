"""Laws that every channel keeps, this package's and yours: `marlstone check-comms`.

A law is a function of a `ChannelCase`, one channel over one team, that returns where it holds, raises `Broken` with the numbers where it
does not, and `Skipped` with the reason where it does not apply. Laws hold over an ideal link and over one that loses, delays and repeats
messages, which are then held in the inbox, whatever link the channel itself has.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from marlstone.architectures.acting import log_prob
from marlstone.comms import LINKS
from marlstone.comms.layout import MESSAGE
from marlstone.comms.plain import channel_from_json, channel_to_json
from marlstone.config import RunConfig, dump, parse
from marlstone.core.errors import UserError
from marlstone.core.records import replace
from marlstone.evaluation.comms_cases import STEPS, ChannelCase, Heard, Talk
from marlstone.evaluation.comms_mailbox import mailbox, reached_by
from marlstone.evaluation.credit.random_play import quick
from marlstone.evaluation.laws import Broken, Skipped, Verdict, all_judged, judged, title
from marlstone.runs.checkpoint import load, save

CLOSE = 1e-4  # relative; programs compiled differently round differently
FEW = 3  # steps that are also run without compiling
SPARE = 1e-5  # relative, of sums of bits in float32


# ---- the laws
def inboxes_have_their_shape(c: ChannelCase) -> None:
    """`hear` gives `[... n heard(n)]`, float32 and finite, for any number of leading axes, none too."""
    for where, channel in c.variants.items():
        width = channel.heard(c.n)
        if type(width) is not int or width < 1:
            raise Broken(f"`heard` is {width!r}: a positive whole number is asked")
        for lead in ((), (2,), (2, 3)):
            shape = (*lead, c.n, width)
            try:
                x = channel.hear(*jax.tree.map(jnp.asarray, c.listening(channel, lead)))
            except (TypeError, ValueError, IndexError, NotImplementedError) as error:
                says = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                raise Broken(f"{where}, of ages {[*lead, c.n, c.n]}, `hear` fails: {says}") from error
            if x.shape != shape or x.dtype != np.float32:
                raise Broken(f"{where} `hear` makes {x.dtype}{list(x.shape)} where float32{list(shape)} is asked")
            if not np.isfinite(x).all():
                raise Broken(f"{where} an inbox is not finite")


def only_what_reached_an_agent_moves_its_inbox(c: ChannelCase) -> None:
    """Whatever the silent, the absent, those out of reach and those whose messages were lost would have said, what others listen by, and
    what an agent itself says: with all of that drawn anew, its inbox is the same to the bit."""
    rng = np.random.default_rng(3)
    for where, channel in c.variants.items():
        talk = c.talk(channel)
        heard, m = c.play(channel, talk), talk.messages
        for i, reached in enumerate(reached_by(heard.age)):
            anew = lambda x: rng.normal(size=x.shape).astype(np.float32) * 3
            content = np.where(reached[..., None], m.content, anew(m.content))
            own = np.where((np.arange(c.n) == i)[:, None], m.own, anew(m.own))
            again = c.play(channel, replace(talk, messages=replace(m, content=content, own=own)))
            if (moved := np.argwhere(heard.inbox[:, i] != again.inbox[:, i])).size:
                t, k = moved[0]
                raise Broken(f"{where}, number {k} of agent {i}'s inbox at step {t} moves with what never reached it")


def what_is_heard_was_chosen_and_counted(c: ChannelCase) -> None:
    """A message is sent only by an agent that chose to speak, to one that is there, and is counted with its bits; the silent and the absent
    cost nothing; and nothing is heard that was not counted."""
    for where, channel in c.variants.items():
        talk = c.talk(channel)
        heard, to = c.play(channel, talk), np.asarray(talk.messages.to)
        sent = heard.sent[1:] > 0
        if (more := np.argwhere(sent & ~to)).size:
            t, i, j = more[0]
            state = "is silent towards it" if talk.present[t, j] and talk.present[t, i] else "or it is absent"
            raise Broken(f"{where}, at step {t} a message goes from agent {j} to agent {i}, though the sender {state}")
        wanted = np.where(sent, talk.messages.bits[:, None, :], 0)
        if (wrong := np.argwhere(heard.bits[1:] != wanted)).size:
            t, i, j = wrong[0]
            raise Broken(
                f"{where}, {heard.bits[t + 1, i, j]:g} bits are counted from {j} to {i} at step {t}, and {wanted[t, i, j]:g} were sent"
            )
        for s, i, j in np.argwhere(heard.age > 0):
            if (t := s - int(heard.age[s, i, j])) < 0 or not sent[t, i, j]:
                raise Broken(f"{where}, agent {i} hears at step {s} what agent {j} did not send it at step {t}")


def the_absent_change_nothing(c: ChannelCase) -> None:
    """An agent that is never there hears nothing and costs nothing, whatever stands in its place: padding changes no inbox, and takes
    nothing of a budget."""
    rng, gone = np.random.default_rng(4), 1
    for where, channel in {**c.variants, **c.budgeted}.items():
        talk = c.talk(channel)
        to, here = np.array(talk.messages.to), np.array(talk.present)
        to[:, gone], to[:, :, gone], here[:, gone] = False, False, False
        talk = replace(talk, messages=replace(talk.messages, to=to), present=here)
        heard, m = c.play(channel, talk), talk.messages
        other = lambda x: np.concatenate([x[:, :gone], rng.normal(size=x[:, :1].shape).astype(np.float32) * 100, x[:, gone + 1 :]], 1)
        again = c.play(channel, replace(talk, messages=replace(m, content=other(m.content), own=other(m.own), bits=np.abs(other(m.bits)))))
        if heard.inbox[:, gone].any():
            raise Broken(f"{where}, agent {gone} is never there, and its inbox is not 0")
        for name in ("inbox", "age", "sent", "bits", "left"):
            if (moved := np.argwhere(getattr(heard, name) != getattr(again, name))).size:
                raise Broken(f"{where}, {name}{moved[0].tolist()} moves with what stands in the place of agent {gone}, who is never there")


def relabeled_agents_hear_the_same(c: ChannelCase) -> None:
    """Messages, addresses and links in another order of agents: inboxes in that order, and otherwise the same."""
    order = np.roll(np.arange(c.n), 1)
    for where, channel in c.variants.items():
        talk = c.talk(channel)
        m = talk.messages
        both = lambda x: x[..., order, :][..., order]
        moved = replace(m, content=m.content[:, order], to=both(m.to), bits=m.bits[:, order], own=m.own[:, order])
        heard = c.play(channel, talk)
        again = c.play(channel, Talk(moved, talk.present[:, order], both(talk.u)))
        _same(heard.inbox[:, order], again.inbox, f"{where}, with agents in another order")
        _same(both(heard.sent), again.sent, f"{where}, with agents in another order", "message")


def ages_are_true(c: ChannelCase) -> None:
    """Nothing is heard before the next step. Messages are heard when a mailbox in plain Python says so; what an inbox holds is what was
    said as many steps before as its age, and by what its owner put out one step before."""
    for where, channel in c.variants.items():
        talk = c.talk(channel)
        heard, m, h = c.play(channel, talk), talk.messages, channel.history
        if heard.age[0].any():
            raise Broken(f"{where}, something is heard at an episode's first step")
        wanted = mailbox(channel, heard.sent[1:] > 0, talk.u) * talk.present[:, :, None]
        if (wrong := np.argwhere(heard.age != wanted)).size:
            s, i, j = wrong[0]
            raise Broken(
                f"{where}, agent {i} hears agent {j} at step {s} at age {heard.age[s, i, j]:g}, and it should be {wanted[s, i, j]}"
            )
        later = lambda x, k: np.concatenate([np.zeros((min(k, STEPS + 1), *x.shape[1:]), x.dtype), x])[: STEPS + 1]
        said = tuple(later(m.content, a + 1) for a in range(h))
        inbox = channel.hear(*jax.tree.map(jnp.asarray, (later(m.own, 1), said, heard.age.astype(np.int32))))
        inbox = np.where(talk.present[..., None], inbox, 0)
        _same(inbox, heard.inbox[..., : inbox.shape[-1]], f"{where}, as it was recorded, and not as `hear` makes it of what was said")


def compiling_changes_nothing(c: ChannelCase) -> None:
    """Step by step, compiled, and once more: the same inboxes, messages and budgets."""
    for where, channel in {"over a lossy, delaying link": c.lossy, **c.budgeted}.items():
        talk = c.talk(channel)
        _, plain = c.steps(channel, jax.tree.map(jnp.asarray, _first(talk, FEW)))
        compiled = jax.tree.map(lambda x: x[: FEW + 1], c.play(channel, talk))
        _same_heard(_stacked(plain), compiled, f"{where}, compiled instead of step by step")


def many_at_once_are_one_by_one(c: ChannelCase) -> None:
    """Several environments stepped together are each as it is alone, and `hear` looks at each entry of leading axes by itself."""
    channel, where = c.lossy, "over a lossy, delaying link"
    talks = [c.talk(channel, seed) for seed in range(3)]
    together = quick(jax.vmap(lambda talk: c.whole(channel, talk)))(jax.tree.map(lambda *x: np.stack(x), *talks))
    alone = jax.tree.map(lambda *x: np.stack(x), *(c.play(channel, talk) for talk in talks))
    _same_heard(alone, jax.tree.map(np.asarray, together), f"{where}, in several environments together instead of one")
    given = c.listening(channel, (2, 3))
    whole = np.asarray(channel.hear(*jax.tree.map(jnp.asarray, given)))
    each = [[channel.hear(*jax.tree.map(lambda x: jnp.asarray(x[b, t]), given)) for t in range(3)] for b in range(2)]  # noqa: B023
    _same(np.asarray(each), whole, f"{where}, in a batch instead of alone")


def numpy_and_jax_agree(c: ChannelCase) -> None:
    """Given NumPy's arrays the channel makes NumPy's arrays, under the same uniform numbers the same: policies act without JAX."""
    for where, channel in {**c.variants, **c.budgeted}.items():
        talk = c.talk(channel)
        try:
            _, plain = c.steps(channel, talk)
        except (TypeError, AttributeError) as error:
            says = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise Broken(f"{where} it fails in NumPy, {says}: ask arrays for their namespace, x.__array_namespace__()") from error
        arrays = channel.hear(*c.listening(channel, ()))
        if not isinstance(arrays, np.ndarray):
            kind = type(arrays).__name__
            raise Broken(f"given NumPy's arrays, `hear` makes a {kind}: ask arrays for their namespace, x.__array_namespace__()")
        _same_heard(c.play(channel, talk), _stacked(plain), f"{where}, in NumPy instead of JAX")


def a_checkpoint_resumes_exactly(c: ChannelCase) -> None:
    """The channel's state, saved as arrays in the middle of an episode and loaded, goes on to the same numbers."""
    half = STEPS // 2
    for where, channel in c.budgeted.items():
        talk = c.talk(channel)
        whole = c.play(channel, talk)
        go_on = quick(lambda now, talk: c.scanned(channel, now, talk))  # noqa: B023
        now, _ = c.begin(channel, jnp.asarray(talk.present[0]), jnp.asarray(talk.u[0]))
        now, _ = go_on(now, _first(talk, half))
        with tempfile.TemporaryDirectory() as folder:
            now, _ = load(save(Path(folder), half, jax.device_get(now), {}), now)
        rest = Talk(jax.tree.map(lambda x: x[half:], talk.messages), talk.present[half:], talk.u[half:])
        _, heard = go_on(now, rest)
        _same_heard(jax.tree.map(lambda x: x[half + 1 :], whole), heard, f"{where}, after half of it was resumed")


def budgets_are_never_exceeded(c: ChannelCase) -> None:
    """Enforced, a budget of b bits a step allows at most t b bits in an episode's first t steps, of the team, or of each agent; what is
    refused is counted, nothing else is missing, and nothing is refused that there was enough for."""
    for where, channel in c.budgeted.items():
        talk, (level,) = c.talk(channel), channel.budget_bits
        heard = c.play(channel, talk)
        free = c.play(c.lossy, talk)
        if not free.bits.any():
            raise Skipped("nothing that costs a bit was said")
        cost = heard.bits[1:].sum(1) if channel.per_agent else heard.bits[1:].sum((1, 2))[:, None]
        spent, most = np.cumsum(cost.astype(np.float64), 0), level * (np.arange(STEPS)[:, None] + 1)
        if (over := np.argwhere(spent > most * (1 + SPARE))).size:
            t, j = over[0]
            who = f"agent {j}" if channel.per_agent else "the team"
            raise Broken(f"{where} of {level:g} bits a step, {who} has sent {spent[t, j]:g} bits after {t + 1} steps")
        missing = ((free.sent > 0) & (heard.sent == 0)).sum((1, 2))
        if (heard.sent > free.sent).any() or (wrong := np.flatnonzero(missing != heard.refused)).size:
            t = int(np.argwhere(heard.sent > free.sent)[0][0]) if (heard.sent > free.sent).any() else int(wrong[0])
            raise Broken(f"{where}, {missing[t]} messages are missing at step {t - 1}, and {heard.refused[t]} were refused")
        asked = free.bits[1:].sum(1) if channel.per_agent else free.bits[1:].sum((1, 2))[:, None]
        enough = asked.astype(np.float64) <= (most - (spent - cost)) * (1 - SPARE) - SPARE
        short = (asked > cost) & enough
        if short.any():
            t = int(np.argwhere(short)[0][0])
            raise Broken(f"{where}, something was refused at step {t}, though {asked[t].max():g} bits were asked and there were enough")
        if not heard.refused.any():
            raise Broken(f"{where} of half of what is said, {level:g} bits a step, nothing is refused")


def learning_recomputes_what_acting_recorded(c: ChannelCase) -> None:
    """Log-probabilities of a rollout over a lossy link, computed anew from what senders would say, are the recorded ones."""
    it, (train, trajectory) = c.algorithm, c.learned_from
    views = quick(lambda t, x: it.views(t.nets, t.seen, t.targets, x, frozenset({"logp"})))(train, trajectory)
    acts = np.asarray(trajectory.acts)
    gap = np.where(acts, np.abs(np.asarray(views.logp) - np.asarray(trajectory.logp)), 0)
    if not (gap <= 1e-3).all():
        b, t, j = np.unravel_index(np.argmax(np.nan_to_num(gap, nan=np.inf)), gap.shape)
        now, was = float(views.logp[b, t, j]), float(trajectory.logp[b, t, j])
        raise Broken(f"the log-probability of agent {j}'s action at step {t} is {now:.5f} when learning, and was {was:.5f}")


def losses_of_receivers_reach_senders(c: ChannelCase) -> None:
    """What an agent put into a message has a gradient of the losses of who heard it, finite and not 0; what nobody heard has none."""
    it, (train, trajectory) = c.algorithm, c.learned_from
    spec, step, speech = it.spec, trajectory.step, it.speech
    assert speech is not None
    weigh = np.random.default_rng(5).normal(size=trajectory.logp.shape).astype(np.float32)
    now = lambda xs: tuple(None if x is None else x[:, :-1] for x in xs)

    def loss(heads: Any) -> Any:
        told = speech.heard(heads, trajectory)
        after, _, _ = it.architecture.policy(spec, train.nets.actor, train.seen, told, trajectory.memory)
        return (log_prob(spec, now(after), now(step.legal), trajectory.action) * weigh).sum()

    heads, _, _ = it.architecture.policy(spec, train.nets.actor, train.seen, step, trajectory.memory)
    grads = quick(jax.grad(loss))(heads)
    spaces: list[Any] = [g.space for g in spec.team.groups]
    mine = [np.asarray(s.by_part(g)[s.names.index(MESSAGE)]) for s, g in zip(spaces, grads, strict=False)]
    if not all(np.isfinite(g).all() for g in mine):
        raise Broken("a gradient of what was said is not finite")
    reaches = np.concatenate([g.any(-1) for g in mine], axis=2)[:, :-1]  # [b t n]
    age = np.concatenate([np.asarray(x[LINKS])[..., : c.n] for x in step.obs[: len(spec.team.groups)]], axis=2)[:, : weigh.shape[1]]
    known = (age.max(-1, keepdims=True) <= np.arange(age.shape[1])[:, None, None]) & (age > 0)
    heard = np.zeros_like(reaches)
    for b, s, i, j in np.argwhere(known):
        heard[b, s - int(age[b, s, i, j]), j] = True
    if (leak := np.argwhere(reaches & ~heard)).size:
        _, t, j = leak[0]
        raise Broken(f"nobody heard what agent {j} said at step {t}, and it has a gradient")
    if not heard.any():
        raise Skipped("nothing that was said in the rollout was heard")
    if not (reaches & heard).any():
        raise Broken(f"{heard.sum()} messages were heard, and no gradient reaches what any of them said: let `hear` be differentiable")


def fields_survive_toml(c: ChannelCase) -> None:
    """Written to a run's config.toml, or sent to a worker process, and read again, the channel is the same."""
    try:
        again = parse(dump(replace(RunConfig(env="any"), comms=c.channel))).comms
        sent = channel_from_json(channel_to_json(c.channel))
    except UserError as error:
        raise Broken(f"its fields cannot be written or read: {error}") from error
    for found in (again, sent):
        if found != c.channel:
            raise Broken(f"{c.channel} was written, {found} was read")


LAWS: tuple[Callable[[ChannelCase], None], ...] = (
    inboxes_have_their_shape, only_what_reached_an_agent_moves_its_inbox, what_is_heard_was_chosen_and_counted, the_absent_change_nothing,
    relabeled_agents_hear_the_same, ages_are_true, compiling_changes_nothing, many_at_once_are_one_by_one, numpy_and_jax_agree,
    a_checkpoint_resumes_exactly, budgets_are_never_exceeded, learning_recomputes_what_acting_recorded, losses_of_receivers_reach_senders,
    fields_survive_toml,
)  # fmt: skip


def check(case: ChannelCase) -> list[Verdict]:
    """Every law's verdict. A channel whose inboxes are not as asked is not asked further; of one over which nobody speaks nothing is."""
    if not case.channel.speaks:
        return [Verdict(title(law), None, "nobody speaks") for law in LAWS]
    return all_judged(LAWS, lambda law: judged(law, case), "its inboxes are not as asked")


# ---- comparing
def _first(talk: Talk, steps: int) -> Talk:
    return Talk(jax.tree.map(lambda x: x[:steps], talk.messages), talk.present[: steps + 1], talk.u[: steps + 1])


def _stacked(heard: list[Heard]) -> Heard:
    return jax.tree.map(lambda *x: np.stack([np.asarray(y) for y in x]), *heard)


def _same_heard(a: Heard, b: Heard, when: str) -> None:
    for name, what in (
        ("inbox", "inbox"),
        ("age", "age"),
        ("sent", "message"),
        ("bits", "bits"),
        ("refused", "refusals"),
        ("left", "budget"),
    ):
        _same(getattr(a, name), getattr(b, name), when, what)


def _same(a: np.ndarray, b: np.ndarray, when: str, what: str = "inbox") -> None:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    near = np.isclose(a, b, rtol=CLOSE, atol=CLOSE)
    if not near.all():
        at = np.argwhere(~near)[0]
        raise Broken(f"{what} {at.tolist()} is {b[tuple(at)]:.6g} and not {a[tuple(at)]:.6g} {when}")
