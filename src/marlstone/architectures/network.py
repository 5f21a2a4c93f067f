"""One network of one group: first layer, core, later layers, head."""

from typing import Any

from marlstone.architectures.body import Body
from marlstone.core.layers import Dense, dense_init
from marlstone.core.records import record
from marlstone.encoders.fuse import Fuse

Array = Any


@record
class Network:
    """Its parameters; `fuse` (the first layer's) and `core` are None where another network's core is used."""

    fuse: Any
    core: Any
    after: tuple[Dense, ...]
    head: Dense


def network(body: Body, fuse: Fuse, out: int, scale: float, key: Array, whole: bool = True) -> Network:
    """`out` numbers per agent, the head's gain `scale`; without first layer and core unless `whole`."""
    import jax

    k1, k2, k3 = jax.random.split(key, 3)
    core, after = body.init(k2, fuse.sets)
    head = dense_init(k3, body.end, out, fuse.sets, scale)
    return Network(fuse.init(k1) if whole else None, core if whole else None, after, head)
