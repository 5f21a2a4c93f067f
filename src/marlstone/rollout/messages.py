"""What parent and worker send each other over a socket: single bytes in the hot path, JSON around it.

parent -> worker    {setup}  then  P (probe)  R (reset all)  S (step all)  Q (end)
worker -> parent    H{spec}  then  N{fault, environment, text}*  and D (done) or E{error}
"""

import json
import socket
import struct
from typing import Any

PROBE, RESET, STEP, QUIT = b"P", b"R", b"S", b"Q"
HELLO, NOTE, DONE, ERROR = b"H", b"N", b"D", b"E"
FIRST_BYTES = 1 << 16  # of memory taken before any have arrived


class Closed(ConnectionError):
    """The other side has gone."""


def receive_exactly(link: socket.socket, size: int) -> bytearray:
    """`size` bytes. Memory grows with the bytes that have arrived, so that an announced size alone takes none.

    Raises `Closed` at the end of the stream, TimeoutError if the socket's timeout passes.
    """
    out, at = bytearray(min(size, FIRST_BYTES)), 0
    while at < size:
        if at == len(out):
            out.extend(bytes(min(size - at, at)))
        try:
            with memoryview(out) as view:
                got = link.recv_into(view[at:])
        except ConnectionError as error:
            raise Closed("the other process has gone") from error
        if not got:
            raise Closed("the other process has gone")
        at += got
    return out


def send(link: socket.socket, kind: bytes, content: Any = None) -> None:
    """One message; with `content`, its JSON follows, preceded by its length."""
    if content is not None:
        body = json.dumps(content).encode()
        kind = kind + struct.pack("<I", len(body)) + body
    try:
        link.sendall(kind)
    except ConnectionError as error:
        raise Closed("the other process has gone") from error


def receive_json(link: socket.socket) -> Any:
    """The JSON that follows a kind."""
    (size,) = struct.unpack("<I", receive_exactly(link, 4))
    return json.loads(receive_exactly(link, size))
