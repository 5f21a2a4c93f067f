"""A film of an evaluation: the first episodes of one training seed, as its policy is deployed, each picture with step and return."""

from pathlib import Path
from typing import Any

import numpy as np

from marlstone.config import RunConfig
from marlstone.core.errors import UserError
from marlstone.play.film import Frame
from marlstone.runs.checkpoint import Checkpoint
from marlstone.runs.film import captioned, refuse_unwritable, write_film
from marlstone.training.trained import judged_record, trained

FPS = 8.0
HELD = 8  # pictures that an episode's last one lasts


def evaluate_filmed(config: RunConfig, checkpoint: Checkpoint, episodes: int, path: Path, shown: int = 1) -> dict[str, Any]:
    """As `evaluate`, and a film of the first seed's first `shown` episodes at `path` (.gif or .mp4). Raises `UserError` where the
    environment draws no pictures, or the film cannot be written."""
    refuse_unwritable(path)
    if not 1 <= shown <= episodes:
        raise UserError(f"--film-episodes is {shown}: give 1 to {episodes}, the episodes that are played (--episodes)")
    with trained(config, checkpoint) as (runtime, state):
        record, act = judged_record(runtime, state, config, checkpoint, episodes)
        frames = list(runtime.film(state, episodes, act, shown))
        seed = runtime.seeds[0]
    write_film(path, pictures(frames, f"seed {seed}, {act}"), FPS)
    returns = [frame.team_return for frame in frames if frame.ended]
    return record | {"film": {"path": str(path), "seed": seed, "acting": act, "returns": returns, "frames": len(frames)}}


def pictures(frames: list[Frame], title: str) -> list[np.ndarray]:
    """Frames with their captions; the last of an episode stays for a while."""
    out = list[np.ndarray]()
    for i, frame in enumerate(frames):
        text = f"{title}   episode {frame.episode + 1}   step {frame.step}   return {frame.team_return:.3g}"
        last = i + 1 == len(frames) or frames[i + 1].episode != frame.episode
        out += [captioned(frame.picture, text)] * (HELD if last else 1)
    return out
