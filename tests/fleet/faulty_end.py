"""An actor's end of the transport that loses, repeats, reorders, corrupts and delays: what the fleet must keep its laws under."""

import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from marlstone.fleet import frames
from marlstone.fleet.payload import Parcel, Weights
from marlstone.fleet.transport import SLACK


@dataclass
class Faulty:
    """An actor's end with faults. Each probability is of one `put`: it is `lose`d (the actor believes it was accepted), sent `twice`,
    held back until after the next one (`reorder`), or `corrupt`ed on its way; and each call takes up to `delay` seconds more.

    What is lost was never accepted: nobody need count it. `corrupt` needs an end that goes over bytes (`Linked`)."""

    inner: Any
    lose: float = 0.0
    twice: float = 0.0
    reorder: float = 0.0
    corrupt: float = 0.0
    delay: float = 0.0
    seed: int = 0
    held: list[Parcel] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def latest(self, have: int, patience: float) -> Weights | None:
        """As the inner end, later."""
        self._sleep()
        return self.inner.latest(have, patience)

    def put(self, parcel: Parcel, patience: float) -> str:
        """As the inner end, or with the fault that was drawn."""
        self._sleep()
        chance = self.random.random()
        for how, share in (("lose", self.lose), ("twice", self.twice), ("reorder", self.reorder), ("corrupt", self.corrupt)):
            if chance < share:
                return getattr(self, f"_{how}")(parcel, patience)
            chance -= share
        became = self.inner.put(parcel, patience)
        while self.held and became == "accepted":
            self.inner.put(self.held.pop(), patience)
        return became

    def _lose(self, parcel: Parcel, patience: float) -> str:
        return "accepted"

    def _twice(self, parcel: Parcel, patience: float) -> str:
        became = self.inner.put(parcel, patience)
        if became == "accepted":
            self.inner.put(parcel, patience)
        return became

    def _reorder(self, parcel: Parcel, patience: float) -> str:
        self.held.append(parcel)
        return "accepted"

    def _corrupt(self, parcel: Parcel, patience: float) -> str:
        frame = bytearray(frames.encode({"ask": "put", "parcel": parcel.words(), "patience": patience}, parcel.arrays))
        frame[int(self.random.integers(frames.HEADER.size, len(frame)))] ^= 0x10
        self.inner.link.settimeout(patience + SLACK)
        frames.send_bytes(self.inner.link, bytes(frame))
        return frames.receive(self.inner.link)[0]["became"]

    def _sleep(self) -> None:
        if self.delay:
            time.sleep(float(self.random.random()) * self.delay)
