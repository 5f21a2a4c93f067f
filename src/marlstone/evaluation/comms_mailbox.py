"""What should be heard: a mailbox for each pair of agents in plain Python, which laws and tests hold channels against."""

from collections.abc import Iterator

import numpy as np

from marlstone.comms import Channel


def reached_by(age: np.ndarray) -> Iterator[np.ndarray]:
    """For each agent, whose words of which step it ever hears, `[t n]`, of ages `[t+1 n n]` (recipient, sender)."""
    for i in range(age.shape[1]):
        out = np.zeros((age.shape[0] - 1, age.shape[2]), bool)
        for s, j in np.argwhere(age[:, i] > 0):
            out[s - int(age[s, i, j]), j] = True
        yield out


def mailbox(channel: Channel, sent: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Ages `[t+1 n n]` of what every agent holds from each other: the newest message that has arrived, for `hold` further steps.

    Args: `sent [t n n]` (recipient, sender); `u [t+1 draws n n]`, the uniform numbers that the channel's link was given.
    """
    steps, n = sent.shape[:2]
    ages = np.zeros((steps + 1, n, n), int)
    fates = [(np.ones((n, n), int), np.zeros((n, n), int))] * steps
    if channel.drawing:
        bad, fates = channel.link.begin(u[0][0]), []
        for t in range(steps):
            bad, once, again = channel.link.fate(bad, u[t + 1])
            fates.append((once, again))
    for i, j in np.ndindex(n, n):
        held: tuple[int, int] | None = None  # when it was sent, and for how many more steps it stays
        for s in range(1, steps + 1):
            came = [t for t in range(s) if sent[t, i, j] and s - t in (fates[t][0][i, j], fates[t][1][i, j])]
            kept = held if held is not None and held[1] > 0 else None
            if came and (kept is None or max(came) >= kept[0]):
                held = (max(came), channel.hold)
            else:
                held = None if kept is None else (kept[0], kept[1] - 1)
            if held is not None:
                ages[s, i, j] = s - held[0]
    return ages
