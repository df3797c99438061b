"""Home and cache folders, with fallbacks for containers and clusters that have none."""

import os
import stat
import tempfile
from pathlib import Path

import platformdirs

NAME = "fer-study"
NOWHERE = Path(os.devnull)  # cannot contain files
# Folders that libraries create in the home directory, and complain or fail if they cannot.
OF_LIBRARIES = {
    "MPLCONFIGDIR": "matplotlib",
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "torchinductor",
}


def settle() -> str:
    """Set up a temporary folder for this process, its libraries and its children if the home is
    missing or read-only.

    Returns a note if the cache is not in its usual place, else "". Call it before libraries are
    loaded and processes started.
    """
    home = os.path.expanduser("~")  # noqa: PTH111 - Path raises where there is none
    has_home = os.path.isabs(home) and os.access(home, os.X_OK)  # noqa: PTH117
    if not (has_home and _writable(Path(home))) and (spare := _spare()) is not None:
        if not has_home:
            os.environ["HOME"] = str(spare)
        for variable, folder in OF_LIBRARIES.items():
            os.environ.setdefault(variable, str(spare / folder))
        # joblib would warn if shared memory is missing too; it is not used for training.
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
    return f"{why}: cache files are kept {where} (set FER_CACHE to choose a folder)"


def cached(name: str) -> Path:
    """Return the path of the cache file `name`: where it exists, else where to write it.

    Looks in FER_CACHE, by default the user's cache folder. If that is read-only, new files go to
    a temporary folder, or nowhere.
    """
    folders = _folders()
    found = (folder for folder in folders if os.path.isfile(folder / name))  # noqa: PTH113
    return next(found, folders[-1]) / name


def _folders() -> tuple[Path, ...]:
    """Return the cache folders; the last one is for writing."""
    cache = cache_folder()
    if _writable(cache):
        return (cache,)
    spare = _spare()
    return cache, NOWHERE if spare is None else spare / ".cache" / NAME


def cache_folder() -> Path:
    """Return FER_CACHE or the user's cache folder, whether or not it is writable."""
    if given := os.environ.get("FER_CACHE"):
        return Path(given)
    try:
        return Path(platformdirs.user_cache_dir(NAME))
    except RuntimeError:  # there is no home
        return NOWHERE


def _spare() -> Path | None:
    """Return a temporary folder that only this user can write to, or None if impossible."""
    try:
        folder = Path(tempfile.gettempdir()) / f"{NAME}-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    # The parent may be world-writable, and compiled code is loaded from this folder.
    alone = status.st_uid == os.getuid() and not status.st_mode & 0o22
    return folder if stat.S_ISDIR(status.st_mode) and alone else None


def _writable(folder: Path) -> bool:
    """Whether files can be created in a folder, which may not exist yet."""
    while not os.path.exists(folder) and folder != folder.parent:  # noqa: PTH110 - may be hidden
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
