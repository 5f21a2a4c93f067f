"""The main module of every process of ours: `python -P -m marlstone.rollout.boot MODULE:FUNCTION NUMBER ...`.

The function is called with the numbers: descriptors that the process inherits, mostly (`process.Child`).
"""

import importlib
import sys
from collections.abc import Sequence


def main(words: Sequence[str]) -> None:
    """Run what the command line names."""
    module, _, function = words[0].partition(":")
    getattr(importlib.import_module(module), function)(*map(int, words[1:]))


if __name__ == "__main__":
    main(sys.argv[1:])
