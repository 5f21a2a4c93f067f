"""What every recorded result carries: the machine, the date, the commit; and where results lie."""

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RESULTS = HERE / "results"


def machine() -> str:
    """The processor, its cores and the accelerator that JAX uses, in words; no host name, no path."""
    import jax

    model = "unknown processor"
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    used = "" if jax.default_backend() == "cpu" else f"{jax.devices()[0].device_kind}, "
    return f"{used}{model}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def commit() -> str:
    """The commit measured, with `+` where the tree had changes."""
    git = lambda *words: subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True, check=True).stdout.strip()
    dirty = "+" if git("status", "--porcelain", "--untracked-files=no", "--", "../src") else ""
    return git("rev-parse", "--short=12", "HEAD") + dirty


def stamp() -> dict[str, str]:
    import jax

    return {"machine": machine(), "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), "commit": commit(), "jax": jax.__version__}


def write(name: str, record: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Keep a result as `results/NAME.json`, one per name: a new measurement replaces the old, git keeps both."""
    path = folder / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    return path


def read(folder: str) -> dict[str, dict[str, Any]]:
    """Every result of a folder, by name."""
    return {p.stem: json.loads(p.read_text()) for p in sorted((RESULTS / folder).glob("*.json"))}
