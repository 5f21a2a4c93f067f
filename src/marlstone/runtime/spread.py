"""One function for many seeds: mapped over an accelerator by vmap, or dealt out to a CPU's devices, one core each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

Array = Any


def cores(count: int) -> None:
    """Let JAX see `count` CPU devices. Must come before JAX is first used in the process; later it changes nothing."""
    jax.config.update("jax_num_cpu_devices", count)


@dataclass(frozen=True)
class Spread:
    """Where `seeds` run. On CPUs a core runs its seeds one after another: vmapping them buys nothing there (PEERS), a core
    to itself does, and control flow that depends on data stays real. Arrays carry one entry per slot; the last may be empty."""

    seeds: int

    @property
    def devices(self) -> list[Any]:
        return jax.local_devices()[: self.seeds]

    @property
    def each(self) -> int:
        """Slots per device."""
        return -(-self.seeds // len(self.devices))

    @property
    def on_cpu(self) -> bool:
        return self.devices[0].platform == "cpu"

    def pad(self, tree: Any) -> Any:
        """One entry per seed -> one per slot, the last repeated."""
        extra = self.each * len(self.devices) - self.seeds if self.on_cpu else 0
        return jax.tree.map(lambda x: jnp.concatenate([x, jnp.repeat(x[-1:], extra, 0)]) if extra else jnp.asarray(x), tree)

    def trim(self, tree: Any) -> Any:
        """One entry per slot -> one per seed."""
        return jax.tree.map(lambda x: x[: self.seeds], tree)

    def over(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """`f` of one seed's arguments, for all slots."""
        if not self.on_cpu:
            return jax.vmap(f)
        each, mesh = self.each, Mesh(np.array(self.devices), ("seed",))

        def mine(*args: Any) -> Any:
            busy = jnp.minimum(self.seeds - lax.axis_index("seed") * each, each)
            at = lambda i: jax.tree.map(lambda x: x[i], args)
            shapes = jax.eval_shape(f, *at(0))
            blank = jax.tree.map(lambda x: jnp.zeros((each, *x.shape), x.dtype), shapes)
            put = lambda i, out: jax.tree.map(lambda all_, one: all_.at[i].set(one), out, f(*at(i)))
            return lax.fori_loop(0, busy, put, blank)

        return jax.shard_map(mine, mesh=mesh, in_specs=P("seed"), out_specs=P("seed"), check_vma=False)
