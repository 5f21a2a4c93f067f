"""What a run ran on: resume is exact only on the same machine, with the same versions."""

import importlib.metadata
import platform
import sys
from typing import Any

from marlstone.core.machine import cores

PACKAGES = ("marlstone", "jax", "jaxlib", "optax", "numpy", "scipy", "gymnasium", "pettingzoo", "jumanji", "jaxmarl", "sumo-rl", "libsumo")
"""Whose versions can change a number."""


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, Any]:
    """Versions of Python and packages (absent ones left out), the machine, and JAX's devices if JAX is loaded."""
    found = {p: v for p in PACKAGES if (v := _version(p)) is not None}
    if "marlstone" not in found:
        from marlstone import __version__

        found = {"marlstone": __version__, **found}
    record: dict[str, Any] = {
        "python": platform.python_version(),
        "packages": found,
        "machine": {"system": platform.system(), "machine": platform.machine(), "cores": len(cores())},
    }
    if "jax" in sys.modules:
        devices = sys.modules["jax"].devices()
        record["machine"]["devices"] = [f"{d.platform}:{d.device_kind}" for d in devices]
    return record


def differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What changed between two such records, one readable line each; empty where a resume can be exact."""
    lines = [] if then.get("python") == now["python"] else [f"python {then.get('python')} -> {now['python']}"]
    before, after = then.get("packages", {}), now["packages"]
    lines += [
        f"{p} {before.get(p, 'absent')} -> {after.get(p, 'absent')}" for p in sorted({*before, *after}) if before.get(p) != after.get(p)
    ]
    known = "devices" in then.get("machine", {}) and "devices" in now["machine"]
    machine = lambda r: {k: v for k, v in r.get("machine", {}).items() if known or k != "devices"}
    return lines + ([] if machine(then) == machine(now) else [f"machine {machine(then)} -> {machine(now)}"])
