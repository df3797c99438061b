"""A run resumed from a checkpoint is identical to an uninterrupted one."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load as deserialize
from safetensors.torch import load_file, save_file
from torch import Tensor

from fer.config import Config
from fer.data import Faces
from fer.errors import UserError
from fer.session import FaceSession
from fer.training import checkpoint
from fer.training.fit import Epoch, Run, fit
from fer.training.stream import HostStream, Mark
from tests.conftest import drawn_faces

CPU = torch.device("cpu")
KEPT = Path("kept.safetensors")


@pytest.fixture(scope="module")
def faces() -> Faces:
    return drawn_faces(70)


def config(optimizer: str, **settings: object) -> Config:
    return Config(**{"optimizer": optimizer, "lr": 0.002, "epochs": 3, "threads": 1, **settings})


def interrupted(settings: Config, faces: Faces, after: int) -> Run:
    """A run whose state after some epochs is kept."""
    run, epochs = Run(settings, faces, CPU), []
    for epoch in fit(run, faces):
        epochs.append(epoch)
        if epoch.number == after:
            break
    checkpoint.save(run, epochs, KEPT, "key")
    return run


@pytest.mark.parametrize(
    ("optimizer", "after"),
    [
        *(("adam", after) for after in (1, 2, 3)),
        *((name, 2) for name in ("adamw", "adamax", "sgd", "rmsprop", "adagrad", "asgd", "rprop")),
    ],
)
def test_every_optimizer_resumes_bit_for_bit(optimizer: str, after: int, faces: Faces) -> None:
    settings = config(
        optimizer,
        dropout=0.3,
        rotation=5.0,
        crop_padding=2,
        zoom=0.1,
        erasing=0.5,
        mirror_validation=True,
        schedule="constant" if optimizer == "rprop" else "one-cycle",
        momentum=0.9 if optimizer in ("sgd", "rmsprop") else 0.0,
    )
    whole = Run(settings, faces, CPU)
    undisturbed = list(fit(whole, faces))
    interrupted(settings, faces, after)
    run = Run(settings, faces, CPU)
    epochs = checkpoint.load(run, KEPT, "key")
    assert run.trained == len(epochs) == after
    epochs += fit(run, faces)
    for one, other in zip(epochs, undisturbed, strict=True):
        assert one.number == other.number
        assert (one.train_loss, one.loss) == (other.train_loss, other.loss)
        assert (one.confusion == other.confusion).all()
        assert one.right == other.right
    for name, tensor in whole.net.state_dict().items():
        assert torch.equal(run.net.state_dict()[name], tensor), name


def test_no_file_is_no_epoch(faces: Faces) -> None:
    assert checkpoint.load(Run(config("adam"), faces, CPU), KEPT, "key") == []


def test_what_is_damaged_or_of_another_run_is_unusable(faces: Faces) -> None:
    interrupted(config("adam"), faces, 1)
    whole = KEPT.read_bytes()
    tensors = {name: tensor.clone() for name, tensor in load_file(KEPT).items()}
    epochs = '{"key": "key", "epochs": "[]"}'

    def refuse(words: str, settings: Config | None = None) -> None:
        with pytest.raises(checkpoint.Unusable, match=words):
            checkpoint.load(Run(settings or config("adam"), faces, CPU), KEPT, "key")

    refuse("fc_width|dense1|size mismatch", config("adam", fc_width=9))
    for size in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        KEPT.write_bytes(whole[:size])
        refuse(".")
    KEPT.write_bytes(b"\x80\x04cos\nsystem\n(S'touch owned'\ntR.")
    refuse(".")
    assert not Path("owned").exists()
    save_file(tensors, KEPT, {"key": "another", "epochs": "[]"})
    refuse("another run")
    save_file(tensors, KEPT, None)
    refuse("another run")
    for text in ("{", "[1]", '[{"number": 1}]', epochs):
        save_file(tensors, KEPT, {"key": "key", "epochs": text})
        refuse(".")
    for name in ("generator", "net.dense1.0.weight", "optimizer.0.exp_avg"):
        changed = {**tensors, name: torch.zeros(3)}
        save_file(changed, KEPT, {"key": "key", "epochs": "[]"})
        refuse(".")
    for name in ("optimizer.99.step", "optimizer.x.step", "other"):
        save_file({**tensors, name: torch.zeros(3)}, KEPT, {"key": "key", "epochs": "[]"})
        refuse(".")


def test_a_trial_with_an_unusable_checkpoint_says_so_and_is_trained_from_its_seed(
    faces: Faces,
) -> None:
    session = FaceSession(lambda seed: (faces, faces), None, CPU)
    settings = config("adam").model_dump()
    undisturbed = list(session.train(settings, Path("calm"), "key"))
    KEPT.write_bytes(Path("calm").read_bytes()[:1000])
    said, *items = session.train(settings, KEPT, "key")
    assert isinstance(said, str)
    assert said.startswith("its checkpoint is unusable (")
    assert said.endswith("trained again from its seed")
    curves = [
        [(each.number, each.score, each.values) for each in trained if isinstance(each, Epoch)]
        for trained in (items, undisturbed)
    ]
    assert len(curves[0]) == 3
    assert curves[0] == curves[1]


def test_where_work_is_queued_all_is_copied_at_once_and_another_thread_writes_the_same_file(
    faces: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = interrupted(config("adam"), faces, 1)
    expected = KEPT.read_bytes()
    KEPT.unlink()
    monkeypatch.setattr(HostStream, "captures", True)
    mark, copied = run.mark, []

    def watched(seen: Tensor, source: Tensor) -> Mark:
        copied.append(source)
        return mark(seen, source)

    monkeypatch.setattr(run, "mark", watched)
    marks = 0
    for each in checkpoint.saving(run, [], KEPT, "key"):
        each.synchronize()
        marks += 1
    assert (len(copied), marks) == (1, 2)
    assert load_file(KEPT).keys() == deserialize(expected).keys()
    for name, tensor in deserialize(expected).items():
        assert torch.equal(load_file(KEPT)[name], tensor), name


def test_a_file_that_another_thread_cannot_write_says_so(
    faces: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = interrupted(config("adam"), faces, 1)
    monkeypatch.setattr(HostStream, "captures", True)
    folder = Path("folder")
    (folder / "kept.safetensors").mkdir(parents=True)
    with pytest.raises(UserError, match="directory"):
        checkpoint.save(run, [], folder / "kept.safetensors", "key")


@pytest.mark.parametrize(
    "failure",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError(),
    ],
    ids=repr,
)
def test_a_device_that_fails_while_a_checkpoint_is_read_says_nothing_of_the_checkpoint(
    failure: Exception, faces: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(config("adam"), faces, 1)
    before = KEPT.read_bytes()
    run = Run(config("adam"), faces, CPU)

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(run.net, "load_state_dict", fail)
    with pytest.raises(type(failure)):
        checkpoint.load(run, KEPT, "key")
    assert KEPT.read_bytes() == before


def test_a_checkpoint_that_cannot_be_written_leaves_the_old_one(faces: Faces) -> None:
    run = interrupted(config("adam"), faces, 1)
    before = KEPT.read_bytes()
    folder = Path("folder")
    folder.mkdir()
    (folder / "kept.safetensors").mkdir()
    with pytest.raises(UserError, match="directory"):
        checkpoint.save(run, [], folder / "kept.safetensors", "key")
    assert [path.name for path in folder.iterdir()] == ["kept.safetensors"]
    assert KEPT.read_bytes() == before
