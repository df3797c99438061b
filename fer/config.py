"""All hyperparameters of a training run in one frozen, typed class."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from fer.command import explain, shortly
from fer.errors import UserError
from fer.files import read_file, write_file

# Limits for YAML files of settings.
MAX_YAML = 100_000  # bytes
MAX_VALUE = 3000  # characters; below Python's limit for printing integers
MAX_DEPTH = 20  # levels

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""Class names in the label order 0..6 of every FER-2013 file."""
DEMO_EPOCHS = 4
"""Default number of epochs on the demo faces."""


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


Optimizer = Annotated[
    Literal["adam", "adamw", "adamax", "sgd", "rmsprop", "adagrad", "asgd", "rprop"],
    BeforeValidator(_lower),
]
Pooling = Literal["max", "average"]
WITH_MOMENTUM = ("sgd", "rmsprop")


class Config(BaseModel):
    """Hyperparameters of one training run. The defaults are the report's final settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    optimizer: Optimizer = Field("adam", description="Update rule.")
    lr: float = Field(2e-4, gt=0, le=10, description="Learning rate (peak of the schedule).")
    schedule: Literal["constant", "cosine", "one-cycle"] = Field(
        "constant", description="Learning rate schedule over all steps of the run."
    )
    momentum: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Momentum for SGD (Nesterov) and RMSprop; must be 0 otherwise.",
    )
    weight_decay: float = Field(
        0.0, ge=0, le=1, description="L2 penalty of the optimizer; decoupled for adamw."
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Share of each training label spread over all classes."
    )
    batch_size: int = Field(32, ge=2, le=4096, description="Images per step.")
    epochs: int = Field(30, ge=1, le=10_000, description="Passes over the training images.")
    channels1: int = Field(44, ge=1, le=512, description="Feature maps of block 1.")
    channels2: int = Field(40, ge=1, le=512, description="Feature maps of block 2.")
    channels3: int = Field(36, ge=1, le=512, description="Feature maps of block 3.")
    fc_width: int = Field(70, ge=1, le=8192, description="Units of the first dense layer.")
    pool1: Pooling = Field("max", description="Pooling of block 1 (3x3, stride 2).")
    pool2: Pooling = Field("max", description="Pooling of block 2 (3x3, stride 2).")
    pool3: Pooling = Field("average", description="Pooling of block 3 (3x3, stride 1).")
    output_activation: Literal["none", "tanh", "sigmoid", "softmax"] = Field(
        "tanh", description="Applied to the outputs before cross entropy."
    )
    conv_activation: Literal["prelu", "relu", "elu", "silu"] = Field(
        "prelu", description="Activation after each convolution."
    )
    norm: Literal["batch", "group", "none"] = Field(
        "batch", description="Normalisation after each pooling."
    )
    # The report's listing uses 0.5, its conclusion none; its loss curves match none.
    dropout: float = Field(0.0, ge=0, lt=1, description="Drop probability before the dense part.")
    scaling: Literal["zero-one", "minus-one-one"] = Field(
        "minus-one-one", description="Range the pixels are scaled to."
    )
    mirror: bool = Field(True, description="Mirror each training image with probability 1/2.")
    rotation: float = Field(
        0.0, ge=0, le=180, description="Rotate each training image by up to this many degrees."
    )
    crop_padding: int = Field(
        0, ge=0, le=24, description="Pad by this many pixels, then crop 48x48 at random."
    )
    zoom: float = Field(
        0.0, ge=0, lt=1, description="Enlarge or shrink each training image by up to this share."
    )
    erasing: float = Field(
        0.0, ge=0, le=1, description="Probability that a rectangle of a training image is erased."
    )
    oversample: Literal["none", *EMOTIONS] = Field(  # type: ignore[valid-type]
        "disgust",
        description="Class to oversample fourfold: images are mirrored, then all rotated.",
    )
    # After Normalize, ToPILImage reads grey p as 2p + 1 modulo 256 (figures 3a, 3b).
    copies: Literal["once", "twice"] = Field(
        "once",
        description="Scale the oversampled copies once, or twice as the report's code does.",
    )
    mirror_validation: bool = Field(
        False, description="Mirror validation images like training images, in each epoch."
    )
    tta: Literal["none", "mirror", "ten-crop"] = Field(
        "none", description="Views of an image whose scores are averaged for evaluation."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Precision of the convolutions; auto is bfloat16 if supported."
    )
    threads: int = Field(
        0, ge=0, le=1024, description="CPU threads, which affect rounding; 0 is all."
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of all randomness in the run.")

    @model_validator(mode="before")
    @classmethod
    def _read_older_settings(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get("batch_norm"), bool):
            values = {**values, "norm": "batch" if values["batch_norm"] else "none"}
            del values["batch_norm"]
        return values

    @model_validator(mode="after")
    def _only_what_the_optimizer_has(self) -> Self:
        lacking: list[tuple[str, Any]] = []
        if self.optimizer not in WITH_MOMENTUM:
            lacking.append(("momentum", 0.0))
        if self.optimizer == "rprop":  # it adapts its own step sizes
            lacking += [("weight_decay", 0.0), ("schedule", "constant")]
        for name, without in lacking:
            if getattr(self, name) != without:
                raise ValueError(
                    f"{name} = {getattr(self, name)}: {self.optimizer} has none, use {without}"
                )
        return self

    @model_validator(mode="after")
    def _only_what_the_reports_code_can_do(self) -> Self:
        if self.copies == "twice" and self.oversample == "none":
            raise ValueError("copies = twice: there are no copies, oversample a class or use once")
        if self.copies == "twice" and self.scaling != "minus-one-one":
            raise ValueError(
                f"copies = twice: it changes nothing with scaling = {self.scaling}, use once"
            )
        if self.mirror_validation and not self.mirror:
            raise ValueError(
                "mirror_validation = True: training images are not mirrored either, use False"
            )
        return self

    def settings(self) -> dict[str, Any]:
        """Return the values as plain Python types, in field order."""
        return self.model_dump()


PRESETS = {
    # The report's final model (chapters 4 to 6).
    "hand-tuned": Config(),
    # The report's starting point before tuning (figure 5a).
    "baseline": Config(
        epochs=20,
        output_activation="softmax",
        conv_activation="relu",
        scaling="zero-one",
        mirror=False,
        oversample="none",
    ),
    # The final model as the report's listing trains it: scaling copies twice is probably a bug.
    "reproduction": Config(copies="twice"),
    # Also validated as in the listing, with the transform of the training images.
    "reproduction-mirrored": Config(copies="twice", mirror_validation=True),
}


def read_config(path: Path) -> Config:
    """Read a Config from a YAML file: its `config` section, or the whole file if it has none.

    Raises UserError if the file cannot be read, has unknown keys or values out of range.
    """
    content = read_yaml(path)
    provenance = content.get("provenance")
    found = provenance if isinstance(provenance, dict) else {}
    if found.get("study") and not found.get("data_sha256", True):
        of = f"study {shortly(found['study'])} of another pipeline"
        raise UserError(f"not settings of fer.train: they are for {of}: {path}")
    return to_config(content.get("config", content), path)


def to_config(section: Any, path: Path) -> Config:
    """Parse the `section` of a file as a Config. Raise UserError if it is invalid."""
    if not isinstance(section, dict):
        raise UserError(f"'config' must hold keys and values, got {shortly(section)} in {path}")
    try:
        return Config.model_validate(section)
    except ValidationError as error:
        raise UserError(explain(error, str(path))) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping of plain values from a YAML file.

    Raises UserError if it is not one, or exceeds the limits on size and depth.
    """
    return parse_yaml(read_file(path, MAX_YAML), path)


def parse_yaml(text: bytes | str, path: Path) -> dict[str, Any]:
    """Parse the content of the file at `path` like `read_yaml`."""
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
        content = yaml.load(decoded, _PlainLoader)
    # The last two: invalid dates, numbers and characters.
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise UserError(f"not a YAML file: {path}: {str(error)[:300]}") from None
    if not isinstance(content, dict):
        raise UserError(f"not a mapping of keys to values: {path}")
    if not all(isinstance(key, str) for key in content):
        raise UserError(f"keys must be strings: {path}")
    return content


class _PlainLoader(yaml.SafeLoader):
    """Rejects aliases, tags, and values or nesting without bound."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        reason = None
        if event.anchor or getattr(event, "tag", None):
            reason = "anchors, aliases and tags are not allowed"
        elif isinstance(event, yaml.ScalarEvent) and len(event.value) > MAX_VALUE:
            reason = f"a value of {len(event.value):,} characters, at most {MAX_VALUE:,} allowed"
        elif self.depth == MAX_DEPTH:
            reason = f"more than {MAX_DEPTH} levels"
        if reason:
            raise yaml.MarkedYAMLError(problem=reason, problem_mark=event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:  # YAML silently keeps the last of two values
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key.value!r} appears twice", problem_mark=key.start_mark
                )
            seen.add((key.tag, str(key.value)))
        return node


def write_yaml(content: dict[str, Any], path: Path) -> None:
    """Write a mapping of plain types as YAML, in key order. May raise UserError."""
    write_file(path, yaml.safe_dump(content, sort_keys=False))
