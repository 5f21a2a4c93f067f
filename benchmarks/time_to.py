"""Seconds of wall clock until agents are as good as a peer's finished training, compiling included.

    python benchmarks/time_to.py [--targets -61 -47] [--seeds 3]

On MPE simple_spread JaxMARL's IPPO script ends near -61 after 206 to 244 s and its MAPPO-GRU script near -47 after 350 to
380 s on a machine with two cores, measured. Here our configuration of `benchmarks/learning/time-to-spread.toml`
trains one seed at a time until the mean training return (actions sampled, as theirs are) of two consecutive reports passes
the target.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from statistics import median

from record import HERE, stamp, write

PEER_SECONDS = {-61.0: (206, 244), -47.0: (350, 380)}


def one(seed: int, target: float) -> dict[str, float | None]:
    """In this process: seconds from here, JAX not yet started, to the target."""
    began = time.perf_counter()
    from marlstone.rollout.placement import prepare

    prepare(1)
    import jax
    import numpy as np

    jax.config.update("jax_enable_compilation_cache", False)
    from marlstone.config import load
    from marlstone.training.loop import runtime_of

    config = load(HERE / "learning" / "time-to-spread.toml", {"seeds": "1", "seed": str(seed)})
    runtime = runtime_of(config)
    state = runtime.start()
    rows = config.rollout.envs * config.rollout.length
    most = max(1, 100_000 // rows)
    run = runtime.compile(state, most)
    before, done = -np.inf, 0
    while done < runtime.total:
        state, out = jax.block_until_ready(run(state, min(most, runtime.total - done)))
        done += most
        now = float(np.asarray(out.finished.team_return)[0].sum() / max(np.asarray(out.finished.episodes)[0].sum(), 1))
        if min(before, now) >= target:
            return {"seconds": time.perf_counter() - began, "steps": done * rows, "return": now}
        before = now
    return {"seconds": None, "steps": done * rows, "return": before}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", type=float, nargs="+", default=list(PEER_SECONDS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.one is not None:
        print(json.dumps(one(flags.one, flags.targets[0])))
        return 0
    for target in flags.targets:
        runs = []
        for seed in range(1000, 1000 + flags.seeds):
            words = [sys.executable, __file__, "--one", str(seed), "--targets", str(target)]
            out = subprocess.run(words, capture_output=True, text=True, check=True)
            runs.append(json.loads(out.stdout.strip().splitlines()[-1]))
        low, high = PEER_SECONDS.get(target, (None, None))
        seconds = median(r["seconds"] if r["seconds"] is not None else math.inf for r in runs)
        share = seconds / low if low and math.isfinite(seconds) else None
        name = f"time_to/spread{target:g}"
        write(
            name,
            {
                "target": target,
                "runs": runs,
                "seconds": seconds if math.isfinite(seconds) else None,
                "peer_seconds": [low, high],
                "share_of_peer": share,
                **stamp(),
            },
        )
        ours = f"to {target:g}: {seconds:.1f} s (median of {flags.seeds} seeds)"
        print(f"{ours}, the peer {low} to {high} s: {share if share is None else round(share, 2)} of it", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
