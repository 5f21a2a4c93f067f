"""What random play returns in every world of `marlstone.envs.worlds`, and, with `--train`, what a team trained with the defaults does.

    python benchmarks/worlds.py                                    random play, 64 episodes each
    python benchmarks/worlds.py --only smax hanabi --episodes 256  worlds with one of these words in their names
    python benchmarks/worlds.py --only rware --train 2e6           also train 3 seeds for 2e6 steps each

Results go to `results/worlds.json`, one entry a world; worlds that are not measured keep theirs. Random play takes legal actions, each
equally likely. `benchmarks/render.py` makes the table of `docs/environments.md` from it.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from record import RESULTS, stamp, write

import marlstone as ms
from marlstone.core.compile_options import FAST_COMPILE, supported
from marlstone.envs.make import UnknownEnvironment, is_jax, make
from marlstone.envs.vectorized import Vectorized
from marlstone.envs.worlds import WORLDS
from marlstone.evaluation.check_env import check_env

LONGEST = 2000  # steps of an episode whose horizon is not declared
HOST_STEPS = 2000


def compiled_play(name: str, episodes: int) -> dict[str, Any]:
    """Whole first episodes of so many copies of an environment written in JAX."""
    env: Any = make(name)
    many, spec = Vectorized(env, episodes, resets=False), env.spec

    def act(row: Any, key: Any) -> tuple[Any, ...]:
        keys = jax.random.split(key, len(spec.groups))
        heads = [jnp.zeros((episodes, g.count, g.space.head)) for g in spec.groups]
        each = zip(spec.groups, heads, row.legal, keys, strict=True)
        return tuple(g.space.emit(g.space.sample(h, ok, g.space.noise(k, (episodes, g.count)))) for g, h, ok, k in each)

    def tick(carry: Any, key: Any) -> Any:
        state, row, over = carry
        k1, k2 = jax.random.split(key)
        state, after = many.step(state, act(row, k1), jax.random.split(k2, episodes))
        counted = ~over
        return (state, after, over | after.last), (counted, after.team_reward, after.metrics)

    def play(key: Any) -> Any:
        k1, k2 = jax.random.split(key)
        state, row = many.init(jax.random.split(k1, episodes))
        begin = (state, row, jnp.zeros(episodes, bool))
        return jax.lax.scan(tick, begin, jax.random.split(k2, spec.horizon or LONGEST))

    (_, _, over), (counted, reward, metrics) = jax.device_get(jax.jit(play, compiler_options=supported(FAST_COMPILE))(jax.random.key(0)))
    if not over.all():
        raise SystemExit(f"{name}: {int((~over).sum())} of {episodes} episodes did not end in {spec.horizon or LONGEST} steps")
    length = counted.sum(0)
    whole = {
        "sum": lambda x: np.where(counted, x, 0).sum(0),
        "mean": lambda x: np.where(counted, x, 0).sum(0) / length,
        "last": lambda x: x[length - 1, np.arange(episodes)],
    }
    returns = whole["sum"](reward)
    return {
        "episodes": episodes,
        "length": float(length.mean()),
        "return": float(returns.mean()),
        "standard_error": float(returns.std(ddof=1) / np.sqrt(episodes)),
        "true_metrics": {k: float(whole[m.reduce](metrics[k]).mean()) for k, m in spec.metrics.items()},
    }


def host_play(name: str) -> dict[str, Any]:
    """Whole episodes of an environment that Python steps, as `marlstone check-env` plays them."""
    x = check_env(name, HOST_STEPS)
    return {
        "episodes": x["episodes"],
        "length": x["episode_length"],
        "return": x["random_return"],
        "standard_error": None,
        "true_metrics": x["true_metrics"],
    }


def trained(name: str, steps: int, seeds: int) -> dict[str, Any]:
    """The final policies' return with the defaults, as they are deployed."""
    with tempfile.TemporaryDirectory() as folder:
        run = ms.train(name, steps=steps, seeds=seeds, out=Path(folder) / "run", progress=False)
        assert run.result is not None
        r = run.result.record
    keep = ("return_iqm", "return_ci95", "return_worst_seed", "true_metrics", "steps", "seeds", "wall_seconds", "architecture", "credit")
    return {k: r[k] for k in keep}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="worlds whose names contain one of these, in any case")
    parser.add_argument("--episodes", type=int, default=64)
    parser.add_argument("--train", type=float, default=0, metavar="STEPS", help="also train, so many steps per seed")
    parser.add_argument("--seeds", type=int, default=3)
    flags = parser.parse_args()
    path = RESULTS / "worlds.json"
    for world in WORLDS:
        if not any(word.lower() in world.env.lower() for word in flags.only):
            continue
        try:
            random = compiled_play(world.env, flags.episodes) if is_jax(world.env) else host_play(world.env)
        except (ModuleNotFoundError, UnknownEnvironment) as error:
            print(f"{world.env}: {error}", file=sys.stderr)
            continue
        found = {"random": random, **stamp()}
        kept = json.loads(path.read_text())["worlds"] if path.exists() else {}
        if flags.train:
            found["trained"] = trained(world.env, int(flags.train), flags.seeds)
        elif "trained" in (before := kept.get(world.env, {})):
            found["trained"] = before["trained"]
        write("worlds", {"worlds": kept | {world.env: found}, **stamp()})
        print(f"{world.env}: random play {random['return']:.3g} {random['true_metrics']}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
