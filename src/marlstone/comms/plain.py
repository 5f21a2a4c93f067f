"""A channel as plain JSON and back: for worker processes, actors and policies, which load no configuration."""

import dataclasses
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marlstone.comms.broadcast import Broadcast
from marlstone.comms.contract import Channel
from marlstone.comms.link import Link
from marlstone.comms.none import NoMessages
from marlstone.comms.targeted import Targeted
from marlstone.core.errors import UserError
from marlstone.core.plain import from_plain, to_plain
from marlstone.core.user_code import load

CHANNELS: tuple[type[Channel], ...] = (NoMessages, Broadcast, Targeted)
"""The package's own, in the order of the documentation."""
OWN = "own:"  # before the class name of a user's channel, where code is not loaded by path


def channel_to_json(channel: Channel, paths: bool = True) -> dict[str, Any]:
    """`{"kind": ..., field: value ...}`; a user's class by its file, or without `paths` by its name alone."""
    cls = type(channel)
    kind = cls.kind if cls in CHANNELS else f"{Path(inspect.getfile(cls)).resolve()}:{cls.__name__}" if paths else f"{OWN}{cls.__name__}"
    given = {f.name: getattr(channel, f.name) for f in dataclasses.fields(channel) if f.name != "link"}
    plain = {k: to_plain(v, f"comms.{k}") for k, v in given.items()}
    return {"kind": kind, **plain, "link": dataclasses.asdict(channel.link)}


def channel_from_json(plain: dict[str, Any], parts: Sequence[type] | None = None) -> Channel:
    """The inverse; lists become tuples again. `parts`: a user's own classes, of what was received, such as a policy, for which no code is
    loaded; None: of what this process's parent wrote, where a user's class is loaded from its file. Raises `UserError` for a class that is
    not among `parts`."""
    fields = {k: from_plain(v) for k, v in plain.items() if k not in ("kind", "link")} | {"link": Link(**plain["link"])}
    known = {cls.kind: cls for cls in CHANNELS} | {f"{OWN}{cls.__name__}": cls for cls in parts or ()}
    if (kind := plain["kind"]) in known:
        return known[kind](**fields)
    if parts is not None or kind.startswith(OWN):
        name = kind.removeprefix(OWN).rpartition(":")[2]
        raise UserError(f"this policy has a channel of its user's own, {name}: give its class, as in Policy.load(path, parts=[{name}])")
    file, _, name = kind.rpartition(":")
    return getattr(load(file), name)(**fields)
