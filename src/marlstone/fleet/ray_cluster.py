"""Being connected to a Ray cluster: a user's, or one of our own on this machine that listens to nobody else."""

import logging
import os
import signal
import socket
import threading
import warnings
from typing import Any

from marlstone.core.errors import UserError

ANSWER = 10.0  # seconds in which a cluster must answer
OWN: dict[str, Any] = {"include_dashboard": False, "object_store_memory": 1 << 27}
"""Of a cluster of our own, through whose object store nothing passes."""


def joined(address: str | None) -> tuple[Any, bool]:
    """Ray, connected to the cluster at `address` (None: RAY_ADDRESS, or one of our own), and whether it was connected here: then it is
    for the caller to disconnect. Raises `UserError` where Ray is not installed or no cluster answers."""
    where = address or os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody is told of a user's runs
    if where is None:
        os.environ.setdefault("RAY_worker_niceness", "0")  # what Ray does here is the work, not something beside it
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # Ray's word for: listen to this machine alone
    try:
        import ray
    except ModuleNotFoundError as error:
        raise UserError(f"--fleet ray needs the package {error.name!r}: pip install marlstone[ray]") from error
    mine = not ray.is_initialized()
    if mine and where is None:
        _alone()
    if mine:
        _join(ray, where)
    return ray, mine


def _alone() -> None:
    """A cluster of our own listens to this machine alone, also where the program had imported Ray already, which reads its environment
    only then."""
    from ray._private import ray_constants

    ray_constants.ENABLE_RAY_CLUSTER = False


def _join(ray: Any, where: str | None) -> None:
    """Connect to the cluster at `where`, or start one. Ray waits very long for one that is not there, and takes SIGTERM for itself."""
    if where is not None:
        host, _, port = where.rpartition(":")
        try:
            socket.create_connection((host, int(port)), ANSWER).close()
        except (OSError, ValueError) as error:
            raise UserError(
                f"fleet.address is {where!r}, and no Ray cluster answers there ({error}): give its HOST:PORT, or none"
            ) from error
    mine, ours = signal.getsignal(signal.SIGTERM), threading.current_thread() is threading.main_thread()
    with warnings.catch_warnings():  # Ray forks while JAX is imported; but no device is in use in this process
        warnings.simplefilter("ignore", RuntimeWarning)
        ray.init(address=where, logging_level=logging.ERROR, **({} if where else OWN))
    if ours:
        signal.signal(signal.SIGTERM, mine)
