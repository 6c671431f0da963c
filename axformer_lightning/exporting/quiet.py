"""Exporters say much that no user can act on."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quietly() -> Iterator[None]:
    """Hold back what exporters print, warn of and log below the level of errors.

    Example:
        >>> with quietly():
        ...     print("Translate the graph into ONNX...")
        ...     logging.getLogger("torch").warning("torchvision is not installed")
    """
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
