"""What processes of a fleet say to each other over a socket: JSON and arrays in one frame, checked by its checksum.

    header: magic, length of the JSON, length of the arrays, CRC-32 of both     JSON     arrays, each on 64 bytes

Arrays are numbers and truth values, never objects: nothing that arrives can run. A receiver sets a limit on each frame, and memory
grows with the bytes that have arrived, so that a header alone takes none.
"""

import json
import math
import socket
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from marlstone.rollout.messages import FIRST_BYTES
from marlstone.rollout.messages import Closed as Gone
from marlstone.rollout.messages import receive_exactly as _exactly

HEADER = struct.Struct("<4sIQI")
MAGIC = b"mrl1"
ALIGN = 64
MOST_JSON, MOST_BYTES = 1 << 26, 1 << 33
MOST = MOST_JSON + MOST_BYTES  # bytes of a frame from a process of our own
STEP = FIRST_BYTES  # of memory taken before any have arrived
KINDS = "biufc"  # of dtypes that may travel; `c`omplex for completeness, never `O`


class BadFrame(ValueError):
    """A frame that is not what was sent. `whole`: its bytes were read to the end, so the next frame can be."""

    def __init__(self, what: str, whole: bool) -> None:
        self.whole = whole
        super().__init__(what)


def encode(message: dict[str, Any], arrays: list[np.ndarray] | None = None) -> bytes:
    """One frame."""
    arrays = [np.asarray(x, order="C") for x in arrays or []]
    words = json.dumps({"message": message, "arrays": [[x.dtype.str, x.shape] for x in arrays]}).encode()
    parts = []
    for x in arrays:
        parts += [x.tobytes(), bytes(-x.nbytes % ALIGN)]
    body = b"".join(parts)
    return HEADER.pack(MAGIC, len(words), len(body), zlib.crc32(body, zlib.crc32(words))) + words + body


def decode(words: bytes | memoryview, body: memoryview, check: int) -> tuple[dict[str, Any], list[np.ndarray]]:
    """What a frame says. Raises `BadFrame`."""
    if zlib.crc32(body, zlib.crc32(words)) != check:
        raise BadFrame("a frame was damaged on its way: its checksum differs", whole=True)
    try:
        content = json.loads(bytes(words))
        arrays, at = [], 0
        for kind, shape in content["arrays"]:
            dtype = np.dtype(kind)
            if dtype.kind not in KINDS + "?":
                raise BadFrame(f"a frame holds an array of {dtype}, which may not travel", whole=True)
            count = math.prod(shape)
            arrays.append(np.frombuffer(body, dtype, count, at).reshape(shape))
            at += -(-count * dtype.itemsize // ALIGN) * ALIGN
        return content["message"], arrays
    except (ValueError, KeyError, TypeError) as error:
        raise error if isinstance(error, BadFrame) else BadFrame(f"a frame cannot be read: {error}", whole=True) from error


def send(link: socket.socket, message: dict[str, Any], arrays: list[np.ndarray] | None = None) -> None:
    """Raises `Gone`, and TimeoutError where the socket's timeout passes."""
    send_bytes(link, encode(message, arrays))


def send_bytes(link: socket.socket, frame: bytes) -> None:
    """Send an encoded frame. Raises `Gone` where the other process has ended."""
    try:
        link.sendall(frame)
    except (ConnectionError, BrokenPipeError) as error:
        raise Gone("the other process has gone") from error


def receive(link: socket.socket, most: int | Callable[[], int] = MOST) -> tuple[dict[str, Any], list[np.ndarray]]:
    """One frame of at most `most` bytes, which may be asked for when it begins.

    Raises `Gone`, `BadFrame`, and TimeoutError where the socket's timeout passes.
    """
    magic, words, body, check = HEADER.unpack(_exactly(link, HEADER.size))
    if magic != MAGIC or words > MOST_JSON or body > MOST_BYTES:
        raise BadFrame("no frame of ours: another program speaks here, or a header was damaged", whole=False)
    if words + body > (limit := most() if callable(most) else most):
        raise BadFrame(f"a frame of {words + body} bytes, where at most {limit} are expected", whole=False)
    content = memoryview(_exactly(link, words + body))
    return decode(content[:words], content[words:], check)
