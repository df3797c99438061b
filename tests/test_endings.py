"""How commands end: exit codes, even while library threads are still running."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from fer import data
from tests.conftest import Table, write_forms

INTERRUPTED_IN_AN_IMPORT = """
import sys
from fer import command

def main():
    import interrupted

command.run(main)
"""


def test_no_thread_of_arrow_reads_from_a_python_file(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It would call the interpreter while that ends, which aborts one process in three.
    files: list[Any] = []

    def remembered(read: Any) -> Any:
        def wrapped(file: Any, *arguments: Any, **options: Any) -> Any:
            files.append(file)
            return read(file, *arguments, **options)

        return wrapped

    for module, name in ((pyarrow.csv, "open_csv"), (pyarrow.parquet, "ParquetFile")):
        monkeypatch.setattr(module, name, remembered(getattr(module, name)))
    forms = write_forms(table, Path())
    # A name that is no UTF-8 is read as any other.
    for form, written in (("fer2013.csv", b"caf\xe9.csv"), ("parquet", b"caf\xe9.parquet")):
        before = len(files)
        path = forms[form].rename(os.fsdecode(written))
        assert len(data.read(path).labels) == len(table.labels)
        assert len(files) > before
    assert {type(file) for file in files} == {pa.OSFile}


@pytest.mark.parametrize(("ignored", "code"), [(False, 130), (True, 0)])
def test_ctrl_c_within_an_import_ends_at_once_unless_it_is_ignored(
    ignored: bool, code: int
) -> None:
    # C++ that imports may not be unwound: nothing after the signal may run.
    Path("interrupted.py").write_text(
        "import os, signal\n"
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\nfinally:\n    print('unwound')\n"
    )
    script = INTERRUPTED_IN_AN_IMPORT
    if ignored:  # as a shell does with what runs in the background
        script = f"import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n{script}"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (code, "")
    assert ("unwound" in done.stdout) == ignored
