"""Checkpoints: the whole train state as arrays, checked before they are believed.

One checkpoint is one folder, `step-<12 digits>`, renamed into place only when both of its files are on the disk:

- `arrays.safetensors`: every leaf of the state; arrays only, so loading runs nothing
- `manifest.json`: format, step, each leaf's name, shape and type, the size and SHA-256 of the arrays, the caller's meta
  (JSON), and the SHA-256 of the manifest itself

A file of which one bit changed is refused, with its name, what is wrong, and the last good checkpoint to resume from.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import load as from_bytes
from safetensors.numpy import save as to_bytes

from marlstone.core.errors import UserError
from marlstone.runs.files import PARTIAL, sha256_file, sweep, sync_folder, write_synced
from marlstone.runs.leaves import Leaf, leaves, mismatch, rebuild

FORMAT = 1
ARRAYS, MANIFEST, STEP = "arrays.safetensors", "manifest.json", "step-"


class CheckpointError(UserError):
    """A checkpoint that cannot be used; the message names the file, what is wrong and what to resume from instead."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files were verified. `step` counts joint env steps per seed; `meta` is the caller's."""

    path: Path
    step: int
    meta: dict[str, Any]


def _canonical(manifest: dict[str, Any]) -> bytes:
    body = {k: v for k, v in manifest.items() if k != "manifest_sha256"}
    text = json.dumps(body, sort_keys=True, indent=1, allow_nan=False)
    signed = {**body, "manifest_sha256": hashlib.sha256(text.encode()).hexdigest()}
    return (json.dumps(signed, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def _portable(array: np.ndarray) -> np.ndarray:
    """bfloat16 and its kin, which the file format's NumPy side does not know, as unsigned integers of their width."""
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array


def listed(folder: Path) -> list[Path]:
    """Checkpoints in `folder`, oldest first, unverified."""
    found = [p for p in folder.glob(STEP + "*") if p.name.removeprefix(STEP).isdecimal()]
    return sorted(found, key=lambda p: int(p.name.removeprefix(STEP)))


def save(folder: Path, step: int, tree: Any, meta: dict[str, Any], keep: int = 3) -> Path:
    """Write the checkpoint of `step` into `folder`, then forget all but the newest `keep`. Returns its path.

    Killed at any moment, this leaves the earlier checkpoints whole and no half-written one. `keep` is at least 2, so
    that something is left when the newest is damaged. Raises `UserError` for a leaf that is no array.
    """
    if keep < 2 or step < 0:
        raise UserError(f"checkpoint with keep = {keep} at step {step}: keep at least 2, at a step of at least 0")
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    stored = leaves(tree)
    data = to_bytes({name: _portable(leaf.array) for name, leaf in stored.items()})
    tree_of = {n: {"shape": list(leaf.array.shape), "dtype": leaf.dtype, "impl": leaf.impl} for n, leaf in stored.items()}
    manifest = {
        "format": FORMAT,
        "step": step,
        "meta": meta,
        "leaves": tree_of,
        "arrays_bytes": len(data),
        "arrays_sha256": hashlib.sha256(data).hexdigest(),
    }
    partial = folder / f"{PARTIAL}{STEP}{step:012d}"
    partial.mkdir()
    write_synced(partial / ARRAYS, data)
    write_synced(partial / MANIFEST, _canonical(manifest))
    sync_folder(partial)
    target = folder / f"{STEP}{step:012d}"
    if target.exists():
        _forget(target)
    os.rename(partial, target)
    sync_folder(folder)
    for old in listed(folder)[:-keep]:
        _forget(old)
    return target


def _forget(path: Path) -> None:
    """Remove a checkpoint so that it is there whole or not at all."""
    going = path.with_name(f"{PARTIAL}gone-{path.name}")
    if going.exists():
        shutil.rmtree(going)
    os.rename(path, going)
    shutil.rmtree(going)


def discard_after(folder: Path, step: int) -> list[Path]:
    """Remove checkpoints newer than `step`: resuming there starts another future. Returns what was removed."""
    newer = [p for p in listed(folder) if int(p.name.removeprefix(STEP)) > step]
    for path in newer:
        _forget(path)
    return newer


def _manifest(path: Path) -> dict[str, Any]:
    """The manifest of the checkpoint at `path`, verified. Raises `CheckpointError` without an offer."""
    file = path / MANIFEST
    if not file.is_file():
        raise CheckpointError(f"checkpoint file {file} is missing")
    raw = file.read_bytes()
    try:
        manifest = json.loads(raw)
    except (ValueError, RecursionError) as error:  # bytes that are no UTF-8, no JSON, or brackets without end
        raise CheckpointError(f"checkpoint file {file} is truncated or altered: it does not read as JSON") from error
    if not isinstance(manifest, dict) or "manifest_sha256" not in manifest:
        raise CheckpointError(f"checkpoint file {file} is truncated or altered: it is no manifest")
    try:
        same = _canonical(manifest) == raw
    except ValueError:  # a NaN that nobody wrote
        same = False
    if not same:
        raise CheckpointError(f"checkpoint file {file} is altered: its checksum does not hold")
    if manifest["format"] != FORMAT:
        raise CheckpointError(
            f"checkpoint file {file} has format {manifest['format']}, this version reads {FORMAT}: use the version that wrote it"
        )
    return manifest


def _verified(path: Path) -> dict[str, Any]:
    manifest = _manifest(path)
    file = path / ARRAYS
    if not file.is_file():
        raise CheckpointError(f"checkpoint file {file} is missing")
    size = file.stat().st_size
    if size != manifest["arrays_bytes"]:
        raise CheckpointError(f"checkpoint file {file} is truncated or altered: {size} bytes instead of {manifest['arrays_bytes']}")
    if sha256_file(file) != manifest["arrays_sha256"]:
        raise CheckpointError(f"checkpoint file {file} is altered: its checksum does not hold")
    return manifest


def verify(path: Path) -> Checkpoint:
    """The checkpoint at `path`, after checking every byte. Raises `CheckpointError`, offering the last good one."""
    if not path.is_dir():
        raise CheckpointError(f"checkpoint {path} does not exist{_offer(path)}")
    try:
        manifest = _verified(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error}{_offer(path)}") from error
    return Checkpoint(path, manifest["step"], manifest["meta"])


def latest_good(folder: Path) -> Checkpoint | None:
    """The newest checkpoint in `folder` whose every byte is as written, or None."""
    return _newest_good(listed(folder))


def _newest_good(paths: list[Path]) -> Checkpoint | None:
    for path in reversed(paths):
        try:
            manifest = _verified(path)
        except CheckpointError:
            continue  # damaged: an older one may be whole
        return Checkpoint(path, manifest["step"], manifest["meta"])
    return None


def _offer(path: Path) -> str:
    good = _newest_good([p for p in listed(path.parent) if p.name != path.name])
    return f"; resume from {good.path} instead" if good else "; no other checkpoint of this run is good: start a new run"


def newest(folder: Path) -> Checkpoint:
    """The newest checkpoint, which must be good: going back in time is for a person to decide, so an older one is offered, not taken."""
    paths = listed(folder)
    if not paths:
        raise CheckpointError(f"{folder} holds no checkpoint: the run was stopped before its first; start a new run")
    return verify(paths[-1])


def read(path: Path) -> dict[str, Leaf]:
    """The stored leaves by name, verified. Raises `CheckpointError`."""
    verify(path)
    manifest = _manifest(path)
    try:
        arrays = from_bytes((path / ARRAYS).read_bytes())
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"checkpoint file {path / ARRAYS} does not read: {error}{_offer(path)}") from error
    stored = {}
    for name, entry in manifest["leaves"].items():
        array = arrays[name]
        if not entry["impl"] and str(array.dtype) != entry["dtype"]:
            array = array.view(np.dtype(entry["dtype"]))
        stored[name] = Leaf(array, entry["dtype"], entry["impl"])
    return stored


def load(path: Path, like: Any) -> tuple[Any, dict[str, Any]]:
    """`(tree, meta)` of the checkpoint at `path`; `like` gives structure, shapes and types (arrays or `ShapeDtypeStruct`s).

    Raises `CheckpointError` for a damaged checkpoint, and for one of another configuration, naming the first leaf that differs.
    """
    stored = read(path)
    if (why := mismatch(stored, like)) is not None:
        raise CheckpointError(
            f"checkpoint {path} is of another configuration: {why}; resume with the run's own config.toml, or take what fits with --from"
        )
    return rebuild(stored, like), _manifest(path)["meta"]
