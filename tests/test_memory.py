"""OOM and unsupported GPUs, simulated with fakes."""

from types import SimpleNamespace

import pytest
import torch

from fer.errors import UserError
from fer.training import memory
from fer.training.cuda import CudaStream
from fer.training.device import choose
from fer.training.memory import make_room, ran_out, tidy

GPU = torch.device("cuda", 0)
RAN_OUT = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    torch.AcceleratorError("CUDA error: out of memory"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("FIND was unable to find an engine to execute this computation"),
    RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
]
BROKEN = [
    ValueError("out of memory"),
    RuntimeError("cuDNN error: CUDNN_STATUS_BAD_PARAM"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"),
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
]


@pytest.mark.parametrize("error", RAN_OUT, ids=repr)
def test_what_libraries_say_when_memory_does_not_suffice_is_known(error: Exception) -> None:
    assert ran_out(error)


@pytest.mark.parametrize("error", BROKEN, ids=repr)
def test_other_errors_are_not_taken_for_it(error: Exception) -> None:
    assert not ran_out(error)


class Card:
    """Stands in for a GPU's memory: what is free, and what PyTorch keeps of it for others."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free: int, kept: int) -> None:
        self.free, self.kept, self.reserved = free, kept, kept
        self.returned: list[int] = []
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (self.free, 80 << 30))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: self.reserved)
        monkeypatch.setattr(memory, "give_back", self.give_back)

    def give_back(self) -> None:
        self.returned.append(self.kept)
        self.free, self.reserved, self.kept = self.free + self.kept, self.reserved - self.kept, 0

    def take(self, size: int) -> None:
        self.free, self.reserved = self.free - size, self.reserved + size


def test_memory_is_given_back_where_less_is_free_than_wanted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = Card(monkeypatch, free=10, kept=30)
    assert make_room(GPU, 10)
    assert not card.returned
    assert make_room(GPU, 11)
    assert len(card.returned) == 1
    assert not make_room(GPU, 41)


def test_after_a_trial_a_gpu_gives_memory_back_only_if_it_is_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = Card(monkeypatch, free=40 << 30, kept=30 << 30)
    for _ in range(100):
        tidy(GPU)
    assert not card.returned
    card.free = 9 << 30
    tidy(GPU)
    assert len(card.returned) == 1
    card.returned.clear()
    tidy(torch.device("cpu"))  # as ever
    assert len(card.returned) == 1


def test_a_capture_finds_room_for_what_its_run_still_wants(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = Card(monkeypatch, free=10, kept=30)
    stream = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "default_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    graph = SimpleNamespace(
        capture_begin=lambda pool, capture_error_mode: None,
        capture_end=lambda: None,
        replay=lambda: None,
    )
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
    captured = CudaStream(GPU)
    captured.begin_run(25)
    captured.capture(lambda: card.take(20))
    assert len(card.returned) == 1
    assert card.free == 20
    card.free = 5
    captured.capture(lambda: None)  # 20 of the 25 are there: no more is wanted
    assert len(card.returned) == 1
    card.free = 4
    with pytest.raises(RuntimeError, match="GiB are free for it"):
        captured.capture(lambda: None)  # cuDNN might choose other algorithms
    assert len(card.returned) == 2


def installed(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], made_for: list[str]
) -> None:
    """A card of some compute capability, and for what the installed PyTorch is made."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "NVIDIA Old")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: made_for)


@pytest.mark.parametrize("capability", [(3, 5), (7, 0)])
def test_a_card_that_is_too_old_for_the_installed_pytorch_is_named_and_auto_falls_back(
    capability: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    installed(monkeypatch, capability, ["sm_75", "sm_80", "sm_90a", "compute_90"])
    said = f"NVIDIA Old has compute capability {capability[0]}.{capability[1]}"
    with pytest.raises(UserError, match=said):
        choose("cuda")
    assert choose("auto").type == "cpu"
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert choose("cpu").type == "cpu"
    assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("capability", "made_for"),
    [
        ((7, 5), ["sm_75", "sm_80"]),
        ((8, 9), ["sm_75", "sm_80", "sm_86"]),  # of the same generation
        ((12, 0), ["sm_90", "compute_90"]),  # compiled by the driver
        ((10, 0), ["sm_100", "compute_120"]),
    ],
)
def test_a_card_for_which_pytorch_is_made_is_chosen(
    capability: tuple[int, int],
    made_for: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    installed(monkeypatch, capability, made_for)
    assert choose("cuda").type == choose("auto").type == "cuda"
    assert not capsys.readouterr().err
