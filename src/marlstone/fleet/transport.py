"""Both ends of the way between actors and learner: in this process, or over sockets.

An actor holds an `ActorEnd`, a learner a `LearnerEnd`. Every call has a deadline, `patience` in seconds; none waits for another
actor. `Here` calls the broker in this process; `Linked` asks it over a socket (`serve` answers).
"""

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from marlstone.fleet import frames
from marlstone.fleet.broker import Broker
from marlstone.fleet.payload import Parcel, Weights

SLACK = 10.0  # seconds that an answer may take beyond the patience that was asked for


class ActorEnd(Protocol):
    """What an actor asks of the world."""

    def latest(self, have: int, patience: float) -> Weights | None:
        """Weights of another version than `have`, or None."""

    def put(self, parcel: Parcel, patience: float) -> str:
        """`accepted`, `duplicate`, `full` (ask again) or `damaged` (send again)."""


class LearnerEnd(Protocol):
    """What a learner asks of the world."""

    def take(self, seed: int, patience: float) -> Parcel | None:
        """The oldest parcel of a seed, or None after `patience` seconds."""

    def settle(self, seed: int, trained: int, dropped: int) -> None:
        """What became of trajectories that were taken."""

    def publish(self, seed: int, weights: Weights) -> None:
        """New weights of a seed."""

    def expect(self, trajectory: int) -> None:
        """Trajectories have at most so many bytes each: larger parcels are refused before they are read."""

    def saved(self) -> None:
        """A checkpoint holds all that was trained so far."""


@dataclass(frozen=True)
class Here:
    """An actor's end in the broker's own process."""

    broker: Broker
    seed: int

    def latest(self, have: int, patience: float) -> Weights | None:
        """As `Broker.latest`, of this seed."""
        return self.broker.latest(self.seed, have, patience)

    def put(self, parcel: Parcel, patience: float) -> str:
        """As `Broker.put`."""
        return self.broker.put(parcel, patience)


class Linked:
    """Either end, over a socket whose other side is `serve`d. One request at a time, from whichever thread."""

    def __init__(self, link: socket.socket, seed: int = 0) -> None:
        self.link, self.seed, self._one = link, seed, threading.Lock()

    def ask(
        self, message: dict[str, Any], arrays: list[np.ndarray] | None = None, patience: float = 0.0
    ) -> tuple[dict[str, Any], list[Any]]:
        """A request and its answer. Raises `Gone`, and TimeoutError where none comes within `patience` and some slack."""
        with self._one:
            self.link.settimeout(patience + SLACK)
            frames.send(self.link, {**message, "patience": patience}, arrays)
            return frames.receive(self.link)

    # an actor's
    def hello(self, message: dict[str, Any], patience: float) -> dict[str, Any]:
        """Tell what this actor steps, before its first weights."""
        return self.ask({"ask": "hello", **message}, patience=patience)[0]

    def latest(self, have: int, patience: float) -> Weights | None:
        """As `ActorEnd.latest`."""
        message, arrays = self.ask({"ask": "latest", "seed": self.seed, "have": have}, patience=patience)
        return Weights(message["version"], arrays, message["about"]) if message["version"] != have else None

    def put(self, parcel: Parcel, patience: float) -> str:
        """As `ActorEnd.put`."""
        message, _ = self.ask({"ask": "put", "parcel": parcel.words()}, parcel.arrays, patience)
        return message["became"]

    # a learner's
    def take(self, seed: int, patience: float) -> Parcel | None:
        """As `LearnerEnd.take`."""
        message, arrays = self.ask({"ask": "take", "seed": seed}, patience=patience)
        return Parcel.of(message["parcel"], arrays) if message["parcel"] is not None else None

    def settle(self, seed: int, trained: int, dropped: int) -> None:
        """As `LearnerEnd.settle`."""
        self.ask({"ask": "settle", "seed": seed, "trained": trained, "dropped": dropped})

    def publish(self, seed: int, weights: Weights) -> None:
        """As `LearnerEnd.publish`."""
        self.ask({"ask": "publish", "seed": seed, "version": weights.version, "about": weights.about}, weights.arrays)

    def expect(self, trajectory: int) -> None:
        """As `LearnerEnd.expect`."""
        self.ask({"ask": "expect", "trajectory": trajectory})

    def saved(self) -> None:
        """As `LearnerEnd.saved`."""
        self.ask({"ask": "saved"})


def answers(broker: Broker, more: dict[str, Callable[[dict[str, Any]], dict[str, Any]]]) -> Callable[..., tuple[dict[str, Any], list[Any]]]:
    """How the broker answers requests that came over a socket; `more`: other questions, each from its words alone."""

    def answer(message: dict[str, Any], arrays: list[np.ndarray]) -> tuple[dict[str, Any], list[np.ndarray]]:
        match message["ask"]:
            case "put":
                return {"became": broker.put(Parcel.of(message["parcel"], arrays), message["patience"])}, []
            case "latest":
                new = broker.latest(message["seed"], message["have"], message["patience"])
                if new is None:
                    return {"version": message["have"], "about": None}, []
                return {"version": new.version, "about": new.about if message["have"] < 0 else None}, new.arrays
            case "take":
                parcel = broker.take(message["seed"], message["patience"])
                return ({"parcel": None}, []) if parcel is None else ({"parcel": parcel.words()}, parcel.arrays)
            case "settle":
                broker.settle(message["seed"], message["trained"], message["dropped"])
            case "publish":
                broker.publish(message["seed"], Weights(message["version"], arrays, message["about"]))
            case "expect":
                broker.chunk_bytes = int(message["trajectory"])
            case "saved":
                broker.saved()
            case other if other in more:
                return more[other](message), []
            case other:
                raise frames.BadFrame(f"nobody answers {other!r}", whole=True)
        return {}, []

    return answer


def serve(
    link: socket.socket,
    answer: Callable[..., tuple[dict[str, Any], list[Any]]],
    damaged: Callable[[], None],
    most: Callable[[], int] = lambda: frames.MOST,
) -> None:
    """Answer what comes over `link` until it closes. A damaged frame is answered `damaged` and counted; a connection that speaks another
    language, or sends a frame of more than `most()` bytes, is closed."""
    link.settimeout(None)
    with link:
        while True:
            try:
                message, arrays = frames.receive(link, most)
                out, more = answer(message, arrays)
            except frames.Gone:
                return
            except (frames.BadFrame, KeyError, TypeError, IndexError) as error:
                damaged()
                if not getattr(error, "whole", True):
                    return
                out, more = {"became": "damaged", "why": str(error)}, []
            try:
                frames.send(link, out, more)
            except (frames.Gone, OSError):
                return
