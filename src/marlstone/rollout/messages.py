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


class Closed(ConnectionError):
    """The other side has gone."""


def receive_exactly(link: socket.socket, size: int) -> bytes:
    """`size` bytes. Raises `Closed` at the end of the stream, TimeoutError if the socket's timeout passes."""
    parts = b""
    while len(parts) < size:
        try:
            got = link.recv(size - len(parts))
        except (ConnectionResetError, BrokenPipeError) as error:
            raise Closed("the other process has gone") from error
        if not got:
            raise Closed("the other process has gone")
        parts += got
    return parts


def send(link: socket.socket, kind: bytes, content: Any = None) -> None:
    """One message; with `content`, its JSON follows, preceded by its length."""
    if content is not None:
        body = json.dumps(content).encode()
        kind = kind + struct.pack("<I", len(body)) + body
    try:
        link.sendall(kind)
    except (ConnectionResetError, BrokenPipeError) as error:
        raise Closed("the other process has gone") from error


def receive_json(link: socket.socket) -> Any:
    """The JSON that follows a kind."""
    (size,) = struct.unpack("<I", receive_exactly(link, 4))
    return json.loads(receive_exactly(link, size))
