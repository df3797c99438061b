"""Standard streams: lines for people, and streams that may break (closed pipe, full disk)."""

import io
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


def say(text: str, hang: int = 0, file: TextIO | None = None) -> None:
    """Print a line at once; on a terminal as `wrapped` to its width."""
    stream = sys.stdout if file is None else file
    is_terminal = stream is not None and stream.isatty()
    width = shutil.get_terminal_size().columns if is_terminal else None
    print(wrapped(text, width, hang), file=stream, flush=True)


def wrapped(text: str, width: int | None, hang: int = 0) -> str:
    """Wrap a line wider than `width` between words, indenting continuation lines by `hang`."""
    if width is None or len(text) <= width:
        return text
    return textwrap.fill(
        text,
        max(width, hang + 20),
        subsequent_indent=" " * hang,
        break_long_words=False,
        break_on_hyphens=False,
    )


class OutputLost(Exception):
    """Standard output can no longer be written; `reason` is the error."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(reason)
        self.reason = reason


class _Stream(io.FileIO):
    """A stream that discards what cannot be written, after raising once if it `matters`."""

    def __init__(self, descriptor: int, matters: bool) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._matters = matters

    def write(self, content: Any) -> int:
        try:
            return super().write(content) or len(content)  # None: a slow reader
        except OSError as error:
            if self._matters:
                self._matters = False
                raise OutputLost(error) from None
            return len(content)


@contextmanager
def output(lasting: bool) -> Iterator[None]:
    """Run the block with standard streams that discard output they can no longer write.

    If not `lasting`, a failed write to standard output raises OutputLost once. Characters that the
    encoding lacks are escaped. Streams that are not files, as in a notebook, are left unchanged.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _opened(sys.stdout, not lasting), _opened(sys.stderr, matters=False)
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    finally:
        for stream, former in zip((sys.stdout, sys.stderr), before, strict=True):
            if stream is not None and stream is not former:
                with suppress(OutputLost):
                    stream.flush()
        sys.stdout, sys.stderr = before


def _opened(stream: TextIO, matters: bool) -> TextIO:
    """Wrap the file of `stream` in a tolerant stream."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    buffer = stream.buffer
    if not isinstance(getattr(buffer, "raw", buffer), io.FileIO):
        return stream
    with suppress(OSError):
        stream.flush()
    raw: Any = _Stream(stream.fileno(), matters)
    return io.TextIOWrapper(
        raw if stream.write_through else io.BufferedWriter(raw),  # python -u is unbuffered
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def occupy_standard_streams() -> None:
    """Open the null device for closed standard streams.

    Otherwise the next opened file, such as a database, would be used as the stream.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
