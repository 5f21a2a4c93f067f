"""How both ends of a new TCP connection prove that they know the fleet's token, which never travels itself.

    server -> client    nonce s
    client -> server    nonce c, who it is, HMAC-SHA256(token, "client" s c who)
    server -> client    HMAC-SHA256(token, "server" s c who)

Nonces are fresh, so an overheard exchange cannot be repeated; the roles differ, so an answer cannot be sent back to its author.
Until it is over, a frame may hold `SMALL` bytes and no arrays. What follows is neither encrypted nor signed: use a trusted network.
"""

import hmac
import json
import secrets
import socket
from typing import Any

from marlstone.fleet import frames

SMALL = 4096  # bytes of a frame before authentication
NONCE = 32  # hexadecimal digits


class Stranger(ConnectionError):
    """The other end does not know the token."""


def admit(link: socket.socket, token: str) -> dict[str, Any]:
    """The server's side: who the client is, once it has proven that it knows `token`. Raises `Stranger`, and what `frames` raises."""
    mine = _nonce()
    frames.send(link, {"nonce": mine})
    message = _small(link)
    theirs, who = _nonce_in(message), message.get("who")
    if not isinstance(who, dict) or not _proves(message, token, "client", mine, theirs, who):
        raise Stranger("a connection that does not know this fleet's token")
    frames.send(link, {"digest": _digest(token, "server", mine, theirs, who)})
    return who


def introduce(link: socket.socket, token: str, who: dict[str, Any]) -> None:
    """The client's side: be admitted as `who` by a server that knows `token` too. Raises `Stranger`, and what `frames` raises."""
    theirs, mine = _nonce_in(_small(link)), _nonce()
    frames.send(link, {"nonce": mine, "who": who, "digest": _digest(token, "client", theirs, mine, who)})
    if not _proves(_small(link), token, "server", theirs, mine, who):
        raise Stranger("what listens at the fleet's address does not know its token")


def _small(link: socket.socket) -> dict[str, Any]:
    message, arrays = frames.receive(link, SMALL)
    if arrays or not isinstance(message, dict):
        raise Stranger("not a handshake of ours")
    return message


def _nonce() -> str:
    return secrets.token_hex(NONCE // 2)


def _nonce_in(message: dict[str, Any]) -> str:
    nonce = message.get("nonce")
    if not isinstance(nonce, str) or len(nonce) != NONCE:
        raise Stranger("not a handshake of ours")
    return nonce


def _digest(token: str, role: str, server: str, client: str, who: dict[str, Any]) -> str:
    message = json.dumps([role, server, client, who], sort_keys=True).encode()
    return hmac.new(token.encode(), message, "sha256").hexdigest()


def _proves(message: dict[str, Any], token: str, role: str, server: str, client: str, who: dict[str, Any]) -> bool:
    return hmac.compare_digest(str(message.get("digest")).encode(), _digest(token, role, server, client, who).encode())
