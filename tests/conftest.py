"""What tests share: programs compiled once.

Tracing makes very many objects and hardly any cycles: looking for these less often makes tests a twentieth faster, in equal memory."""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from tests import compile_cache

gc.set_threshold(20_000, 10, 10)
SESSION = pytest.StashKey[tuple[Path, Path]]()
WORKER = "PYTEST_XDIST_WORKER" in os.environ
MOST = 3 * 2**30  # bytes


def pytest_configure(config: pytest.Config) -> None:
    """One folder of compiled programs for every test, worker and command of this session (`compile_cache`)."""
    if not WORKER:
        config.stash[SESSION] = compile_cache.begin()
        os.environ[compile_cache.CACHE] = str(config.stash[SESSION][0])
    # JAX hashes the folder of GPU autotuning, which lies in the session's, with every program: nothing would be found by another session
    os.environ["JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"] = ""
    jax.config.update("jax_persistent_cache_enable_xla_caches", "")
    jax.config.update("jax_compilation_cache_dir", str(compile_cache.programs(Path(os.environ[compile_cache.CACHE]))))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.03)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if not WORKER:
        passed = {pytest.ExitCode.OK: True, pytest.ExitCode.TESTS_FAILED: False}.get(pytest.ExitCode(exitstatus))
        compile_cache.end(*session.config.stash[SESSION], passed)


@pytest.fixture(scope="module", autouse=True)
def memory_bounded() -> Iterator[None]:
    """Programs that tests of other modules compiled are let go of once a process holds much: they are kept on disk."""
    yield
    if WORKER and resident() > MOST:
        jax.clear_caches()
        gc.collect()


def resident() -> int:
    """Bytes of memory that this process holds; 0 where the system does not say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


@pytest.fixture(scope="module")
def compiled_once() -> Iterator[None]:
    """Programs are kept by tests' own processes as well, and made in a hurry."""
    wanted = {
        "jax_compilation_cache_dir": str(compile_cache.programs(Path(os.environ[compile_cache.CACHE]))),
        "jax_persistent_cache_min_compile_time_secs": 0.03,
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
