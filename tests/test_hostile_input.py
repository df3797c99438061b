"""Untrusted files execute no code, use little memory, and give data or a one-line error."""

import functools
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from fer import data, runs
from fer.command import printable, shortly
from fer.config import EMOTIONS, Config, read_config, read_yaml, write_yaml
from fer.data import cache, faces
from fer.data.decode import decode, decode_face, read_face
from fer.errors import UserError
from fer.network.model import Net
from fer.origin import read_origin, read_provenance
from tests.conftest import Command, Table, frame
from tests.test_bad_input import refused

bounded = settings(max_examples=120, deadline=None)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write_run(folder: Path) -> None:
    """A run that was never trained, on two classes."""
    config, generator = Config(fc_width=1), torch.Generator().manual_seed(0)
    trained_on = runs.TrainedOn("demo", "0" * 64, ("angry", "fear"), "grouped", None)
    runs.new_run(folder, runs.Plan(config, trained_on, {}))
    runs.save_weights(folder, Net(config, 2, generator), 1)


@st.composite
def damaged(draw: st.DrawFn, contents: list[bytes], words: tuple[bytes, ...] = ()) -> bytes:
    """One of `contents`, with bytes overwritten, pieces inserted or cut out, and its end lost."""
    content = bytearray(draw(st.sampled_from(contents)))
    piece = st.binary(min_size=1, max_size=4)
    if words:
        piece |= st.sampled_from(words)
    for _ in range(draw(st.integers(1, 4))):
        at, new = draw(st.integers(0, len(content))), draw(piece)
        content[at : at + draw(st.sampled_from([0, 1, len(new), 8]))] = new
    return bytes(content[: draw(st.sampled_from([len(content)] * 4 + [len(content) // 2]))])


def assert_one_line(error: UserError, *names: object) -> None:
    line = printable(str(error))
    assert line.isprintable()
    assert len(line) <= 2010
    line.encode()
    for name in names:
        assert str(name) in line, line


# Memory and time: everything is read by one process that may take 1,000 MB more.

READER = """
import json, resource, sys
from pathlib import Path
from fer import data
from fer.config import read_config
from fer.data.decode import read_face
from fer.errors import UserError

pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + (1000 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
readers = {"table": data.read_table, "face": lambda path: read_face(str(path)),
           "yaml": read_config, "any": data.locate}
for kind, path in json.load(sys.stdin):
    try:
        readers[kind](Path(path))
        print("all well", flush=True)
    except UserError as error:
        print(str(error).replace("\\n", " "), flush=True)
"""


def sparse(path: Path, start: bytes = b"") -> Path:
    """A file of 100 GB that takes no room on the disk."""
    path.write_bytes(start)
    os.truncate(path, 100_000_000_000)
    return path


def flat_png(bits: int, kind: int) -> bytes:
    """A PNG image of 8000x8000 zeros; 6 is the kind with colours and transparency, 0 is grey."""
    line = bytes(1 + 8000 * (bits // 8) * (4 if kind == 6 else 1))
    packer = zlib.compressobj(1)
    packed = b"".join([packer.compress(line) for _ in range(8000)]) + packer.flush()
    header = struct.pack(">IIBBBBB", 8000, 8000, bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    )


def large_inputs(root: Path) -> list[tuple[str, Path, str]]:
    """(reader, file, what must be said of it)."""
    os.mkfifo(root / "pipe")
    (root / "link").symlink_to("/dev/zero")
    (root / "folder").mkdir()
    (root / "folder" / "pipe.parquet").symlink_to(root / "pipe")
    large = [
        ("face", sparse(root / "sparse.jpg"), "at most 67,108,864 are allowed"),
        ("face", root / "pipe", "not a regular file"),
        ("face", root / "link", "not a regular file"),
        ("face", root, "not a regular file"),
        ("yaml", sparse(root / "sparse.yaml"), "at most 100,000 are allowed"),
        ("yaml", root / "pipe", "not a regular file"),
        ("yaml", Path("/dev/zero"), "not a regular file"),
        ("any", root / "pipe", "neither a file nor a folder"),
        ("any", root / "folder", "no supported format"),
        ("table", sparse(root / "sparse.csv"), "not a supported format"),
        ("table", sparse(root / "long.csv", b"emotion,pixels\n0,"), "not a valid CSV file"),
        (
            "table",
            sparse(root / "wide.csv", "emotion,pixels\n".encode("utf-16")),
            "save it as UTF-8",
        ),
        ("table", sparse(root / "sparse.parquet", b"PAR1"), "not a valid parquet file"),
    ]

    def add(reader: str, name: str, content: bytes, said: str) -> None:
        (root / name).write_bytes(content)
        large.append((reader, root / name, said))

    add("table", "columns.csv", b"emotion,pixels" + b"," * 50_000_000, "not a supported format")
    # Bombs of levels and of repetition.
    add("yaml", "deep.yaml", b"[" * 90_000, "more than 20 levels")
    laughs = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    add("yaml", "laughs.yaml", "\n".join(["a0: &a0 ha", *laughs]).encode(), "aliases")
    # 64 million pixels, and what Pillow would need for them at once.
    add("face", "wide.png", flat_png(16, 0), "all well")
    add("face", "clear.png", flat_png(8, 6), "all well")
    scans = encoded(Image.new("L", (4000, 4000)), "JPEG", progressive=True)
    scan = scans[scans.rindex(b"\xff\xda") : -2]
    add("face", "scans.jpg", scans[:-2] + scan * 50_000 + scans[-2:], "too many scans")
    # Values that are small in the file alone.
    label = pa.array(np.zeros(100_000, np.int8))
    shared = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int32)), [
        encoded(Image.new("L", (9, 9))) + bytes(2_000_000)
    ])  # fmt: skip
    write = functools.partial(pyarrow.parquet.write_table, write_statistics=False)
    rows = pa.table({"image": shared, "emotion": label})
    write(rows, root / "shared.parquet", store_schema=False)
    large.append(("table", root / "shared.parquet", "all well"))
    zeros = pa.table({"image": [bytes(540_000_000)], "emotion": [0]})
    write(zeros, root / "zeros.parquet", compression="zstd", use_dictionary=False)
    large.append(("table", root / "zeros.parquet", "at most 536,870,912 are allowed"))
    zeros = pa.table({"image": [bytes(70_000_000)], "emotion": [0]})
    write(zeros, root / "large.parquet", compression="zstd", use_dictionary=False)
    large.append(("table", root / "large.parquet", "at most 67,108,864 are allowed"))
    many = pa.table({"image": pa.nulls(600_000, pa.binary()), "emotion": [0] * 600_000})
    write(many, root / "many.parquet")
    large.append(("table", root / "many.parquet", "at most 500,000 images"))
    return large


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits memory as Linux does")
def test_large_inputs_are_read_or_refused_in_little_memory(tmp_path: Path) -> None:
    inputs = large_inputs(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", READER],
        input=json.dumps([(reader, str(path)) for reader, path, _ in inputs]),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert not done.stderr
    outcomes = done.stdout.splitlines()
    assert len(outcomes) == len(inputs)
    for (reader, path, said), outcome in zip(inputs, outcomes, strict=True):
        assert said in outcome, (reader, path.name, outcome)


# Images.

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))
EXIF = Image.Exif()
EXIF[0x0112], EXIF[0x8769], EXIF[0x8825] = 6, {0x9000: b"0230"}, {1: "N"}
IMAGES = [
    *(encoded(PICTURE, kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "PPM", "WEBP")),
    *(encoded(PICTURE, kind, exif=EXIF) for kind in ("PNG", "JPEG", "WEBP")),
    *(encoded(PICTURE, "TIFF", compression=kind) for kind in (None, "tiff_lzw", "jpeg")),
    *(encoded(PICTURE.convert(mode), "TIFF") for mode in ("LAB", "F", "I", "RGBA", "LA", "1")),
    encoded(PICTURE, "TIFF", big_tiff=True),
    encoded(PICTURE.convert("P"), "GIF", save_all=True, append_images=[PICTURE.rotate(90)]),
    b"Pf\n2 2\n-1.0\n" + struct.pack("<4f", np.nan, np.inf, -np.inf, 1e38),
    b"P3\n2 2\n255\n1 2 3 1 2 3 1 2 3 1 2 3",
    b"P5 0 0 255 ",
]


@settings(max_examples=200, deadline=None)
@given(damaged(IMAGES) | st.sampled_from(IMAGES))
def test_a_damaged_image_is_read_or_refused(content: bytes) -> None:
    try:
        assert decode_face(content, "face.png").shape == (48, 48)
    except UserError as error:
        assert_one_line(error, "face.png")


def test_a_damaged_image_is_reported_once(capfd: pytest.CaptureFixture[str]) -> None:
    content = encoded(PICTURE, "TIFF", compression="tiff_lzw").replace(b"\x80", b"\xff")
    with pytest.raises(UserError, match="broken image"):
        decode_face(content, "face.tif")
    assert capfd.readouterr().err == ""


def test_a_kind_of_image_that_needs_another_program_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, own_folder: Path
) -> None:
    Path("gs").write_text("#!/bin/sh\necho > started\n")
    Path("gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{own_folder}:{os.environ['PATH']}")
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    with pytest.raises(UserError, match="EPS") as caught:
        decode_face(eps, "face.jpg")
    assert_one_line(caught.value, "face.jpg", "JPEG, PNG")
    assert not Path("started").exists()
    heic = b"\0\0\0\x18ftypheic"
    with pytest.raises(UserError, match="HEIC"):
        decode_face(heic, "face.jpg")


def test_an_image_is_set_upright_as_its_metadata_asks() -> None:
    half = Image.fromarray(np.repeat(np.array([0, 255], np.uint8), 48 * 48).reshape(96, 48))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise: the dark half goes to the right
    face = decode_face(encoded(half.crop((0, 24, 48, 72)).resize((96, 96)), exif=exif), "x")
    assert face[:, 47].max() == 0
    assert face[:, 0].min() == 255


# Parquet.


def parquet(columns: dict[str, Any], metadata: bytes | None = None, **options: Any) -> bytes:
    table = pa.table(columns)
    if metadata is not None:
        table = table.replace_schema_metadata({b"huggingface": metadata})
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer, **options)
    return buffer.getvalue()


SMALL = encoded(Image.new("L", (8, 8), 3))
CLASSES = json.dumps({"info": {"features": {"label": {"names": ["sad", "fear"]}}}}).encode()
PLAIN = {"image": [SMALL] * 3, "emotion": [0, 1, 2], "usage": ["Training"] * 3}
NESTED = {"image": [{"bytes": SMALL, "path": "x"}] * 2, "label": [0, 1]}
DELTA = {"image": "DELTA_BYTE_ARRAY", "emotion": "PLAIN", "usage": "DELTA_LENGTH_BYTE_ARRAY"}
DELTA_FILE = parquet(PLAIN, use_dictionary=False, column_encoding=DELTA)
PARQUETS = [
    parquet(PLAIN),
    parquet(PLAIN, compression="none"),
    parquet(PLAIN, use_dictionary=False, compression="zstd", data_page_version="2.0"),
    DELTA_FILE,
    parquet(NESTED, CLASSES),
]


def read_bytes(content: bytes) -> data.tables.Rows:
    Path("faces").write_bytes(content)
    return data.read_table(Path("faces"))


@settings(max_examples=200, deadline=None)
@given(damaged(PARQUETS))
def test_a_damaged_parquet_file_is_read_or_refused(content: bytes) -> None:
    try:
        assert read_bytes(content).images.shape[1:] == (48, 48)
    except UserError as error:
        assert_one_line(error, "faces")


def test_a_parquet_file_whose_sizes_are_damaged_does_not_end_the_program() -> None:
    """PyArrow aborts where a column's statistics do not fit its type."""
    whole = parquet(PLAIN, compression="none")
    for at in range(len(whole) - 700, len(whole) - 8):
        for value in (0, 25):
            content = bytearray(whole)
            content[at] = value
            try:
                read_bytes(bytes(content))
            except UserError as error:
                assert_one_line(error, "faces")


def test_a_place_outside_a_dictionary_is_refused() -> None:
    many = [bytes([i]) * 9 for i in range(3)]
    columns = {"image": many, "emotion": [0, 1, 2]}
    content = parquet(columns, compression="none", use_dictionary=["image"])
    # The places 0, 1, 2 of the images, two bits each, after the bit width.
    assert content.count(b"\x02\x03\x24") == 1
    with pytest.raises(UserError, match="not a valid parquet file"):
        read_bytes(content.replace(b"\x02\x03\x24", b"\x02\x03\x3f"))


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ({"image": [1]}, ["'image'", "encoded images", "int64"]),
        ({"image": ["text"]}, ["'image'", "encoded images", "string"]),
        ({"image": [[b"list"]]}, ["'image'", "encoded images", "list"]),
        ({"image": [{"path": "x"}]}, ["'image'", "encoded images", "struct"]),
        ({"image": [None]}, ["'image'", "null"]),
        ({"image": pa.array([None], pa.binary())}, ["encoded image", "None", "row 1"]),
        ({"image": pa.array([{"bytes": None}], pa.struct({"bytes": pa.binary()}))}, ["row 1"]),
        ({"emotion": [1.0]}, ["'emotion'", "integers or text", "double"]),
        ({"emotion": [[1]]}, ["'emotion'", "integers or text", "list"]),
        ({"emotion": [None]}, ["'emotion'", "null"]),
        ({"emotion": pa.array([None], pa.int8())}, ["0..6", "None", "row 1"]),
        ({"emotion": ["a" * 2000]}, ["2,000 bytes", "at most 1,000"]),
        ({"emotion": [2**60]}, ["0..6", "row 1"]),
        ({"usage": [1]}, ["'usage'", "text", "int64"]),
        ({"usage": ["a" * 2000]}, ["2,000 bytes"]),
        ({"Emotion": [0]}, ["'emotion'", "twice"]),
        ({"emotion.more": [bytes(9)]}, []),
    ],
)
def test_columns_of_other_types_are_named(columns: dict[str, Any], names: list[str]) -> None:
    good = {"image": [SMALL], "emotion": [0]}
    content = parquet({**good, **columns})
    if not names:
        assert len(read_bytes(content).labels) == 1
        return
    with pytest.raises(UserError) as caught:
        read_bytes(content)
    assert_one_line(caught.value, *names, "faces")


def test_text_that_is_no_utf_8_is_refused() -> None:
    content = parquet({"image": [SMALL], "emotion": ["happy"]}, compression="none")
    with pytest.raises(UserError, match="not a valid parquet file"):
        read_bytes(content.replace(b"happy", b"h\xffppy"))


def test_values_are_read_however_they_are_encoded() -> None:
    kinds = [PARQUETS[0], DELTA_FILE, parquet(PLAIN, use_dictionary=False)]
    large = {**PLAIN, "image": pa.array(PLAIN["image"], pa.large_binary())}
    coded = {**PLAIN, "emotion": pa.array(["angry", "disgust", "fear"]).dictionary_encode()}
    numbers = {**PLAIN, "emotion": pa.array([0, 1, 2]).dictionary_encode()}
    for content in (*kinds, parquet(large), parquet(coded), parquet(numbers)):
        assert read_bytes(content).labels.tolist() == [0, 1, 2]
    assert read_bytes(parquet(NESTED, CLASSES)).labels.tolist() == [4, 2]


def test_an_image_that_rows_share_is_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []

    def noted(content: bytes, place: str) -> Any:
        decoded.append(place)
        return decode(content, place)

    monkeypatch.setattr(data.parquet, "decode", noted)
    read_bytes(parquet({"image": [SMALL, b"P5 1 1 9 \1", SMALL, SMALL], "emotion": [0] * 4}))
    assert decoded == ["faces row 1", "faces row 2"]


@pytest.mark.parametrize(
    "metadata",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b'"text"',
        b"[" * 100_000,
        b"9" * 5000,
        b'{"info": 3}',
        b'{"info": {"features": []}}',
        b'{"info": {"features": {"label": "x"}}}',
        b'{"info": {"features": {"label": {"names": {}}}}}',
        b'{"info": {"features": {"label": {"names": [1, 2]}}}}',
        b'{"info": {"features": {"label": {"names": []}}}}',
    ],
)
def test_metadata_without_class_names_names_no_classes(metadata: bytes) -> None:
    with pytest.raises(UserError, match="numbers without class names"):
        read_bytes(parquet(NESTED, metadata))


# CSV.

PIXELS = " ".join(str(i % 256) for i in range(48 * 48))
CSVS = [
    f"emotion,pixels,Usage\n0,{PIXELS},Training\n3,{PIXELS},PublicTest\n".encode(),
    f'emotion,pixels\n"0","{PIXELS}"\n6,{PIXELS}\n'.encode(),
    f"emotion;pixels\n0;{PIXELS}\n6;{PIXELS}\n".encode("utf-16"),
]
WORDS = ('"', ",", "\n", "\r", "\0", "²", "٣", "-1", "256", "9" * 5000, "\u2003", "\ufeff", "a\\")


@bounded
@given(damaged(CSVS, tuple(word.encode() for word in WORDS)))
def test_a_damaged_csv_file_is_read_or_refused(content: bytes) -> None:
    try:
        assert read_bytes(content).images.shape[1:] == (48, 48)
    except UserError as error:
        assert_one_line(error, "faces")


@pytest.mark.parametrize("pixel", ["²", "٣", "9" * 5000, "+1", "1\0", "1_0", "\x1b[31m"])
def test_a_non_numeric_pixel_is_named_with_its_line(pixel: str) -> None:
    content = f"emotion,pixels\n0,{PIXELS}\n1,{pixel}{PIXELS[1:]}\n"
    with pytest.raises(UserError) as caught:
        read_bytes(content.encode())
    assert_one_line(caught.value, "0..255", "line 3")


def test_a_column_that_is_there_twice_is_named() -> None:
    with pytest.raises(UserError) as caught:
        read_bytes(f"emotion,pixels, Emotion\n0,{PIXELS},1\n".encode())
    assert_one_line(caught.value, "'emotion'", "twice")


def test_a_quoted_header_is_read() -> None:
    assert read_bytes(f'"emotion","pixels"\n"3","{PIXELS}"\n'.encode()).labels.tolist() == [3]


def old_tar(name: bytes) -> bytes:
    """The header of a tar file from before its magic, and a CSV file behind it."""
    fields = (b"0000644", b"0000000", b"0000000", b"00000000144", b"00000000000")
    start = name.ljust(100, b"\0") + b"".join(field + b"\0" for field in fields)
    start += b" " * 8 + b"0"
    header = bytearray(start.ljust(512, b"\0"))
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + b"emotion,pixels,Usage\n0,1 2 3,Training\n"


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"PK\3\4", "zip"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"BZh9", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
        (b"Rar!\x1a\7", "rar"),
        (b"fer2013/fer2013.csv".ljust(257, b"\0") + b"ustar\x0000", "tar"),
        (old_tar(b"fer2013/fer2013.csv"), "tar"),
    ],
)
def test_an_archive_is_to_be_unpacked_first(
    start: bytes, kind: str, command: Command, own_folder: Path
) -> None:
    Path("faces.csv").write_bytes(start + bytes(600))
    names = ["archives are not read", kind, "faces.csv"]
    refused(command, own_folder, names, "fer.train", "--data", "faces.csv")


# Settings.

YAMLS = [
    b"lr: 0.1\noptimizer: adam\n",
    b"config: {lr: 0.1, batch_size: 32}\nprovenance: {data: x, data_sha256: abc, trial: 3}\n",
]
YAML_WORDS = (
    *("!!bool x", "!!int ''", "!!timestamp x", "!!python/object/apply:os.mkdir [made]"),
    *("&a ", "*a", "<<: ", "? ", "- ", "[", "]", "{", "}", ": ", ", ", "'", '"', '"\\ud800"'),
    *("2024-13-45", "9999-12-31T23:59:59-23:59", "1" + ":59" * 900 + ".5", "9" * 5000, "~", "="),
    *("0x" + "f" * 2900, ".inf", ".nan", "1e400", "--- ", "... ", "%YAML 9.9\n", "\0", "\u202e"),
    *("lr: ", "seed: ", "config: ", "provenance: ", "data: ", "kernels: ", "1: 2\n", "\ufeff"),
    *("|\n", "\n", "\t"),
)


@settings(max_examples=200, deadline=None)
@given(damaged(YAMLS, tuple(word.encode() for word in YAML_WORDS)))
def test_damaged_settings_are_read_or_refused(content: bytes) -> None:
    path = Path("a.yaml")
    path.write_bytes(content)
    try:
        read_config(path)
    except UserError as error:
        assert_one_line(error, "a.yaml")
    try:
        read_origin(path, Config())
        write_yaml({"provenance": read_provenance(path)}, Path("b.yaml"))
    except UserError as error:
        assert_one_line(error, "a.yaml")
    assert not Path("made").exists()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (b"lr: !!python/object/apply:os.mkdir [made]", ["tags"]),
        (b"!!python/object/new:os.mkdir {args: [made]}", ["tags"]),
        (b"lr: &a 1\nseed: *a", ["anchors"]),
        (b"lr: !!bool maybe", ["tags"]),
        (b"seed: " + b"9" * 5000, ["5,000 characters"]),
        (b"seed: 0x" + b"f" * 5000, ["5,002 characters"]),
        (b"seed: 0x" + b"f" * 2900, ["seed", "..."]),
        (b"lr: 2024-13-45", ["month"]),
        (b"lr: 1" + b":59" * 900 + b".5", ["too large"]),
        (b"lr: \xff", ["not a YAML file"]),
        (b"lr: \0", ["not a YAML file"]),
        (b"a: [" * 30 + b"]" * 30, ["20 levels"]),
        (b"1: 2", ["keys must be strings"]),
        (b"config: {1: 2}", ["1"]),
        (b"config: {" + b"a" * 900 + b": 1}", ["unknown configuration key", "aaa"]),
        (b"lr: [" + b"[1, 2, 3], " * 5000 + b"]", ["lr", "..."]),
        (b"# " + b"a" * 1_000_000, ["at most 100,000"]),
        (b'optimizer: "\\ud800\\e[31m"', ["optimizer", "\\ud800"]),
        (b"config: {}\nprovenance: [1]", ["'provenance'", "[1]"]),
        (b"config: {}\nprovenance: {kernels: [1]}", ["'provenance.kernels'", "[1]"]),
        (b"config: {}\nprovenance: {data_sha256: 5}", ["'provenance.data_sha256'", "5"]),
    ],
)
def test_hostile_settings_are_refused_and_do_nothing(
    text: bytes, names: list[str], command: Command, own_folder: Path
) -> None:
    Path("best.yaml").write_bytes(text)
    refused(command, own_folder, [*names, "best.yaml"], "fer.train", "--config", "best.yaml")


# Run folders.


class Code:
    """Makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("made",)


def test_a_pickle_among_the_weights_runs_nothing(command: Command, own_folder: Path) -> None:
    write_run(Path("run"))
    Path("run/model.safetensors").write_bytes(pickle.dumps(Code()))
    refused(command, own_folder, ["not a weights file"], "fer.predict", "run", "a.jpg")
    assert not Path("made").exists()


TYPES = (b"I64", b"BF16", b"F8_E4M3", b"F4", b"U16", b"C64", b"null", b"-1", b"9" * 20, b'"', b"[")


@bounded
@given(st.data())
def test_damaged_weights_are_read_or_refused(choose: st.DataObject) -> None:
    if not Path("run").exists():
        write_run(Path("run"))
        Path("whole").write_bytes(Path("run/model.safetensors").read_bytes())
    whole = Path("whole").read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    content = choose.draw(damaged([whole[:end]], TYPES)) + whole[end:]
    Path("run/model.safetensors").write_bytes(content)
    try:
        runs.load_run(Path("run"))
    except UserError as error:
        assert_one_line(error, "run/model.safetensors")


def test_weights_of_another_type_or_size_are_named(command: Command, own_folder: Path) -> None:
    write_run(Path("run"))
    path = Path("run/model.safetensors")
    weights = load_file(path)
    save_file({**weights, "dense2.0.bias": torch.zeros(2, dtype=torch.int64)}, path)
    names: list[object] = ["dense2.0.bias", "[2] of torch.int64", "need [2]"]
    refused(command, own_folder, names, "fer.evaluate", "run")
    os.truncate(path, 100_000_000_000)
    refused(command, own_folder, ["100,000,000,000 bytes"], "fer.evaluate", "run")
    path.write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    refused(command, own_folder, ["not a weights file"], "fer.evaluate", "run")
    header = b'{"a": {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    refused(command, own_folder, ["not a weights file", "F4"], "fer.evaluate", "run")
    path.unlink()
    os.mkfifo(path)
    refused(command, own_folder, ["no model.safetensors"], "fer.evaluate", "run")


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"data": None}, ["run/config.yaml"]),
        ({"data": [1]}, ["run/config.yaml"]),
        ({"config": [1]}, ["'config'", "[1]"]),
        ({"name": 3}, ["name = 3"]),
        ({"sha256": None}, ["sha256 = None"]),
        ({"subset": "many"}, ["subset = 'many'"]),
        ({"classes": "angry"}, ["classes = 'angry'"]),
        ({"classes": ["angry", "angry"]}, ["classes", "in this order"]),
        ({"classes": ["fear", "angry"]}, ["classes", "in this order"]),
        ({"classes": ["angry", "joy"]}, ["classes", "'joy'"]),
        ({"classes": [["angry"], {}]}, ["classes.0"]),
    ],
)
def test_wrong_settings_of_a_run_are_named(
    change: dict[str, Any], names: list[str], command: Command, own_folder: Path
) -> None:
    write_run(Path("run"))
    content = read_yaml(Path("run/config.yaml"))
    for key, value in change.items():
        (content if key in content else content["data"])[key] = value
    write_yaml(content, Path("run/config.yaml"))
    refused(command, own_folder, names, "fer.predict", "run", "a.jpg")


@pytest.mark.parametrize(
    "looks", [b"{", b"3\n", b"[]\n", b"\xff\n", b"{}\n", b"[" * 100_000, b"9" * 5000, b"\n"]
)
def test_damaged_notes_of_looks_are_named_before_the_next_look(
    looks: bytes, command: Command, table: Table, own_folder: Path
) -> None:
    write_run(Path("run"))
    frame(table).to_csv("faces.csv", index=False)
    Path("run/looks.jsonl").write_bytes(b'{"split": "PrivateTest"}\n' + looks)
    result = command("fer.evaluate", "run", "--data", "faces.csv")
    assert result.code == 2
    assert "run/looks.jsonl line 2" in result.err
    assert "accuracy" not in result.out


def test_links_in_a_run_lead_nothing_elsewhere(
    command: Command, table: Table, own_folder: Path
) -> None:
    write_run(Path("run"))
    frame(table).to_csv("faces.csv", index=False)
    Path("mine").write_text("precious")
    Path("run/confusion-PrivateTest.png").symlink_to(own_folder / "mine")
    assert command("fer.evaluate", "run", "--data", "faces.csv").code == 0
    assert command("fer.evaluate", "run", "--data", "faces.csv").out.count("(2 by this run)") == 1
    Path("run/looks.jsonl").unlink()
    Path("run/looks.jsonl").symlink_to(own_folder / "mine")
    result = command("fer.evaluate", "run", "--data", "faces.csv")
    assert result.code == 2
    assert "not a regular file: run/looks.jsonl" in result.err
    assert Path("mine").read_text() == "precious"


# The cache.


CACHED = faces.canonical(
    "x",
    np.random.default_rng(0).integers(0, 256, (3, 48, 48), dtype=np.uint8),
    np.array([0, 1, 2]),
    np.zeros(3, np.uint8),
)
CACHE_WORDS = (*TYPES, b"{}", b"images", b"labels", b"sha256", b"__metadata__")


@bounded
@given(st.data())
def test_a_damaged_cache_is_ignored(choose: st.DataObject) -> None:
    kept = Path("kept.safetensors")
    cache.store(CACHED, kept)
    kept.write_bytes(choose.draw(damaged([kept.read_bytes()], CACHE_WORDS)))
    found = cache.load(kept, "x")
    assert found is None or found.sha256 == CACHED.sha256


@pytest.mark.parametrize(
    "change",
    [
        {"labels": np.array([0, 1, 7])},
        {"labels": np.array([0, 1, -1])},
        {"labels": np.array([0, 1])},
        {"labels": np.zeros((), np.int64)},
        {"labels": np.zeros(3, np.int32)},
        {"usages": np.array([0, 0, 5], np.uint8)},
        {"usages": np.zeros(2, np.uint8)},
        {"usages": np.zeros(3, np.bool_)},
        {"images": np.zeros((3, 48, 47), np.uint8)},
        {"images": np.zeros((3, 48, 48), np.float32)},
        {"rows": np.array([0, 1, 1])},
        {"rows": np.arange(3.0)},
    ],
)
def test_a_cache_of_other_shapes_types_or_values_is_ignored(change: dict[str, Any]) -> None:
    arrays = {
        "images": np.zeros((3, 48, 48), np.uint8),
        "labels": np.zeros(3, np.int64),
        "usages": np.zeros(3, np.uint8),
        "rows": np.arange(3),
        **change,
    }
    kept = Path("kept.safetensors")
    hashed = np.resize(arrays["usages"], np.atleast_1d(arrays["labels"]).shape)
    sha256 = "0"
    if arrays["labels"].shape == hashed.shape == arrays["usages"].shape:
        hashed_too = {key: each for key, each in arrays.items() if key != "rows"}
        sha256 = faces.content_hash(**hashed_too, classes=EMOTIONS)
    cache.store(faces.Dataset("x", **arrays, classes=EMOTIONS, sha256=sha256), kept)
    assert cache.load(kept, "x") is None


def test_a_cache_without_notes_or_of_types_that_numpy_lacks_is_ignored() -> None:
    kept = Path("kept.safetensors")
    arrays = {
        "images": torch.from_numpy(CACHED.images),
        "labels": torch.from_numpy(CACHED.labels),
        "usages": torch.from_numpy(CACHED.usages),
        "rows": torch.from_numpy(CACHED.rows),
    }
    notes = {"classes": " ".join(EMOTIONS), "sha256": CACHED.sha256}
    save_file(arrays, kept, metadata=notes)
    assert cache.load(kept, "x") is not None
    save_file(arrays, kept)
    assert cache.load(kept, "x") is None
    for kind in (torch.bfloat16, torch.float8_e4m3fn):
        save_file({**arrays, "labels": arrays["labels"].to(kind)}, kept, metadata=notes)
        assert cache.load(kept, "x") is None


# File names and the terminal.

NAME = os.fsdecode(b"f\xff\x1b[31m\n\x07\xe2\x80\xae\xc3\xa9")


def test_a_file_name_of_any_bytes_is_read(table: Table, own_folder: Path) -> None:
    home = own_folder / NAME
    (home / "train" / "happy").mkdir(parents=True)
    (home / "train" / "happy" / NAME).write_bytes(SMALL)
    frame(table).to_csv(own_folder / f"{NAME}.csv", index=False)
    (own_folder / f"{NAME}.parquet").write_bytes(PARQUETS[0])
    (own_folder / f"{NAME}.yaml").write_bytes(YAMLS[0])
    for dataset in (data.read(home), data.read(home)):  # decoded, then from the cache
        assert len(dataset.labels) == 1
        assert any("8x8 in" in printable(note) for note in dataset.notes)
    assert len(data.read(own_folder / f"{NAME}.csv").labels) == 84
    assert len(data.read(own_folder / f"{NAME}.parquet").labels) == 3
    assert read_config(own_folder / f"{NAME}.yaml").lr == 0.1
    write_run(home / "run")
    runs.load_run(home / "run")


def test_file_names_and_contents_reach_the_terminal_as_plain_text(command: Command) -> None:
    write_run(Path("run"))
    Path(NAME).write_bytes(SMALL)
    result = command("fer.predict", "run", NAME)
    assert result.code == 0, result.err
    assert all(line.isprintable() for line in result.out.splitlines())
    assert "\\x1b[31m" in result.out
    Path(NAME).write_bytes(b"no image")
    result = command("fer.predict", "run", NAME)
    assert result.code == 2
    assert result.err.endswith("\n")
    assert result.err[:-1].isprintable()
    assert "f\\udcff\\x1b[31m \\x07\\u202eé" in result.err
    Path("bad.csv").write_text(f"emotion,pixels\n\x1b]0;title\x07,{PIXELS}\n")
    assert command("fer.train", "--data", "bad.csv").err[:-1].isprintable()


def test_a_line_on_the_terminal_is_of_bounded_length() -> None:
    assert len(printable("a" * 10_000_000)) < 2010
    assert len(shortly([[[["a" * 1000] * 50] * 50] * 50] * 50)) < 500
    assert printable("größe: 3 μm, 顔 ☺") == "größe: 3 μm, 顔 ☺"


def test_an_image_file_that_is_missing_is_named() -> None:
    with pytest.raises(UserError, match="No such file or directory"):
        read_face("missing.jpg")
