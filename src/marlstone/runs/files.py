"""Writing so that nothing is ever half there: a temporary file beside the target, synced, then renamed over it."""

import hashlib
import os
import shutil
from pathlib import Path

PARTIAL = ".partial-"
"""Names of what was being written; a killed process may leave one behind, and nobody reads it."""


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file and wait until it is on the disk. Not atomic: for files inside a folder that is itself renamed."""
    with path.open("xb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())


def write_atomic(path: Path, data: bytes) -> None:
    """Replace `path` by `data`: readers see the old content or the new, never a part."""
    partial = path.with_name(f"{PARTIAL}{os.getpid()}-{path.name}")
    partial.unlink(missing_ok=True)
    write_synced(partial, data)
    os.replace(partial, path)
    sync_folder(path.parent)


def sweep(folder: Path) -> None:
    """Remove what a killed process left half-written in `folder`."""
    for left in folder.glob(PARTIAL + "*"):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
