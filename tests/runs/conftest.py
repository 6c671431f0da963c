"""The fixture that writes GLUE's official files."""

from tests.tasks.official import write_glue

__all__ = ["write_glue"]
