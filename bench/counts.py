"""Count kernels and Triton variants of the GPU path without a GPU: `python -m bench.counts`.

Runs the GPU's training step on a CPU, counts the operations that would launch kernels, and skips
the Triton kernels. Each call of PyTorch into the device counts as one kernel; a library may launch
two for it, so a profile (`python -m bench --device cuda`) shows slightly more.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fer import command
from fer.config import Config
from fer.data import Faces
from fer.errors import UserError
from fer.network import gpu_kernels, gpu_net
from fer.training import gpu_step
from fer.training.draws import Draws
from fer.training.fit import Run, step, to_device

CPU = torch.device("cpu")
# Operations besides views that launch nothing.
NOTHING = ("detach", "empty", "unsafe_view", "alias", "lift_fresh", "record_function")


class Launches(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations that would launch kernels, by name."""

    counts: Counter[str]

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counts = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[func.overloadpacket.__name__] += kernels_of(func, args)
        return func(*args, **(kwargs or {}))


def kernels_of(func: Any, args: tuple[Any, ...]) -> int:
    """Return how many kernels an operation launches on a GPU."""
    name = func.overloadpacket.__name__
    if func.is_view or any(word in name for word in NOTHING):
        return 0
    if name == "convolution":  # cuDNN, then the bias
        return 1 + int(args[2] is not None)
    if name == "convolution_backward":  # for the images, the weights, the bias
        return int(sum(args[-1]))
    if name == "addmm":  # an added matrix is copied first
        return 1 + int(args[0].dim() > 1)
    if name == "nll_loss_backward":  # zeros, then one per row
        return 2
    return 1


@contextmanager
def on_the_processor(run: Run, launched: list[tuple[Any, ...]]) -> Iterator[None]:
    """Make `run` take the GPU's steps, recording Triton launches in `launched`."""

    def write_down(kernel: Any, grid: Any, *arguments: Any) -> None:
        launched.append((kernel, arguments))

    def forward(images: Tensor, kept: Tensor | None = None) -> Tensor:
        return gpu_net.scores(run.net, images, kept)

    run.step, run.levels = gpu_step.step, gpu_step.levels_of(run)
    with (
        mock.patch.object(gpu_kernels, "launch", write_down),
        mock.patch.object(run.net, "forward", forward),
    ):
        yield


def made(config: Config) -> Run:
    """Return a run on a few random images."""
    images = torch.randint(0, 256, (14, 48, 48), generator=torch.Generator(), dtype=torch.uint8)
    faces = Faces(images, torch.arange(14) % 7, ("a", "b", "c", "d", "e", "f", "g"))
    changes = {"precision": "bfloat16", "oversample": "none", "threads": 1, "batch_size": 2}
    run = Run(config.model_copy(update=changes), faces, CPU, plain=True)
    run.begin_epoch()
    return run


def kernels_a_step(config: Config) -> Counter[str]:
    """Return the kernels of one training step on a GPU after a warm-up step, by name."""
    run, launched, counting = made(config), list[tuple[Any, ...]](), Launches()
    with on_the_processor(run, launched):
        run.step(run, 2)
        launched.clear()
        with counting:
            run.step(run, 2)
    counting.counts.update(kernel.__name__ for kernel, _ in launched)
    return +counting.counts


def operations_a_step(config: Config) -> Counter[str]:
    """Return the same for the reference step with PyTorch's own layers."""
    run, counting = made(config), Launches()
    step(run, 2)
    with counting:
        step(run, 2)
    return +counting.counts


def variant(kernel: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return what Triton specialises a kernel on: dtypes, constants, and whether integers are 1 or
    multiples of 16, unless the kernel opts out."""
    key: list[Any] = [kernel.__name__]
    for parameter, value in zip(kernel.params, arguments, strict=True):
        if isinstance(value, Tensor):
            key.append(str(value.dtype))
        elif parameter.is_constexpr:
            key.append(value)
        elif isinstance(value, float):
            key.append("float")
        else:
            special = not parameter.do_not_specialize and (value == 1, value % 16 == 0)
            key.append(("wide" if abs(value) >= 2**31 else "narrow", special))
    return tuple(key)


def variants_of(trials: list[Mapping[str, Any]]) -> set[tuple[Any, ...]]:
    """Return the variants of Triton kernels compiled for trials with these settings."""
    found = set()
    for settings in trials:
        run, launched = made(Config.model_validate(settings)), list[tuple[Any, ...]]()
        with on_the_processor(run, launched), mock.patch.object(run, "set_rate"):
            compute_nothing(run)
            run.step(run, 2)
        found |= {variant(*each) for each in launched}
    return found


def compute_nothing(run: Run) -> None:
    """Move a run's tensors to the meta device: shapes and dtypes only."""
    meta = torch.device("meta")
    run.net.to(meta)
    run.train = to_device(run.train, meta)
    run.draws = Draws(*(None if each is None else each.to(meta) for each in run.draws))  # type: ignore[arg-type]
    run.place, run.offsets, run.levels = (
        each.to(meta) for each in (run.place, run.offsets, run.levels)
    )


def drawn(space: str, count: int) -> list[Mapping[str, Any]]:
    """Return the settings of `count` random trials of a search space."""
    import optuna

    from study.spec.space import suggest
    from study.spec.spaces import SPACES

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    base = Config().settings()
    return [suggest(study.ask(), SPACES[space], base) for _ in range(count)]


@dataclass(frozen=True)
class Options:
    """Count the kernels of a GPU's training step, and the variants that Triton compiles."""

    trials: int = 100
    """Number of random trials per space to count variants for."""

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise UserError(f"--trials must be at least 1, got {self.trials}")


def main() -> None:
    options: Options = command.parse(Options, "bench.counts")
    print("kernels per training step of the report's network, by name")
    counts = kernels_a_step(Config())
    for name, count in counts.most_common():
        print(f"  {count:4} {name}")
    print(f"  {counts.total():4} total; {operations_a_step(Config()).total()} with PyTorch's own")
    for optimizer in ("sgd", "rmsprop", "adagrad", "adamax"):
        count = kernels_a_step(Config.model_validate({"optimizer": optimizer})).total()
        print(f"  {count:4} with {optimizer}, in its CPU version")
    for space in ("default", "extended"):
        count = len(variants_of(drawn(space, options.trials)))
        print(f"{count} Triton variants for {options.trials} trials of the {space} space")


if __name__ == "__main__":
    command.run(main)
