"""Suppression of unwanted output on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Suppress warnings and all output on stderr; if the body raises, print the output after all.

    The file descriptor is redirected as well: TensorFlow's C++ core writes to it before it reads
    its log level.
    """
    sys.stderr.flush()
    with (
        tempfile.TemporaryFile() as held,
        os.fdopen(os.dup(held.fileno()), "w") as stream,
        contextlib.redirect_stderr(stream),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        saved = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            stream.flush()
            held.seek(0)
            os.write(saved, held.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
