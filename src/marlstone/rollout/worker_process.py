"""One worker process: it builds a few environments from their name and steps them into shared memory. It never imports JAX.

Started by `worker_pool.Workers` (`boot`). It leads a process group that ends when its parent does, however that ends (`reaper`).
"""

import faulthandler
import gc
import os
import signal
import socket
from typing import Any

from marlstone.core.spec_json import spec_to_json
from marlstone.rollout import messages
from marlstone.rollout.env_stepper import BROKEN, EnvStepper, describe_error
from marlstone.rollout.shared_memory import StepBlock

STACKS = "MARLSTONE_STACKS"
"""The environment variable that names the folder where workers of a fleet's learner, asked by SIGUSR1, write their Python stacks."""


def prepare_process(*descriptors: int) -> None:
    """The beginning of every process of ours: what environments print must not mix with a command's one line of JSON, signals are for
    the command, which then ends us, and what environments start does not inherit our connections."""
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)


def serve(link_fd: int, memory_fd: int) -> None:
    """The whole life of a worker process."""
    prepare_process(link_fd, memory_fd)
    if (folder := os.environ.get(STACKS)) is not None:
        faulthandler.register(signal.SIGUSR1, open(f"{folder}/worker-{os.getpid()}.txt", "w"), all_threads=True, chain=False)
    link = socket.socket(fileno=link_fd)
    try:
        setup = _setup(link)
        try:
            worker = _Worker(link, setup)
            worker.introduce()
        except messages.Closed:
            return
        except BROKEN as error:
            messages.send(link, messages.ERROR, describe_error(error, setup["low"]))
            return
        worker.attach(memory_fd)
        gc.freeze()  # environments make garbage at every step; a collection each 700 objects costs a quarter of the time
        gc.set_threshold(20_000, 20, 100)
        worker.run()
    except messages.Closed:
        pass


def _setup(link: socket.socket) -> dict[str, Any]:
    messages.receive_exactly(link, 1)
    return messages.receive_json(link)


class _Worker:
    """The environments `low` to `high - 1` of the parent's `b`, stepped at its command."""

    def __init__(self, link: socket.socket, setup: dict[str, Any]) -> None:
        self.link, self.setup = link, setup
        self.stepper = EnvStepper.of(setup, lambda note: messages.send(link, messages.NOTE, note))

    def introduce(self) -> None:
        """Report what is stepped here, and for which groups steps carry `legal`."""
        masked = self.setup["masked"]
        if masked is None:
            masked = self.stepper.masked()
        messages.send(self.link, messages.HELLO, {"spec": spec_to_json(self.stepper.spec), "masked": masked, "wiring": self.stepper.wiring})
        messages.receive_exactly(self.link, 1)
        self.masked = tuple(messages.receive_json(self.link)["masked"])

    def attach(self, fd: int) -> None:
        setup = self.setup
        self.stepper.attach(StepBlock(fd, self.stepper.spec, setup["b"], self.masked, setup["workers"], create=False), setup["worker"])

    def run(self) -> None:
        while True:
            command = messages.receive_exactly(self.link, 1)
            if command == messages.QUIT:
                self.stepper.close()
                return
            if command == messages.RESET:
                self.stepper.begin()
            try:
                if command == messages.PROBE:
                    self.stepper.probe()
                else:
                    self.stepper.advance()
            except BROKEN as error:
                messages.send(self.link, messages.ERROR, describe_error(error, self.stepper.at))
                return
            messages.send(self.link, messages.DONE)
