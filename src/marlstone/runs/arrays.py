"""A folder of arrays that is checked before it is believed: what a checkpoint and a log of episodes are on the disk.

- `arrays.safetensors`: every leaf of a tree; arrays only, so loading runs nothing
- `manifest.json`: format, each leaf's name, shape and type, the size and SHA-256 of the arrays, the caller's fields (JSON),
  and the SHA-256 of the manifest itself

It is renamed into place only when both files are on the disk. A file of which one bit changed is refused, with its name.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from safetensors.numpy import load as from_bytes
from safetensors.numpy import save as to_bytes

from marlstone.core.errors import UserError
from marlstone.runs.files import PARTIAL, sha256_file, sync_folder, write_synced
from marlstone.runs.leaves import Leaf, leaves

FORMAT = 1
ARRAYS, MANIFEST = "arrays.safetensors", "manifest.json"


class Unreadable(UserError):
    """A folder of arrays that cannot be believed; the message names the file and what is wrong with it."""


def _canonical(manifest: dict[str, Any]) -> bytes:
    body = {k: v for k, v in manifest.items() if k != "manifest_sha256"}
    text = json.dumps(body, sort_keys=True, indent=1, allow_nan=False)
    signed = {**body, "manifest_sha256": hashlib.sha256(text.encode()).hexdigest()}
    return (json.dumps(signed, sort_keys=True, indent=1, allow_nan=False) + "\n").encode()


def _portable(array: np.ndarray) -> np.ndarray:
    """bfloat16 and its kin, which the file format's NumPy side does not know, as unsigned integers of their width."""
    return array.view(f"u{array.dtype.itemsize}") if array.dtype.kind == "V" else array


def prepared(target: Path, tree: Any, fields: dict[str, Any]) -> Path:
    """Write `tree` beside `target`, wait until it is on the disk, and return where it lies: rename it to `target`.

    Raises `UserError` for a leaf that is no array.
    """
    stored = leaves(tree)
    data = to_bytes({name: _portable(leaf.array) for name, leaf in stored.items()})
    manifest = {
        "format": FORMAT,
        **fields,
        "leaves": {n: {"shape": list(leaf.array.shape), "dtype": leaf.dtype, "impl": leaf.impl} for n, leaf in stored.items()},
        "arrays_bytes": len(data),
        "arrays_sha256": hashlib.sha256(data).hexdigest(),
    }
    partial = target.with_name(f"{PARTIAL}{target.name}")
    if partial.exists():  # of a process that was killed
        shutil.rmtree(partial)
    partial.mkdir()
    write_synced(partial / ARRAYS, data)
    write_synced(partial / MANIFEST, _canonical(manifest))
    sync_folder(partial)
    return partial


def placed(partial: Path, target: Path) -> Path:
    """Rename what was `prepared` into place, where nothing is."""
    os.rename(partial, target)
    sync_folder(target.parent)
    return target


def manifest_of(path: Path) -> dict[str, Any]:
    """The manifest of the folder at `path`, verified; the arrays are not. Raises `Unreadable`."""
    file = path / MANIFEST
    if not file.is_file():
        raise Unreadable(f"file {file} is missing")
    raw = file.read_bytes()
    try:
        manifest = json.loads(raw)
    except (ValueError, RecursionError) as error:  # bytes that are no UTF-8, no JSON, or brackets without end
        raise Unreadable(f"file {file} is truncated or altered: it does not read as JSON") from error
    if not isinstance(manifest, dict) or "manifest_sha256" not in manifest:
        raise Unreadable(f"file {file} is truncated or altered: it is no manifest")
    try:
        same = _canonical(manifest) == raw
    except ValueError:  # a NaN that nobody wrote
        same = False
    if not same:
        raise Unreadable(f"file {file} is altered: its checksum does not hold")
    if manifest["format"] != FORMAT:
        raise Unreadable(f"file {file} has format {manifest['format']}, this version reads {FORMAT}: use the version that wrote it")
    return manifest


def verified(path: Path) -> dict[str, Any]:
    """The manifest of the folder at `path`, after checking every byte of it. Raises `Unreadable`."""
    manifest = manifest_of(path)
    file = path / ARRAYS
    if not file.is_file():
        raise Unreadable(f"file {file} is missing")
    size = file.stat().st_size
    if size != manifest["arrays_bytes"]:
        raise Unreadable(f"file {file} is truncated or altered: {size} bytes instead of {manifest['arrays_bytes']}")
    if sha256_file(file) != manifest["arrays_sha256"]:
        raise Unreadable(f"file {file} is altered: its checksum does not hold")
    return manifest


def read(path: Path) -> dict[str, Leaf]:
    """The stored leaves by name, verified. Raises `Unreadable`."""
    manifest = verified(path)
    try:
        arrays = from_bytes((path / ARRAYS).read_bytes())
    except safetensors.SafetensorError as error:
        raise Unreadable(f"file {path / ARRAYS} does not read: {error}") from error
    stored = {}
    for name, entry in manifest["leaves"].items():
        array = arrays[name]
        if not entry["impl"] and str(array.dtype) != entry["dtype"]:
            array = array.view(np.dtype(entry["dtype"]))
        stored[name] = Leaf(array, entry["dtype"], entry["impl"])
    return stored
