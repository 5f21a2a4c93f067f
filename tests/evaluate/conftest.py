"""Programs are compiled once, as in the tests of the runtime."""

from tests.runtime.conftest import compiled_once  # noqa: F401
