"""The user's home and cache folders, and what serves where a container or a cluster has none."""

import os
import stat
import tempfile
from pathlib import Path

import platformdirs

NAME = "fer-study"
NOWHERE = Path(os.devnull)  # no file can be in it
# What libraries keep in the home, which complain or stop where they cannot.
OF_LIBRARIES = {
    "MPLCONFIGDIR": "matplotlib",
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
}


def settle() -> str:
    """Let a temporary folder serve this process, its libraries and its children where there is no
    home or it can't be written.

    Says where the cache is if it is not where it should be; else the text is empty. To be called
    before libraries are loaded and processes started.
    """
    home = os.path.expanduser("~")  # noqa: PTH111 - Path raises where there is none
    has_home = os.path.isabs(home) and os.access(home, os.X_OK)  # noqa: PTH117
    if not (has_home and _writable(Path(home))) and (spare := _spare()) is not None:
        if not has_home:
            os.environ["HOME"] = str(spare)
        for variable, folder in OF_LIBRARIES.items():
            os.environ.setdefault(variable, str(spare / folder))
        # Where memory can't be shared either joblib would warn; nothing here trains with it.
        os.environ.setdefault("JOBLIB_MULTIPROCESSING", "0")
    cache, *others = _folders()
    if others:
        why = f"the cache folder {cache} cannot be written"
    elif not has_home and "FER_CACHE" not in os.environ:
        why = "there is no home folder"
    else:
        return ""
    kept = (others or [cache])[0]
    where = "nowhere" if kept == NOWHERE else f"in {kept}"
    return f"{why}: what can be made again is kept {where} (FER_CACHE names a folder)"


def cached(name: str) -> Path:
    """The file `name` of what this program can make again: where it is, else where it is to be.

    In the folder FER_CACHE, by default the user's cache folder; what is not there is kept in a
    temporary one where it can't be written, else nowhere.
    """
    folders = _folders()
    found = (folder for folder in folders if os.path.isfile(folder / name))  # noqa: PTH113
    return next(found, folders[-1]) / name


def _folders() -> tuple[Path, ...]:
    """The folders of the cache, the last one for writing."""
    cache = cache_folder()
    if _writable(cache):
        return (cache,)
    spare = _spare()
    return cache, NOWHERE if spare is None else spare / ".cache" / NAME


def cache_folder() -> Path:
    """FER_CACHE, or the user's cache folder, whether or not it can be written."""
    if given := os.environ.get("FER_CACHE"):
        return Path(given)
    try:
        return Path(platformdirs.user_cache_dir(NAME))
    except RuntimeError:  # there is no home
        return NOWHERE


def _spare() -> Path | None:
    """A folder for temporary files that belongs to this user alone; None if there can't be one."""
    try:
        folder = Path(tempfile.gettempdir()) / f"{NAME}-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    # Others may write in the folder above, and compiled code is loaded from this one.
    alone = status.st_uid == os.getuid() and not status.st_mode & 0o22
    return folder if stat.S_ISDIR(status.st_mode) and alone else None


def _writable(folder: Path) -> bool:
    """Whether files can be made in a folder, which may have to be made first."""
    while not os.path.exists(folder) and folder != folder.parent:  # noqa: PTH110 - may be hidden
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
