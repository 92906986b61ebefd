"""Pictures in and out of files, one or a folder at a time, and the command that does it."""

import errno
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image, ImageCms
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from mlpzoo.cli import run
from mlpzoo.images import ImageError
from mlpzoo.restoration import (
    Picture,
    _png16,
    create_restorer,
    load_restorer,
    psnr,
    read_picture,
    restore_files,
    save_restorer,
    ssim,
    write_picture,
)
from mlpzoo.weights import _writing

CAMERA, ORIENTATION = 0x0110, 0x0112
TINY = {
    "embed_dim": 4,
    "depth": 2,
    "num_groups": 1,
    "num_supervision_scales": 1,
    "block_size_hr": 4,
    "grid_size_hr": 4,
    "block_size_lr": 2,
}


@pytest.fixture(scope="module")
def photo():
    """A photograph of uneven sides, `(3, 37, 50)` in [0, 1]; every pixel a multiple of 1/255."""
    return torch.from_numpy(skimage.data.coffee()[100:137, 200:250].copy()).permute(2, 0, 1).float() / 255


def as_image(pixels):
    return Image.fromarray(pixels.mul(255).round().byte().permute(1, 2, 0).numpy())


class Darker(nn.Module):
    """Half of everything."""

    def forward(self, x):
        return x / 2


TURNS = {
    1: lambda x: x,
    2: lambda x: x.flip(2),
    3: lambda x: x.rot90(2, (1, 2)),
    4: lambda x: x.flip(1),
    5: lambda x: x.transpose(1, 2),
    6: lambda x: x.rot90(1, (1, 2)),
    7: lambda x: x.rot90(2, (1, 2)).transpose(1, 2),
    8: lambda x: x.rot90(-1, (1, 2)),
}
"""How the pixels of an upright picture are stored under each of EXIF's orientations."""


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("orientation", TURNS)
def test_pictures_are_read_upright_and_keep_the_rest_of_their_exif(photo, tmp_path, orientation, bits):
    exif = Image.Exif()
    exif[CAMERA] = "a camera"
    exif[ORIENTATION] = orientation
    stored = TURNS[orientation](photo)
    write_picture(Picture(stored, bits, exif.tobytes()), tmp_path / "turned.png")
    picture = read_picture(tmp_path / "turned.png")
    torch.testing.assert_close(picture.pixels, photo)
    assert picture.bits == bits
    write_picture(picture, tmp_path / "upright.png")
    with Image.open(tmp_path / "upright.png") as file:
        assert dict(file.getexif()) == {CAMERA: "a camera"}
    torch.testing.assert_close(read_picture(tmp_path / "upright.png").pixels, photo)


def test_sixteen_bits_survive(tmp_path):
    values = torch.arange(65536, dtype=torch.float64).reshape(1, 256, 256).repeat(3, 1, 1)
    values[1] = values[1].flip(0)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert write_picture(Picture((values / 65535).float(), 16, icc_profile=profile), tmp_path / "deep.png") == 16
    with Image.open(tmp_path / "deep.png") as file:
        # Pillow keeps the upper byte alone.
        assert np.array_equal(np.asarray(file).transpose(2, 0, 1), (values // 256).numpy())
    again = read_picture(tmp_path / "deep.png")
    assert (again.bits, again.icc_profile) == (16, profile)
    assert torch.equal((again.pixels * 65535).round(), values.float())
    assert write_picture(again, tmp_path / "shallow.webp") == 8


def filtered(samples_HWN, filters):
    """The rows of a PNG, each by its own filter, written byte by byte as the specification has it."""
    height, width, pixel = samples_HWN.shape
    before = np.zeros((height + 1, width + 1, pixel), int)
    before[1:, 1:] = samples_HWN
    rows = []
    for y, kind in enumerate(filters):
        row = [kind]
        for x in range(width):
            for n in range(pixel):
                a, b, c = (int(before[y + 1, x, n]), int(before[y, x + 1, n]), int(before[y, x, n]))
                paeth = min((a, b, c), key=lambda value: abs(a + b - c - value))
                row.append((int(samples_HWN[y, x, n]) - (0, a, b, (a + b) // 2, paeth)[kind]) % 256)
        rows.append(bytes(row))
    return b"".join(rows)


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_every_filter_of_png_is_undone(colour, channels):
    generator = np.random.default_rng(1)
    samples = generator.integers(0, 65536, (15, 11, channels)).astype(">u2")
    samples[5:10] //= 256
    rows = filtered(samples.view(np.uint8).reshape(15, 11, -1), [0, 1, 2, 3, 4] * 3)
    header = struct.pack(">IIBBBBB", 11, 15, 16, colour, 0, 0, 0)
    data = zlib.compress(rows)
    chunks = [(b"IHDR", header), (b"IDAT", data[:50]), (b"IDAT", data[50:]), (b"IEND", b"")]
    content = _png16.SIGNATURE + b"".join(_png16._chunk(*chunk) for chunk in chunks)
    assert _png16.has_16_bits(content)
    assert np.array_equal(_png16.decode(content), samples)
    with Image.open(io.BytesIO(content)) as file:
        file.load()
    for damaged in (content[:-20], content[:60] + b"x" + content[61:]):
        with pytest.raises(ValueError, match="ends before its last chunk|checksum is wrong"):
            _png16.decode(damaged)
    for short in (zlib.compress(rows[:-1]), data[:-9], b"not compressed", zlib.compress(b"\7" + rows[1:])):
        chunks = [(b"IHDR", header), (b"IDAT", short), (b"IEND", b"")]
        with pytest.raises(ValueError, match="fewer pixels|incorrect header|unknown kind"):
            _png16.decode(_png16.SIGNATURE + b"".join(_png16._chunk(*chunk) for chunk in chunks))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_gray_pictures_of_sixteen_bits(tmp_path, suffix):
    values = np.linspace(0, 65535, 20 * 30).reshape(20, 30).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / f"gray.{suffix}")
    picture = read_picture(tmp_path / f"gray.{suffix}")
    assert (picture.bits, picture.pixels.shape) == (16, (3, 20, 30))
    for channel in picture.pixels:
        assert np.array_equal(channel.mul(65535).round().numpy(), values)


def test_transparent_pixels_become_white_at_either_depth(tmp_path):
    samples = np.zeros((8, 8, 4), np.uint8)
    samples[:4] = (200, 0, 0, 255)
    Image.fromarray(samples).save(tmp_path / "clear.png")
    pixels = read_picture(tmp_path / "clear.png").pixels
    assert (pixels[:, 4:] == 1).all()
    torch.testing.assert_close(pixels[:, 0, 0], torch.tensor([200 / 255, 0, 0]))


@pytest.mark.parametrize(("suffix", "close"), [("png", 0), ("tif", 0), ("bmp", 0), ("webp", 0), ("jpg", 0.05)])
def test_formats(photo, tmp_path, suffix, close):
    write_picture(Picture(photo), tmp_path / f"photo.{suffix}")
    found = read_picture(tmp_path / f"photo.{suffix}")
    assert (found.pixels - photo).abs().mean() <= close
    assert found.bits == 8
    assert [path.name for path in tmp_path.iterdir()] == [f"photo.{suffix}"]


def test_values_are_clipped_and_rounded(tmp_path):
    pixels = torch.tensor([-1.0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 3.0]).reshape(1, 1, 5).repeat(3, 1, 1)
    write_picture(Picture(pixels), tmp_path / "edge.png")
    assert np.asarray(Image.open(tmp_path / "edge.png"))[0, :, 0].tolist() == [0, 0, 1, 255, 255]


def test_files_that_must_not_be_written(photo, tmp_path, monkeypatch):
    path = tmp_path / "photo.png"
    write_picture(Picture(photo), path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="photo.png exists: allow overwriting"):
        write_picture(Picture(photo / 2), path)
    with pytest.raises(ValueError, match="ends in .png, .jpg"):
        write_picture(Picture(photo), tmp_path / "photo.gif")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        write_picture(Picture(photo), tmp_path / "nowhere" / "photo.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        write_picture(Picture(photo), tmp_path / "folder.png", overwrite=True)

    def full(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="disk full"):
        write_picture(Picture(photo / 2), path, overwrite=True)
    assert path.read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} == {"photo.png", "folder.png"}


def test_damaged_files(photo, tmp_path):
    write_picture(Picture(photo, 16), tmp_path / "deep.png")
    content = (tmp_path / "deep.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.png").write_text("no image")
    for name in ("cut.png", "text.png", "missing.png"):
        with pytest.raises(ImageError, match=f"cannot read .*{name}"):
            read_picture(tmp_path / name)


def test_one_file(photo, tmp_path):
    as_image(photo).save(tmp_path / "in.png")
    as_image(photo / 2).save(tmp_path / "truth.png")
    (result,) = restore_files(Darker(), tmp_path / "in.png", tmp_path / "out.png", target=tmp_path / "truth.png")
    truth = read_picture(tmp_path / "truth.png").pixels
    assert result.error is None
    assert result.psnr == psnr(read_picture(tmp_path / "out.png").pixels, truth)
    assert result.ssim == ssim(read_picture(tmp_path / "out.png").pixels, truth)
    assert result.source_psnr == psnr(photo, truth) < 20 < result.psnr
    assert result.source_ssim < result.ssim
    (result,) = restore_files(Darker(), tmp_path / "in.png", tmp_path)
    assert isinstance(result.error, FileExistsError)
    (result,) = restore_files(Darker(), tmp_path / "in.png", tmp_path, overwrite=True)
    assert (result.output, result.psnr) == (tmp_path / "in.png", None)
    assert (read_picture(tmp_path / "in.png").pixels - photo / 2).abs().max() < 0.5 / 255 + 1e-6


def test_a_folder_goes_on_past_what_cannot_be_read(photo, tmp_path):
    source, target = tmp_path / "in", tmp_path / "truth"
    for folder in (source, target):
        (folder / "inside").mkdir(parents=True)
    as_image(photo).save(source / "a.jpg")
    as_image(photo).save(source / "b.gif")
    as_image(photo).save(source / "d.PNG", format="png")
    (source / "c.png").write_text("no image")
    (source / "notes.txt").write_text("no image either")
    as_image(photo).save(target / "a.png")
    as_image(photo[:, 1:]).save(target / "b.gif")
    as_image(photo).save(target / "c.png")
    calls = []
    results = list(
        restore_files(Darker(), source, tmp_path / "out", target=target, progress=lambda *call: calls.append(call))
    )
    assert [result.output.name for result in results] == ["a.jpg", "b.png", "c.png", "d.PNG"]
    assert [result.error is None for result in results] == [True, False, False, False]
    assert "is 37×50 pixels and its target" in str(results[1].error)
    assert "d.PNG: there is no such file" in str(results[3].error)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.jpg"]
    assert calls == [(source / "a.jpg", 1, 1)]
    assert all(
        result.error is None or result.output.name == "c.png"
        for result in restore_files(Darker(), source, tmp_path / "new")
    )


def test_what_does_not_go_together(photo, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    as_image(photo).save(tmp_path / "a.png")
    for arguments, options, message in [
        ((folder, tmp_path / "out"), {}, "holds no image files"),
        ((tmp_path / "a.png", tmp_path / "out.png"), {"target": tmp_path / "none"}, "there is no target"),
        ((tmp_path / "a.png", tmp_path / "out.png"), {"target": folder}, "the target .* is a folder"),
        ((folder, tmp_path / "out"), {"target": tmp_path / "a.png"}, "give a folder of true pictures"),
        ((tmp_path / "a.png", tmp_path / "out"), {}, "give a name that ends in"),
    ]:
        with pytest.raises(ValueError, match=message):
            restore_files(Darker(), *arguments, **options)
    as_image(photo).save(folder / "a.gif")
    with pytest.raises(ValueError, match="a.png is a file: give a folder"):
        restore_files(Darker(), folder, tmp_path / "a.png")
    as_image(photo).save(folder / "a.png")
    with pytest.raises(ValueError, match="two pictures of .* would both become"):
        restore_files(Darker(), folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    torch.manual_seed(3)
    folder = tmp_path_factory.mktemp("restorer") / "run"
    save_restorer(create_restorer("maxim_s1", **TINY), folder, architecture="maxim_s1")
    return folder


def test_loading(trained, tmp_path):
    model = load_restorer(trained)
    assert not model.training
    assert model.config.embed_dim == 4
    for arguments, options, message in [
        ((trained,), {"model": "maxim_s1"}, r"names its own network \(maxim_s1\)"),
        ((trained / "model.safetensors",), {}, "say of which network"),
        ((trained / "model.safetensors",), {"model": "maxim_s1"}, "the model .*does not have|no value for|in the file"),
        ((tmp_path / "nothing",), {}, "there is no file or folder"),
        ((), {}, "give a checkpoint, or a task"),
    ]:
        with pytest.raises(ValueError, match=message):
            load_restorer(*arguments, **options)


@pytest.fixture
def call(capsys):
    def call(*arguments):
        status = run(["restore", *(str(argument) for argument in arguments)])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return status, captured.out, captured.err

    return call


def test_help(call):
    status, out, _ = call("--help")
    assert status == 0
    assert "Usage: mlpzoo restore" in out


def test_command(call, photo, trained, tmp_path):
    as_image(photo).save(tmp_path / "in.png")
    options = ("--checkpoint", trained, "--target", tmp_path / "in.png")
    status, out, err = call(tmp_path / "in.png", tmp_path / "out.png", *options)
    assert (status, err) == (0, "")
    assert "out.png" in out
    assert "dB" in out
    assert read_picture(tmp_path / "out.png").pixels.shape == photo.shape
    status, out, err = call(tmp_path / "in.png", tmp_path / "out.png", *options)
    assert (status, out) == (1, "")
    assert "out.png exists" in err
    status, out, err = call(
        tmp_path / "in.png", tmp_path / "out.png", *options, "--overwrite", "--json", "--tile", 16, "--self-ensemble"
    )
    (entry,) = json.loads(out)
    assert (status, entry["bits"], entry["error"], entry["source_psnr"]) == (0, 8, None, None)
    assert entry["psnr"] > 0


def test_command_notes_lost_bits_and_goes_on_past_errors(call, photo, trained, tmp_path):
    (tmp_path / "in").mkdir()
    write_picture(Picture(photo, 16), tmp_path / "in" / "a.png")
    (tmp_path / "in" / "b.png").write_text("no image")
    status, out, err = call(tmp_path / "in", tmp_path / "out", "--checkpoint", trained)
    assert status == 1
    assert "a.png" in out
    assert err.count("\n") == 1
    assert "cannot read" in err
    assert read_picture(tmp_path / "out" / "a.png").bits == 16
    status, out, err = call(tmp_path / "in" / "a.png", tmp_path / "a.jpg", "--checkpoint", trained)
    assert (status, err) == (0, f"mlpzoo: note: {tmp_path / 'a.jpg'} keeps 8 of 16 bits\n")


def test_command_mistakes(call, photo, trained, tmp_path):
    as_image(photo).save(tmp_path / "in.png")
    where = (tmp_path / "in.png", tmp_path / "out.png")
    for arguments, status, message in [
        (where, 2, "give --checkpoint DIR_OR_FILE, or --task NAME"),
        ((*where, "--task", "upscaling"), 2, "unknown task 'upscaling': there is denoising"),
        ((*where, "--task", "denoising", "--dataset", "gopro"), 2, "there is sidd"),
        ((*where, "--checkpoint", tmp_path / "none", "--model", "maxim_s1"), 1, "no file or folder"),
        ((*where, "--checkpoint", trained, "--task", "denoising"), 1, "names its own network"),
        ((*where, "--checkpoint", trained, "--tile", "15"), 1, "tile must be a multiple of 8 pixels"),
        ((*where, "--checkpoint", trained, "--overlap", "8"), 1, "give tile as well"),
        ((tmp_path / "none.png", where[1], "--checkpoint", trained), 1, "there is no such file"),
        ((where[0], tmp_path / "out.xyz", "--checkpoint", trained), 1, "give a name that ends in"),
        ((where[0],), 2, "Missing argument"),
    ]:
        outcome, out, err = call(*arguments)
        assert (outcome, out) == (status, "")
        assert err.startswith("mlpzoo: error: ")
        assert err.count("\n") == 1
        assert message in err
    assert not where[1].exists()


class Broken(nn.Module):
    """A network that gives no numbers, or none at all."""

    def __init__(self, problem):
        super().__init__()
        self.problem = problem

    def forward(self, x):
        if isinstance(self.problem, Exception):
            raise self.problem
        return x * self.problem


@pytest.mark.parametrize(
    ("problem", "message"),
    [
        (float("nan"), "in.png: the network gives NaN or infinity"),
        (float("inf"), "in.png: the network gives NaN or infinity"),
        (RuntimeError("not enough memory:\nyou tried"), "cannot restore .*in.png: not enough memory: you tried$"),
        (MemoryError(), "cannot restore .*in.png: out of memory"),
    ],
)
def test_what_a_network_cannot_do_leaves_the_others(photo, tmp_path, problem, message):
    as_image(photo).save(tmp_path / "in.png")
    (result,) = restore_files(Broken(problem), tmp_path / "in.png", tmp_path / "out.png")
    assert isinstance(result.error, ImageError)
    assert re.search(message, str(result.error))
    assert not (tmp_path / "out.png").exists()


def test_a_target_is_never_replaced(photo, tmp_path):
    source, truth = tmp_path / "in", tmp_path / "truth"
    for folder in (source, truth):
        folder.mkdir()
        as_image(photo).save(folder / "a.png")
    (tmp_path / "link").symlink_to(truth)
    (tmp_path / "hard.png").hardlink_to(truth / "a.png")
    before = (truth / "a.png").read_bytes()
    for arguments, target in (
        ((source, truth), truth),
        ((source, tmp_path / "link"), truth),
        ((source / "a.png", truth / "a.png"), truth / "a.png"),
        ((source / "a.png", truth), truth / "a.png"),
        ((source / "a.png", tmp_path / "hard.png"), truth / "a.png"),
        ((source / "a.png", truth / ".." / "truth" / "a.png"), truth / "a.png"),
    ):
        with pytest.raises(ValueError, match=r"is the target and the output: choose another output"):
            restore_files(Darker(), *arguments, target=target, overwrite=True)
        assert (truth / "a.png").read_bytes() == before


def test_overwriting_in_place_replaces_after_reading_back(photo, tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    as_image(photo).save(path)
    before = path.read_bytes()
    written = Path.write_bytes

    def cut(self, content):
        return written(self, content[: len(content) // 2])

    def another(self, content):
        image = io.BytesIO()
        as_image(photo / 3).save(image, "PNG")
        return written(self, image.getvalue())

    for wrong, message in ((cut, "cannot be read back"), (another, "what is read back is not what was written")):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", wrong)
            (result,) = restore_files(Darker(), path, path, overwrite=True)
        assert message in str(result.error)
        assert path.read_bytes() == before
        assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
    (result,) = restore_files(Darker(), path, path, overwrite=True)
    assert result.error is None
    assert (read_picture(path).pixels - photo / 2).abs().max() < 0.5 / 255 + 1e-6


@pytest.fixture
def full_disk(monkeypatch):
    """A disk that takes no more: whatever is written raises what the system raises."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def full_of_tensors(*_, **__):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    def fill():
        monkeypatch.setattr(Path, "write_bytes", full)
        monkeypatch.setattr(Path, "write_text", full)
        monkeypatch.setattr(_writing, "save_file", full_of_tensors)

    return fill


def test_a_full_disk_ends_the_run_in_one_line(call, photo, trained, tmp_path, full_disk):
    source, out = tmp_path / "in", tmp_path / "out"
    for folder in (source, out):
        folder.mkdir()
        for name in ("a.png", "b.tif", "c.jpg"):
            as_image(photo).save(folder / name)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    full_disk()
    status, printed, err = call(source, out, "--checkpoint", trained, "--overwrite", "--tile", 16)
    assert (status, printed, err.count("\n")) == (1, "", 1)
    assert "No space left on device" in err
    assert str(out / "a.png") in err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_full_disk_leaves_a_folder_as_it_was(trained, tmp_path, full_disk, monkeypatch):
    shutil.copytree(trained, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    torch.manual_seed(9)
    other = create_restorer("maxim_s1", **TINY)
    full_disk()
    for still_full in (("save_file",), ("write_text",), ("save_file", "write_text")):
        with monkeypatch.context() as patch:
            if "save_file" not in still_full:
                patch.setattr(_writing, "save_file", save_file)
            with pytest.raises(OSError, match="No space left on device.*run/") as caught:
                save_restorer(other, tmp_path / "run", architecture="maxim_s1")
        assert caught.value.errno == errno.ENOSPC
        assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_names_as_long_as_a_file_system_allows(photo, tmp_path):
    path = tmp_path / f"{'ä' * 125}.png"
    write_picture(Picture(photo), path)
    torch.testing.assert_close(read_picture(path).pixels, photo)


def test_command_raises_the_limit_of_pixels(call, photo, trained, tmp_path, monkeypatch):
    as_image(photo).save(tmp_path / "in.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 600)
    options = ("--checkpoint", trained, "--tile", 16)
    status, _, err = call(tmp_path / "in.png", tmp_path / "out.png", *options)
    assert status == 1
    assert "more than 600 pixels; refused" in err
    assert "--max-pixels N" in err
    assert call(tmp_path / "in.png", tmp_path / "out.png", *options, "--max-pixels", 1850)[0] == 0
    assert read_picture(tmp_path / "out.png", max_pixels=2000).pixels.shape == photo.shape
    assert call(tmp_path / "in.png", tmp_path / "out.png", *options, "--max-pixels", 0)[0] == 2


def test_command_notes_what_it_leaves_out(call, photo, trained, tmp_path):
    (tmp_path / "in").mkdir()
    as_image(photo).save(tmp_path / "in" / "a.png", exif=b"Exif\0\0no TIFF")
    as_image(photo).save(tmp_path / "in" / "b.png")
    status, out, err = call(tmp_path / "in", tmp_path / "out", "--checkpoint", trained, "--json")
    assert status == 0
    assert err.startswith(f"mlpzoo: note: {tmp_path / 'in' / 'a.png'}: its EXIF is left out, for ")
    assert err.count("\n") == 1
    assert [len(entry["notes"]) for entry in json.loads(out)] == [1, 0]


LOCALE = """
import json, sys
from pathlib import Path
from mlpzoo.restoration import create_restorer, load_restorer, read_picture, restore_files, save_restorer
import torch

folder = Path(sys.argv[1])
save_restorer(create_restorer("maxim_s1", **json.loads(sys.argv[2])), folder / "run", architecture="maxim_s1")
config = json.loads((folder / "run" / "config.json").read_bytes())
config["about"] = {"note": "\\u00fcber \\u65e5\\u672c"}
(folder / "run" / "config.json").write_bytes(json.dumps(config, ensure_ascii=False).encode())
model = load_restorer(folder / "run")
(result,) = restore_files(model, folder / "in.png", folder / "out.png", tile=16)
assert result.error is None, result.error
"""


def test_files_are_utf_8_whatever_the_locale(photo, tmp_path):
    as_image(photo).save(tmp_path / "in.png")
    # The C locale without Python's own correction of it reads and writes ASCII.
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [sys.executable, "-W", "error::EncodingWarning", "-c", LOCALE, str(tmp_path), json.dumps(TINY)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


MEMORY = """
import sys
import numpy as np
import torch
from PIL import Image
from mlpzoo.restoration import restore_files

class Half(torch.nn.Module):
    size_multiple = 64

    def forward(self, x):
        return x / 2

def peak():
    # The system's count for a process begins with what its parent held; this does not.
    (line,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024

for side in (300, 2000):
    Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(f"{sys.argv[1]}/{side}.png")
    before = peak()
    (result,) = restore_files(
        Half(), f"{sys.argv[1]}/{side}.png", f"{sys.argv[1]}/{side}.tif", tile=256, self_ensemble=side == 2000
    )
    assert result.error is None, result.error
print((peak() - before) / 2000**2)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, which Linux has")
def test_memory_of_a_large_picture_is_what_the_documentation_says(tmp_path):
    done = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # 27 bytes a pixel, and what tiles and the allocator take. Neither image may be held twice more.
    assert 12 < float(done.stdout) < 36
