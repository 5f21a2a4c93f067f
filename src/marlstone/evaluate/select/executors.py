"""Where a selection's jobs are done: here, one after another, or on a Ray cluster whose nodes see the same files."""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from marlstone.core.errors import Failure
from marlstone.evaluate.select.trial import Job, Report, work
from marlstone.runtime.ray_cluster import joined

Say = Callable[[str], None]


@dataclass(frozen=True)
class Here:
    """One job after another in this process: the seeds of one take all its cores. `shown` opens a display of a job's progress."""

    say: Say
    shown: Callable[[], AbstractContextManager[Report]]
    stop: Callable[[], bool]

    def __call__(self, jobs: Sequence[Job], what: str) -> None:
        left = [job for job in jobs if not job.done]
        for i, job in enumerate(left):
            self.say(f"{what}: {Path(job.folder).name} ({i + 1} of {len(left)})")
            with self.shown() as report:
                work(job, report, self.stop)


@dataclass(frozen=True)
class OnRay:
    """Jobs at once, each on one processor of the cluster at `address` (none: RAY_ADDRESS, or a cluster of our own on this machine).

    What a job leaves it leaves in files: all nodes must see the selection's folder at the same path. A job whose node is lost is
    given to another, `tries` times, and goes on from its checkpoint.
    """

    say: Say
    address: str | None = None
    tries: int = 3

    def __call__(self, jobs: Sequence[Job], what: str) -> None:
        left = [job for job in jobs if not job.done]
        if not left:
            return
        ray, _ = joined(self.address)  # it ends with this process
        remote = ray.remote(num_cpus=1, max_retries=self.tries)(_alone)
        waiting = {remote.remote(vars(job)): job for job in left}
        began = time.monotonic()
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=1)
            for ref in done:
                job = waiting.pop(ref)
                try:
                    ray.get(ref)
                except ray.exceptions.RayError as error:
                    raise Failure(f"{what}: {Path(job.folder).name} failed on Ray: {str(error).strip().splitlines()[-1]}") from error
                name, seconds = Path(job.folder).name, time.monotonic() - began
                self.say(f"{what}: {name} ({len(left) - len(waiting)} of {len(left)}) after {seconds:.0f} s")


def _alone(plain: dict[str, Any]) -> None:
    """A job in a process of Ray's, which has one processor."""
    from marlstone.runtime.spread import prepare

    prepare(1)
    work(Job(**plain))
