"""Compiled programs, kept for all tests of a session, and for the next session on the same machine.

A session works in a folder of its own, so that a process which a test kills in the middle of writing spoils nothing that lasts. What a
session without failures compiled is kept, each program after it was read back whole, for sessions with the same JAX on the same processor.
"""

import hashlib
import os
import platform
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import jax
import jaxlib

CACHE = "XDG_CACHE_HOME"  # below which programs are kept, by the command line and by the tests
KEPT = 1 << 30  # bytes


def store() -> Path:
    """Where programs outlive a session: by versions and processor, since they are made for both."""
    info = Path("/proc/cpuinfo")
    flags = next((x for x in info.read_text().splitlines() if x.startswith("flags")), "") if info.exists() else platform.processor()
    made_for = hashlib.sha256(f"{jax.__version__} {jaxlib.__version__} {platform.machine()} {flags}".encode()).hexdigest()[:16]
    return Path(os.environ.get(CACHE) or Path.home() / ".cache") / "marlstone-tests" / made_for


def programs(session: Path) -> Path:
    """The folder of a session in which JAX keeps programs: the one that `marlstone` uses below `XDG_CACHE_HOME`."""
    return session / "marlstone" / "compiled"


def begin() -> tuple[Path, Path]:
    """A session's folder with all programs that are kept, and where these are."""
    kept, session = store(), Path(tempfile.mkdtemp(prefix="marlstone-tests-"))
    programs(session).mkdir(parents=True)
    for file in kept.glob("*-cache"):
        shutil.copyfile(file, programs(session) / file.name)
    return session, kept


def end(session: Path, kept: Path, passed: bool | None) -> None:
    """Keep what was compiled, if all tests `passed`; where one failed forget what was kept as well: it may be the cause. None: neither."""
    if passed:
        kept.mkdir(parents=True, exist_ok=True)
        for file in programs(session).glob("*-cache"):
            if not (kept / file.name).exists() and _whole(file):
                shutil.copyfile(file, kept / f".{file.name}.{os.getpid()}")
                os.replace(kept / f".{file.name}.{os.getpid()}", kept / file.name)
            elif (kept / file.name).exists():
                with suppress(FileNotFoundError):  # another session may have removed it
                    os.utime(kept / file.name)
        files = sorted(kept.glob("*-cache"), key=lambda x: x.stat().st_mtime, reverse=True)
        room = KEPT
        for file in files:
            room -= file.stat().st_size
            if room < 0:
                file.unlink(missing_ok=True)
    elif passed is False:
        shutil.rmtree(kept, ignore_errors=True)
    shutil.rmtree(session, ignore_errors=True)


def _whole(file: Path) -> bool:
    """Whether a program's file was written to its end."""
    from jax._src.compilation_cache import decompress_executable

    try:
        decompress_executable(file.read_bytes())
    except Exception:  # noqa: BLE001  each compressor has errors of its own, and none of them is worth more than a recompilation
        return False
    return True
