"""Compiled programs, kept between processes: where they lie, and how much room they may take."""

import os
from pathlib import Path

LARGEST = 256 * 2**20  # bytes; programs of about a thousand different configurations
AFTER = 0.75  # of `LARGEST` is left when the oldest are removed, so that this is not done at every start


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/marlstone/compiled`, else below `~/.cache`. It may be removed at any time: programs are then compiled anew."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "marlstone" / "compiled"


def trim_cache(folder: Path, largest: int = LARGEST) -> int:
    """Remove the files that were used longest ago, where all together take more than `largest` bytes. Other processes may use the folder
    meanwhile: a program that one of them does not find is compiled anew.

    Returns: the bytes removed.
    """
    files = []
    try:
        for entry in os.scandir(folder):
            if entry.is_file(follow_symlinks=False):
                stat = entry.stat(follow_symlinks=False)
                files.append((max(stat.st_atime, stat.st_mtime), stat.st_size, entry.path))
    except FileNotFoundError:  # nothing was compiled yet, or another process removes files too
        return 0
    total, removed = sum(size for _, size, _ in files), 0
    if total <= largest:
        return 0
    for _, size, path in sorted(files):
        if total - removed <= AFTER * largest:
            break
        Path(path).unlink(missing_ok=True)
        removed += size
    return removed
