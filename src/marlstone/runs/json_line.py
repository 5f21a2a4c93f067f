"""A record as one line of JSON. Apart from the run's directory, whose checkpoints bring JAX: not every command needs that."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def plain(value: Any) -> Any:
    """`value` as JSON has it: NumPy numbers and arrays become Python's, and NaN or inf, which JSON lacks, null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def one_line(record: Mapping[str, Any]) -> str:
    """A record as one line of JSON."""
    return json.dumps(plain(record), allow_nan=False)
