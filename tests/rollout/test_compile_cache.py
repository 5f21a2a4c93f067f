"""The cache of compiled programs stays below its bound: what was used longest ago goes, what is in use stays."""

import os
from pathlib import Path

import pytest

from marlstone.rollout.compile_cache import cache_folder, trim_cache


def test_the_oldest_go_first_until_three_quarters_are_left(tmp_path: Path) -> None:
    assert trim_cache(tmp_path / "nothing yet") == 0
    for i in range(10):
        file = tmp_path / f"program-{i}-cache"
        file.write_bytes(bytes(100))
        os.utime(file, (1000 + (i + 5) % 10, 900))  # number 5 was used longest ago
    assert trim_cache(tmp_path, 1000) == 0 and len(list(tmp_path.iterdir())) == 10
    assert trim_cache(tmp_path, 800) == 400
    assert sorted(int(f.name[8]) for f in tmp_path.iterdir()) == [0, 1, 2, 3, 4, 9]


def test_its_folder_is_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "marlstone" / "compiled"
