"""Files from strangers: read whole, but only if they are files and small."""

import os
import stat
from pathlib import Path

from fer.errors import UserError


def read_file(path: Path | str, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes.

    Raises UserError for anything else: devices and pipes could go on, or be waited for, for ever.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - Path takes thrice as long for 32,298 files
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"not a regular file: {path}")
        if status.st_size > limit:
            raise UserError(
                f"a file of {status.st_size:,} bytes, at most {limit:,} are read: {path}"
            )
        with open(path, "rb") as file:  # noqa: PTH123 - as above
            return file.read(status.st_size)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
