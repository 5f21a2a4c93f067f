"""How much each hidden unit, and each number of a message, matters: its deviation from its mean over played episodes, times the weights
that read it.

    importance_j = mean |x_j - mean x_j| sum_o |w_jo|
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from marlstone.algorithm import Policy
from marlstone.architectures import Gru
from marlstone.architectures.acting import Actor
from marlstone.comms.contract import INBOX, Channel
from marlstone.core.layers import activate, dense, owner_index
from marlstone.core.trees import map_arrays
from marlstone.core.types import Trajectory
from marlstone.encoders.contract import runs_in_numpy
from marlstone.evaluation.trim.networks import NUMBERS, Silent, following
from marlstone.evaluation.trim.removals import layers_of


def unmeasured(actors: Sequence[Actor]) -> str:
    """Why units cannot be judged, with a remedy; empty where they can."""
    for a in actors:
        if any(not runs_in_numpy(e) for e in a.fuse.encoders.values()):
            return f"group {a.fuse.group.name!r} has an encoder that does not run in NumPy: set numpy = True in its class, if it does"
        if not layers_of(a.body):
            return f"group {a.fuse.group.name!r} has a body whose units do not go one by one: an mlp or a gru with norm = 'none' has such"
    if len({tuple(layers_of(a.body).items()) for a in actors}) > 1:
        return "groups have bodies of different sizes, which one configuration cannot make smaller"
    return ""


def importance(actors: Sequence[Actor], policies: Policy, played: Sequence[Trajectory], channel: Channel) -> tuple[dict[str, Silent], ...]:
    """Per group, by layer: which units may go, the least important first. `played`: whole episodes of each training seed; `channel`: whose
    message numbers are judged as one more layer, the same for all groups."""
    one = lambda s: map_arrays(lambda x: x[s], policies)
    found = [[_one_seed(i, a, one(s), t, channel) for i, a in enumerate(actors)] for s, t in enumerate(played)]
    out = []
    for i in range(len(actors)):
        names = found[0][i]
        out.append({k: [np.stack([seed[i][k][j] for seed in found]) for j in (0, 1)] for k in names})
    if channel.speaks:  # what is sent goes for everybody: importance adds up over groups and parameter sets
        total = sum(x[NUMBERS][0].sum(1, keepdims=True) for x in out)
        for x in out:
            x[NUMBERS][0] = np.broadcast_to(total, x[NUMBERS][0].shape)
    return tuple({k: Silent(np.argsort(score, axis=-1, kind="stable"), mean) for k, (score, mean) in x.items()} for x in out)


def _one_seed(i: int, a: Actor, policy: Policy, t: Trajectory, channel: Channel) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By layer, importance and mean `[sets width]` of one training seed."""
    g, net, moments, owners = a.fuse.group, policy.actor[i], policy.seen.obs[i], owner_index(a.fuse.owners)
    obs = {k: np.asarray(x)[:, :-1] for k, x in t.step.obs[i].items()}
    first = np.asarray(t.step.first)[:, :-1]
    at = sum(x.shape[2] for x in t.action[:i])
    acts = np.asarray(t.acts)[..., at : at + g.count]
    layers = dict(zip(layers_of(a.body), _activations(a, net, a.fuse(net.fuse, obs, moments, None), first, owners), strict=True))
    sets = a.fuse.sets
    out = {}
    for name, x in layers.items():
        reads = [np.abs(following(net, a, name)[0].w)] + ([np.abs(net.core.u)] if name == "recurrent" else [])
        weight = sum(w.sum(-1) for w in reads)
        out[name] = _by_set(x, acts, weight.reshape(sets, -1), a.fuse.owners)
    if channel.speaks:
        said = obs[INBOX][..., : channel.size]
        weight = np.abs(net.fuse.leaves[INBOX]).sum(-1).reshape(sets, -1)[:, : channel.size]
        out[NUMBERS] = _by_set(said, acts, weight, a.fuse.owners)
    return out


def _by_set(x: np.ndarray, acts: np.ndarray, weight: np.ndarray, owners: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Importance and mean of `x [e t n w]`, where agents act, by parameter set."""
    score, mean = [], []
    for k in range(max(owners) + 1):
        mine = [j for j, owner in enumerate(owners) if owner == k]
        rows = x[..., mine, :][acts[..., mine].astype(bool)]
        center = rows.mean(0) if len(rows) else np.zeros(x.shape[-1], np.float32)
        mean.append(center)
        score.append((np.abs(rows - center).mean(0) if len(rows) else center * 0) * weight[k])
    return np.stack(score), np.stack(mean)


def _activations(a: Actor, net: Any, x: np.ndarray, first: np.ndarray, owners: np.ndarray | None) -> list[np.ndarray]:
    """What every layer of units puts out, `[e t n w]` each; `x`: the first layer's output before its activation."""
    body: Any = a.body
    out = [activate(x, body.activation)]
    chain = net.core
    if isinstance(body, Gru):
        h = np.zeros((x.shape[0], x.shape[2], body.hidden), np.float32)
        cores = []
        for t in range(x.shape[1]):
            y, h = body.advance(net.core, x[:, t], first[:, t], h, owners)
            cores.append(y)
        out.append(np.stack(cores, 1))
        chain = net.after
    for p in chain:
        out.append(activate(dense(p, out[-1], owners), body.activation))
    return out
