"""What tests share: programs compiled once.

Tracing makes very many objects and hardly any cycles: looking for these less often makes tests a twentieth faster, in equal memory."""

import gc
import os
from collections.abc import Iterator

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

gc.set_threshold(20_000, 10, 10)


@pytest.fixture(scope="module")
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Programs are kept between runs, modules and the processes of one pytest, as the command line keeps them; and made in a hurry."""
    base = tmp_path_factory.getbasetemp()
    folder = str((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled")
    wanted = {
        "jax_compilation_cache_dir": folder,
        "jax_persistent_cache_min_compile_time_secs": 0.2,
        "jax_disable_most_optimizations": True,
    }
    before = {k: jax.config.values[k] for k in wanted}
    with pytest.MonkeyPatch.context() as patch:
        for k, v in wanted.items():
            patch.setenv(k.upper(), str(v))
            jax.config.update(k, v)
        yield
    for k, v in before.items():
        jax.config.update(k, v)
    compilation_cache.reset_cache()
