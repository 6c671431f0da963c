"""What libraries log."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def errors_only(library: str) -> Iterator[None]:
    """Let a library log nothing below an error, where its warnings are about what is wanted.

    Args:
        library: name of its logger.

    Example:
        >>> with errors_only("some_library"):
        ...     logging.getLogger("some_library.part").isEnabledFor(logging.WARNING)
        False
        >>> logging.getLogger("some_library.part").isEnabledFor(logging.WARNING)
        True
    """
    logger = logging.getLogger(library)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
