"""Policies written down, not trained: a scout that says what it sees, a worker that names what it hears, and much that is of no use."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from marlstone.architectures import Decentralized, Gru, Mlp
from marlstone.comms import Broadcast
from marlstone.config import RunConfig, load
from marlstone.config.paths import files_of, recorded
from marlstone.config.schema import Evaluation, Rollout
from marlstone.core.records import replace
from marlstone.runs.checkpoint import Checkpoint, save
from marlstone.runs.directory import RunDirectory
from marlstone.training.loop import runtime_of

SYMBOLS, IDLE = 4, 3  # symbols, and units that nothing reads


def configured(seeds: int = 2, gru: bool = False, **comms: Any) -> RunConfig:
    """`proving:signal`, whose agents broadcast six numbers of which four are of use."""
    words = {"env": "proving:signal", "seed": "0", "seeds": str(seeds), "learner.minibatches": "2", "acting": "mode"}
    talk = Broadcast(**{"size": SYMBOLS + 2, "gate": False, **comms})
    body = Gru(2 * SYMBOLS + IDLE, 5, ()) if gru else Mlp((2 * SYMBOLS + IDLE, 2 * SYMBOLS + IDLE))
    architecture = Decentralized(body, agent_ids=False)
    more = {"rollout": Rollout(4, 8, 1), "evaluate": Evaluation(8, 0), "steps": 64, "comms": talk, "architecture": architecture}
    return replace(load(None, words), **more)


def planted(config: RunConfig) -> Any:
    """The policies of all seeds: units 0-3 carry the symbol, 4-7 what was heard; the rest is random and read by nothing."""
    runtime = runtime_of(config)
    policies = jax.tree.map(np.array, jax.device_get(runtime.placement.trim(runtime.start()).train.policy))
    (net,), (g,) = policies.actor, runtime.algorithm.spec.groups
    runtime.close()
    leaves, eye = {k: np.zeros_like(w) for k, w in net.fuse.leaves.items()}, np.eye(SYMBOLS)
    leaves["symbol"][:, :, :SYMBOLS] = eye
    leaves["inbox"][:, :SYMBOLS, SYMBOLS : 2 * SYMBOLS] = eye
    leaves["role"][...] = 0
    leaves["role"][:, :, 2 * SYMBOLS :] = np.random.default_rng(0).normal(size=leaves["role"][:, :, 2 * SYMBOLS :].shape)
    hidden, head = np.zeros_like(net.core[0].w), np.zeros_like(net.head.w)
    hidden[:] = np.eye(hidden.shape[-1])
    speaks = g.space.parts[0].head + (2 if config.comms.gate else 0)
    head[:, SYMBOLS : 2 * SYMBOLS, 1 : 1 + SYMBOLS] = 9 * eye
    head[:, :SYMBOLS, speaks : speaks + SYMBOLS] = 3 * eye
    fuse = replace(net.fuse, leaves=leaves, b=np.zeros_like(net.fuse.b))
    layer = replace(net.core[0], w=hidden, b=np.zeros_like(net.core[0].b))
    net = replace(net, fuse=fuse, core=(layer,), head=replace(net.head, w=head, b=np.zeros_like(net.head.b)))
    return replace(policies, actor=(net,))


def as_run(config: RunConfig, policies: Any, path: Path) -> tuple[RunDirectory, Checkpoint]:
    """A finished run of these policies, with what acts alone."""
    run = RunDirectory.create(path, recorded(config, path), files_of(config, path))
    kept = save(run.policies, 64, policies, {}, keep=None)
    run.finish({"run": str(path), "acting": "mode", "env": config.env})
    return run, Checkpoint(kept, 64, {})
