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

from marlstone.core.machine import cores
from marlstone.core.shards import SHARD
from marlstone.rollout.compile_cache import cache_folder, trim_cache

WHOLE, PARTS = P("seed"), P("seed", SHARD)


def prepare(devices: int | None = None) -> None:
    """Let JAX see the processor's cores as devices (`devices` of them; all by default), and keep compiled programs between
    processes (`compile_cache`). Before JAX is first used; afterwards only the cache changes."""
    cache = cache_folder()
    trim_cache(cache)
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    try:
        jax.config.update("jax_num_cpu_devices", devices or len(cores()))
    except RuntimeError:  # JAX runs already, with the devices it has
        return


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


@dataclass(frozen=True)
class SeedPlacement:
    """Where seeds run, each on `shards` devices that hold a part of its environments.

    On CPUs a core runs its seeds one after another: vmapping them buys nothing there (`benchmarks/seeds.py`), a core to itself does, and
    control flow that depends on data stays real. On an accelerator seeds are mapped. Arrays carry one entry per slot; the last may be
    empty.

    Attributes:
      seeds: how many.
      shards: devices per seed.

    Raises:
      ValueError: more shards than devices.
    """

    seeds: int
    shards: int = 1

    def __post_init__(self) -> None:
        if self.shards > (here := jax.local_device_count()):
            raise ValueError(f"rollout.shards is {self.shards}, but there are {here} devices here: use at most as many")

    @property
    def groups(self) -> int:
        """Groups of devices that share the seeds out among themselves."""
        return min(self.seeds, jax.local_device_count() // self.shards) if self.on_cpu else 1

    @property
    def devices(self) -> list[Any]:
        """The devices that run seeds, those of one group side by side."""
        return jax.local_devices()[: self.groups * self.shards]

    @property
    def each(self) -> int:
        """Slots per group."""
        return -(-self.seeds // self.groups)

    @property
    def alone(self) -> bool:
        """One core: it takes seed by seed, and one program serves any number of them."""
        return self.on_cpu and len(self.devices) == 1

    @property
    def on_cpu(self) -> bool:
        """Whether seeds run on CPU devices, where each is run by itself instead of vmapped."""
        return jax.default_backend() == "cpu"

    def pad(self, tree: Any) -> Any:
        """One entry per seed -> one per slot, the last repeated."""
        extra = self.each * self.groups - self.seeds
        return jax.tree.map(lambda x: jnp.concatenate([x, jnp.repeat(x[-1:], extra, 0)]) if extra else jnp.asarray(x), tree)

    def trim(self, tree: Any) -> Any:
        """One entry per slot -> one per seed; from a CPU's devices, on the host."""
        return jax.tree.map(lambda x: self._gathered(x)[: self.seeds], tree)

    def first(self, tree: Any) -> Any:
        """The first seed's entry."""
        return jax.tree.map(lambda x: self._gathered(x)[0], tree)

    def apart(self, tree: Any) -> list[Any]:
        """One entry per seed -> each seed's, on the host."""
        whole = jax.tree.map(self._gathered, tree)
        return [jax.tree.map(lambda x: x[i], whole) for i in range(self.seeds)]  # noqa: B023

    def together(self, trees: list[Any]) -> Any:
        """Each seed's -> one entry per seed, on the host."""
        return jax.tree.map(lambda *xs: self._gathered(jnp.stack(xs) if _is_key(xs[0]) else np.stack(xs)), *trees)

    def _gathered(self, x: Any) -> Any:
        """An array's parts put together without a program: a slice across CPU devices would be a collective of its own for every
        array, and where the machine is busy one of its threads may come so late that XLA ends the process."""
        if not self.on_cpu or not isinstance(x, jax.Array):
            return x
        if _is_key(x):
            return jax.random.wrap_key_data(jnp.asarray(np.asarray(jax.random.key_data(x))), impl=jax.random.key_impl(x))
        return np.asarray(x)

    def map_seeds(self, f: Callable[..., Any], ins: Any = WHOLE, outs: Any = WHOLE) -> Callable[..., Any]:
        """`f` of one seed's arguments, for all slots. `ins` (a tuple, or one for all arguments) and `outs` declare for every array, or
        of a whole subtree, whether its devices hold it `WHOLE` or by environments (`PARTS`)."""
        if not self.on_cpu and self.shards == 1:
            return jax.vmap(f)
        each, mesh = self.each, Mesh(np.array(self.devices).reshape(self.groups, self.shards), ("seed", SHARD))

        def mine(*args: Any) -> Any:
            busy = jnp.minimum(self.seeds - lax.axis_index("seed") * each, each)
            busy = lax.optimization_barrier(busy)  # a loop known to run once compiles otherwise: bits would depend on company
            at = lambda i: jax.tree.map(lambda x: x[i], args)
            shapes = jax.eval_shape(f, *at(0))
            blank = jax.tree.map(lambda x: jnp.zeros((each, *x.shape), x.dtype), shapes)
            put = lambda i, out: jax.tree.map(lambda all_, one: all_.at[i].set(one), out, f(*at(i)))
            return lax.fori_loop(0, busy, put, blank)

        return jax.shard_map(mine if self.on_cpu else jax.vmap(f), mesh=mesh, in_specs=ins, out_specs=outs, check_vma=False)
