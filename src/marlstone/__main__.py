"""`python -m marlstone`, the same as `marlstone`."""

import os
import sys

if sys.path and sys.path[0] == os.getcwd():  # `-m` puts it first, where a user's `queue.py` would be imported by every library
    sys.path.append(sys.path.pop(0))

from marlstone.cli import entry

if __name__ == "__main__":
    entry()
