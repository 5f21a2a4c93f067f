"""How exploitable is what self-play learns? Rock, paper, scissors with unequal payoffs, whose value and best responses are known exactly.

    python benchmarks/self_play.py [--seeds 10] [--steps 200000]

Schemes: against the policy as it stands (`current`), against the latest snapshot alone (`latest`), against a league drawn uniformly, and
by PFSP (`prioritized`), all with an entropy bonus of 0.2, tuned on seeds 0 to 3; and `current` without one, which runs into a deterministic
policy and round in circles. Exploitability per episode, at best 0: of the last policy, and of the average of the policies that the run
kept (action probabilities averaged over `policies/`, from a fifth of the budget on); random play's is printed beside. Written to
results/self_play.json.
"""

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from record import stamp, write

from marlstone.api.training import new_run, trained
from marlstone.config import RunConfig
from marlstone.config.schema import Evaluation, Rollout, SelfPlay
from marlstone.core.acting import Acting
from marlstone.envs.make import make
from marlstone.envs.proving.rps import Rps
from marlstone.learners import PolicyGradient
from marlstone.policy.deployed import observed
from marlstone.rollout.placement import prepare
from marlstone.runs.policies import kept, read_policies
from marlstone.stats.intervals import interval
from marlstone.training.loop import runtime_of

EVERY = 2_048
ENTROPY = 0.2
SCHEMES = {
    "current": (SelfPlay("blue", EVERY, 1, "uniform", 1.0), ENTROPY),
    "latest": (SelfPlay("blue", EVERY, 1, "latest", 0.0), ENTROPY),
    "uniform": (SelfPlay("blue", EVERY, 64, "uniform", 0.2), ENTROPY),
    "prioritized": (SelfPlay("blue", EVERY, 64, "prioritized", 0.2), ENTROPY),
    "current, no entropy bonus": (SelfPlay("blue", EVERY, 1, "uniform", 1.0), 0.0),
}
BOUND = 0.2  # of exploitability, that last and average policies are to fall below; the least that pure play has is 1


def config(scheme: str, steps: int, seeds: int, out: str, env: str) -> RunConfig:
    """PPO with its defaults but for the entropy bonus, and learning rates that do not fall: who stops learning cannot answer."""
    rules, entropy = SCHEMES[scheme]
    return RunConfig(
        env,
        learner=PolicyGradient(entropy=entropy, anneal=False),
        rollout=Rollout(32, 16),
        evaluate=Evaluation(32, logged=0),
        acting=Acting("sample"),
        self_play=rules,
        steps=steps,
        seeds=seeds,
        checkpoint_every=max(512, steps // 32 // 512 * 512),
        out=out,
    )


def tables(asked: RunConfig, run: Any, game: Rps) -> np.ndarray:
    """`[policies seeds s k]`: red's action probabilities in every situation, of all policies that the run kept."""
    runtime = runtime_of(asked)
    it, seen = runtime.algorithm, jnp.asarray(game.situations[:, :1])
    s = len(seen)
    like = jax.eval_shape(lambda key: it.init(key).policy, jax.random.key(0))
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((asked.seeds, *x.shape), x.dtype), like)
    step = jax.vmap(lambda x: observed(({"before": x},), (None,), jnp.ones(1, bool), jnp.bool_(True)))(seen)

    @jax.jit
    @jax.vmap
    def probabilities(policy: Any) -> Any:
        return jax.nn.softmax(it.heads(policy, step, it.memory(s))[0][0][:, 0])

    return np.stack([np.asarray(probabilities(read_policies(p.path, like, asked.seeds))) for p in kept(run)])


def measured(scheme: str, flags: argparse.Namespace) -> dict[str, Any]:
    """Exploitability of each seed's last and average policy, and over training."""
    home, game = Path(tempfile.mkdtemp()), make(flags.env)
    asked = config(scheme, flags.steps, flags.seeds, str(home / "run"), flags.env)
    run = new_run(asked)
    trained(asked, run, say=lambda text: None)
    played = tables(asked, run, game)
    shutil.rmtree(home)
    late = played[len(played) // 5 :]
    worst = lambda table: [game.exploitability(t, "red") for t in table]
    last, average = worst(played[-1]), worst(late.mean(0))
    told = {"last": last, "average": average, "over_training": [worst(t) for t in played]}
    for name, values in (("last", last), ("average", average)):
        center, ci = interval([[v] for v in values])
        told |= {f"{name}_iqm": center, f"{name}_ci95": list(ci), f"{name}_worst": max(values)}
    return told


def main() -> int:
    """Measure every scheme, print and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--env", default="proving:rps")
    parser.add_argument("--no-record", action="store_true")
    flags = parser.parse_args()
    prepare()
    game = make(flags.env)
    random = game.exploitability(np.full((len(game.situations), game.k), 1 / game.k), "red")
    record: dict[str, Any] = {"env": flags.env, "seeds": flags.seeds, "steps": flags.steps, "bound": BOUND, "random": random, "schemes": {}}
    print(f"exploitability in {flags.env}, {flags.seeds} seeds of {flags.steps:,} steps; random play: {random:.3f}; bound: {BOUND}")
    for scheme in SCHEMES:
        told = record["schemes"][scheme] = measured(scheme, flags)
        parts = [
            f"{k} {told[f'{k}_iqm']:.3f} {[round(x, 3) for x in told[f'{k}_ci95']]} worst {told[f'{k}_worst']:.3f}"
            for k in ("last", "average")
        ]
        print(f"{scheme:<26} {'   '.join(parts)}", flush=True)
    if not flags.no_record:
        print(write("self_play", {**stamp(), **record}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
