"""Where a selection's jobs are done: here, one after another or a core each, or on a Ray cluster whose nodes see the same files."""

import select
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from typing import Any

from marlstone.core.errors import BudgetUsedUp, Failure, UserError
from marlstone.core.machine import cores, pin_to_core
from marlstone.evaluation.select.trial import Job, Stopped, work
from marlstone.fleet.ray_cluster import joined
from marlstone.rollout import messages
from marlstone.rollout.env_stepper import BROKEN
from marlstone.rollout.process import Child
from marlstone.rollout.worker_process import prepare_process
from marlstone.runs.progress import Progress

Say = Callable[[str], None]
Named = Callable[[Progress, str], None]
"""Shows the progress of the job that has that name."""
TRIES = 3  # a job whose process or node is lost is begun again so often, each time from its checkpoint
LOOK = 0.2  # seconds between looks at whether a person asked to stop
STOPPING = 15.0  # seconds that jobs may take to write a checkpoint where they are; then their last ones stand
SEEN_WITHIN = 60.0  # seconds until another node's files are seen here
JOB, STOP, ENDED, SEEN = b"J", b"S", b"E", b"P"  # a job, a request to stop it; how it ended, how far it is
KINDS = (UserError, BudgetUsedUp, Stopped, Failure)  # what a job may end with; the first that fits


@dataclass(frozen=True)
class Here:
    """One job after another in this process: the seeds of one take all its cores. `shown` opens a display of jobs' progress."""

    say: Say
    shown: Callable[[], AbstractContextManager[Named]]
    stop: Callable[[], bool]

    def __call__(self, jobs: Sequence[Job], what: str) -> None:
        left = [job for job in jobs if not job.done]
        for i, job in enumerate(left):
            self.say(f"{what}: {job.name} ({i + 1} of {len(left)})")
            with self.shown() as report:
                work(job, lambda progress, name=job.name: report(progress, name), self.stop)  # type: ignore[misc]


@dataclass(frozen=True)
class Beside:
    """As many jobs at once as there are `lanes`, in processes of their own on a core each: what one core does alone,
    compiling above all, keeps no other waiting, and no core is idle because seeds do not divide by cores. Bits are those of `Here`.

    A process that is lost is started anew and its job goes on from its checkpoint. All end with this process, however it ends.
    """

    say: Say
    shown: Callable[[], AbstractContextManager[Named]]
    stop: Callable[[], bool]
    lanes: int

    def __call__(self, jobs: Sequence[Job], what: str) -> None:
        left = [job for job in jobs if not job.done]
        with self.shown() as report:
            shift = _Shift(self, left, what, report)
            try:
                shift.work()
            finally:
                shift.end()
        if shift.asked and not all(job.done for job in left):
            raise Stopped(f"{what}: stopped; the same command goes on from here")


class _Shift:
    """Jobs being done by lanes."""

    def __init__(self, do: Beside, jobs: Sequence[Job], what: str, report: Named) -> None:
        self.do, self.what, self.report, self.count = do, what, report, len(jobs)
        self.waiting, self.lost, self.asked = list(jobs), dict.fromkeys((job.name for job in jobs), 0), False
        self.until = float("inf")
        self.busy: dict[socket.socket, tuple[_Lane, Job]] = {}
        self.idle = [_Lane(core) for core in cores()[: min(do.lanes, len(jobs))]]

    def work(self) -> None:
        """Until all are done, or those begun are where we were asked to stop. Raises what a job ended with."""
        while self._begin() and time.monotonic() < self.until:
            if not self.asked and self.do.stop():
                self.asked, self.until = True, time.monotonic() + STOPPING
                for link in self.busy:
                    with suppress(messages.Closed):
                        messages.send(link, STOP)
            for link in select.select(list(self.busy), [], [], LOOK)[0]:
                try:
                    kind, message = messages.receive_exactly(link, 1), messages.receive_json(link)
                except messages.Closed:
                    self._gone(*self.busy.pop(link))
                    continue
                if kind == SEEN:
                    self.report(Progress(**message), self.busy[link][1].name)
                else:
                    self._ended(*self.busy.pop(link), message)

    def end(self) -> None:
        for child in (*self.idle, *(child for child, _ in self.busy.values())):
            child.end()

    def _begin(self) -> bool:
        """Give idle lanes what is ready; whether any is busy."""
        while self.idle and not self.asked and (job := next((job for job in self.waiting if job.ready), None)) is not None:
            self.waiting.remove(job)
            child = self.idle.pop(0)
            self.busy[child.link] = (child, job)
            with suppress(messages.Closed):  # then we hear of it where we listen
                messages.send(child.link, JOB, vars(job))
        return bool(self.busy)

    def _gone(self, child: "_Lane", job: Job) -> None:
        status = child.end(patience=2.0)
        self.lost[job.name] += 1
        if (times := self.lost[job.name]) > TRIES:
            raise Failure(f"{self.what}: the process of {job.name} ended {times} times, last with status {status}")
        if not self.asked:
            self.do.say(f"{self.what}: the process of {job.name} ended with status {status}: it goes on in another")
            self.waiting.insert(0, job)
            self.idle.append(_Lane(child.core))

    def _ended(self, child: "_Lane", job: Job, message: dict[str, str]) -> None:
        """`message`: what the job ended with, if not well."""
        self.idle.append(child)
        self.report(Progress("done", 0, 0), job.name)
        if not message:
            self.do.say(f"{self.what}: {job.name} done, {len(self.waiting) + len(self.busy)} of {self.count} left")
            return
        kind = next(k for k in KINDS if k.__name__ == message["kind"])
        if not (self.asked and kind is Stopped):
            raise kind(message["text"])


class _Lane(Child):
    """A process on one core."""

    def __init__(self, core: int) -> None:
        self.core = core
        super().__init__(f"{__name__}:lane", more=(core,))


def lane(link_fd: int, core: int) -> None:
    """The whole life of one of `Beside`'s processes: job after job. It keeps to its core: where the threads of two programs share two
    cores, both wait for each other, and together they make three quarters of the steps."""
    prepare_process(link_fd)
    from marlstone.rollout.placement import prepare

    pin_to_core(core)  # before JAX counts cores
    prepare(1)
    link = socket.socket(fileno=link_fd)
    asked = lambda: bool(select.select([link], [], [], 0)[0])
    try:
        while messages.receive_exactly(link, 1) == JOB:
            job = Job(**messages.receive_json(link))
            message: dict[str, str] = {}
            try:
                work(job, lambda progress: messages.send(link, SEEN, asdict(progress)), asked)
            except (UserError, Failure) as error:
                message = {"kind": next(k.__name__ for k in KINDS if isinstance(error, k)), "text": str(error)}
            except BROKEN as error:  # it would come again in another process
                traceback.print_exc()
                message = {"kind": "Failure", "text": f"{job.name}: {type(error).__name__}: {error}"}
            messages.send(link, ENDED, message)
    except messages.Closed:
        return


@dataclass(frozen=True)
class OnRay:
    """Jobs at once, each on one processor of the cluster at `address` (none: RAY_ADDRESS, or a cluster of our own on this machine).

    What a job leaves it leaves in files: all nodes must see the selection's folder at the same path. A job whose node is lost is
    given to another and goes on from its checkpoint.
    """

    say: Say
    address: str | None = None
    stop: Callable[[], bool] = lambda: False

    def __call__(self, jobs: Sequence[Job], what: str) -> None:
        left = [job for job in jobs if not job.done]
        if not left:
            return
        ray, _ = joined(self.address)  # it ends with this process
        remote = ray.remote(num_cpus=1, max_retries=TRIES)(_alone)
        waiting, begun = list(left), dict[Any, Job]()
        began = time.monotonic()
        while waiting or begun:
            for job in [job for job in waiting if job.ready]:
                waiting.remove(job)
                begun[remote.remote(vars(job))] = job
            done, _ = ray.wait(list(begun), num_returns=1, timeout=LOOK)
            if self.stop():
                raise Stopped(f"{what}: stopped; the same command goes on from here")
            for ref in done:
                job = begun.pop(ref)
                try:
                    ray.get(ref)
                except ray.exceptions.RayError as error:
                    raise Failure(f"{what}: {job.name} failed on Ray: {str(error).strip().splitlines()[-1]}") from error
                until = time.monotonic() + SEEN_WITHIN
                while not job.done:
                    if time.monotonic() > until:
                        raise Failure(f"{what}: {job.name} is done, but left nothing in {job.folder}: all nodes must see it")
                    time.sleep(LOOK)
                count = len(left) - len(waiting) - len(begun)
                self.say(f"{what}: {job.name} ({count} of {len(left)}) after {time.monotonic() - began:.0f} s")


def _alone(plain: dict[str, Any]) -> None:
    """A job in a process of Ray's, which has one processor."""
    from marlstone.rollout.placement import prepare

    prepare(1)
    work(Job(**plain))
