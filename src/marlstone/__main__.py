"""`python -m marlstone` is `marlstone`."""

from marlstone.cli import entry

if __name__ == "__main__":
    entry()
