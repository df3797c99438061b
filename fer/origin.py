"""Where the settings in a file come from, and what is otherwise where they are trained now."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fer.command import printable, shortly
from fer.config import EMOTIONS, Config, read_yaml
from fer.errors import UserError

if TYPE_CHECKING:
    from fer.data import Dataset

Classes = Annotated[tuple[Literal[EMOTIONS], ...], Field(min_length=2)]  # type: ignore[valid-type]
Split = Literal["grouped", "stratified", "file-order"]


class Origin(BaseModel):
    """What settings were found on, or a run was trained on; None is what the file does not say."""

    model_config = ConfigDict(frozen=True)

    epochs: int = Field(ge=1)
    best_epoch: int | None = Field(
        None, ge=1
    )  # of these; the median where several seeds were trained
    threads: int | None = None
    data: str | None = None
    data_sha256: str | None = None
    classes: Classes | None = None
    split: Split | None = None
    split_seed: int | None = None
    subset: int | None = None
    holdout: float | None = None
    kernels: str | None = None


@dataclass(frozen=True)
class Images:
    """What is trained on of a data set: without the classes `remove`, `subset` of its images, a
    share `holdout` of these left out; the `whole` of what is left, or without validation."""

    remove: Sequence[str]
    subset: int | None
    split: Split
    split_seed: int
    holdout: float | None = None
    whole: bool = False


def read_provenance(path: Path) -> dict[str, Any]:
    """The `provenance` of a file of settings, as it stands there. Raises UserError."""
    return _section(read_yaml(path), "provenance", path)


def read_origin(path: Path, settings: Config) -> Origin:
    """Where the `settings` of a file come from: the images of its run, else those of the study.

    Raises UserError if that is not written as this program does.
    """
    content = read_yaml(path)
    name, told = "provenance", _section(content, "provenance", path)
    # Settings may be exported for longer trainings than those they were found in.
    then = {"epochs": settings.epochs, "threads": settings.threads or None, **told}
    if then["epochs"] != settings.epochs:
        then["best_epoch"] = None  # of another length
    if run := _section(content, "data", path):
        name, then = "data", {**then, **run, "data": run.get("name")}
        then["data_sha256"] = run.get("sha256")
        then |= {"epochs": settings.epochs, "threads": settings.threads or None}
    if then.get("split_seed") == "seed":  # each trial had its own
        then["split_seed"] = settings.seed
    try:
        return Origin.model_validate(then)
    except ValidationError as error:
        first = error.errors()[0]
        rule = first["msg"].replace("Input should be a valid string", "must be text")
        raise UserError(
            f"'{name}.{first['loc'][0]}' {rule}, got {shortly(first['input'])} in {path}"
        ) from None


def compare_origin(
    file: Path, origin: Origin, whole: "Dataset", now: Images, epochs: int, chosen: bool
) -> str:
    """In what settings are trained otherwise `now`, for `epochs`, on images of the data `whole`,
    than they were where they come from; in a line, which is empty if there is nothing to say.

    Raises UserError where the data is another one which no person has `chosen`.
    """
    if origin.data_sha256 is None:
        return ""
    removed = now.remove
    if origin.classes is not None:
        removed = [name for name in EMOTIONS if name not in origin.classes]
    words = []
    if other := _other_data(origin, whole, removed, now):
        if not chosen:
            raise UserError(
                f"other data: {other} ({file}); name the images to train on with --data"
            )
        words.append(f"data: {other}")
    words += [
        f"{name}: {then} then, {here} now"
        for name, then, here in _pairs(origin, whole, removed, now, epochs)
        if then != here
    ]
    return (
        printable(f"{file} was found under other conditions: {'; '.join(words)}") if words else ""
    )


def _other_data(origin: Origin, whole: "Dataset", removed: Sequence[str], now: Images) -> str:
    """How the data differs, in words; empty if it does not."""
    from fer import data

    # Leaving classes out changes the hash, and so may the order: arranged as it was there.
    here = data.arranged(whole, removed, origin.split or now.split)
    if here.sha256 == origin.data_sha256:
        return ""
    then = f"{origin.data} ({str(origin.data_sha256)[:12]})"
    return f"{then} then, {here.name} ({here.sha256[:12]}) now"


def _pairs(
    origin: Origin, whole: "Dataset", removed: Sequence[str], now: Images, epochs: int
) -> Iterator[tuple[str, str, str]]:
    """What may differ, as it was and as it is."""
    from fer.data import SEED, split_in_words

    classes = (_listed(removed), _listed(now.remove))
    yield "classes left out", *classes
    count = len(whole.without(now.remove).part("Training"))
    subset = None if now.subset == count else now.subset
    yield "images", _size(origin.subset), _size(subset)
    yield "held out", _share(origin.holdout), _share(now.holdout)
    if origin.split is not None:
        seed = SEED if origin.split_seed is None else origin.split_seed
        then = split_in_words(origin.split, seed)
        here = "none" if now.whole else split_in_words(now.split, now.split_seed)
        yield "validation", then, here
    yield "epochs", str(origin.epochs), str(epochs)


def _listed(names: Sequence[str]) -> str:
    return " ".join(name for name in EMOTIONS if name in names) or "none"


def _size(subset: int | None) -> str:
    return "all" if subset is None else f"{subset:,}"


def _share(holdout: float | None) -> str:
    return "none" if holdout is None else f"{100 * holdout:g}%"


def _section(content: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    section = content.get(key)
    if section is None:
        return {}
    if not isinstance(section, dict):
        raise UserError(f"'{key}' must hold keys and values, got {shortly(section)} in {path}")
    return section
