"""Pictures on disk: read with all their bits, written whole or not at all, metadata kept.

Shape suffixes: C image channels, H × W pixels.
"""

import dataclasses
import os
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mlpzoo.images import FilePath, ImageError, OpenedImage, Warn, deep_gray, logger, open_image, reported, to_8_bits
from mlpzoo.restoration import _png16
from mlpzoo.restoration._metadata import kept_dpi, kept_exif, kept_profile, tiff_entries, with_dpi
from mlpzoo.weights._writing import replacing

SUFFIXES: dict[str, dict[str, Any]] = {
    ".png": {},
    ".jpg": {"quality": 95, "subsampling": 0},
    ".jpeg": {"quality": 95, "subsampling": 0},
    ".tif": {},
    ".tiff": {},
    ".webp": {"lossless": True, "exact": True},
    ".bmp": {},
}
"""Formats written, by the file name's ending, and how: without loss, or in JPEG's case with little."""

MAX_JPEG_EXIF = 65533
"""Bytes that an EXIF block can have in a JPEG file, where it must fit into one segment."""
ROWS = 256
"""Rows of pixels converted at a time, so that a large picture is not held in memory once more."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture, upright.

    Attributes:
        pixels: `(3, height, width)`, float32 in [0, 1].
        bits: of each sample, 8 or 16.
        exif: EXIF block of what describes the picture, without the orientation, which the pixels have taken on, and
            without what says how a file stores it; empty for none.
        icc_profile: what the colours mean; empty for none.
        dpi: pixels an inch, across and down; None where unknown.
    """

    pixels: Tensor
    bits: int = 8
    exif: bytes = b""
    icc_profile: bytes = b""
    dpi: tuple[float, float] | None = None


def read_picture(path: FilePath, *, max_pixels: int | None = None, warn: Warn = logger.warning) -> Picture:
    """Read an image file upright, in RGB, with all its bits where it is a PNG or a gray picture.

    Transparent pixels are put on white. Colour TIFF files and interlaced PNG files of 16 bits are read with 8. Metadata
    that cannot be read are left out.

    Args:
        path: a file in one of `mlpzoo.images.FORMATS`, told by content.
        max_pixels: how many pixels it may have, see `mlpzoo.images.read_image`.
        warn: told what could not be used of a file that is read nevertheless; by default it is logged.

    Returns:
        The picture.

    Raises:
        mlpzoo.images.ImageError: when the file is missing, damaged, no image, or has more pixels than allowed.
    """
    name = os.fspath(path)
    opened = open_image(path, name=name, max_pixels=max_pixels)
    with reported(name):
        deep = _deep_samples(Path(path), opened)
        samples = _rgb(opened.image) if deep is None else deep
        exif, notes = kept_exif(opened)
    for note in (*opened.notes, *(f"{name}: {note}" for note in notes)):
        warn(note)
    bits = 16 if samples.dtype == np.uint16 else 8
    pixels = _upright(_to_pixels(samples), opened.orientation)
    if len(pixels) == 1:
        pixels = pixels.expand(3, -1, -1).contiguous()
    return Picture(pixels, bits, exif, kept_profile(opened), kept_dpi(opened))


def _deep_samples(path: Path, opened: OpenedImage) -> np.ndarray | None:
    """The samples of a picture of 16 bits, `(height, width, 1 or 3)` with nothing transparent; None for one of 8."""
    if opened.image.format != "PNG" or not _png16.has_16_bits(content := path.read_bytes()):
        gray = deep_gray(opened.image)
        return None if gray is None else gray[..., None]
    x_HWC = _png16.decode(content)
    transparent = opened.image.info.get("transparency")
    if x_HWC.shape[2] in (2, 4):
        alpha = x_HWC[..., -1:].astype(np.float32) / 65535
        x_HWC = (65535 - (65535 - x_HWC[..., :-1].astype(np.float32)) * alpha).round().astype(np.uint16)
    elif isinstance(transparent, int | tuple):
        x_HWC[(x_HWC == np.asarray(transparent)).all(-1)] = 65535
    return x_HWC


def _rgb(image: Image.Image) -> np.ndarray:
    """The samples of a picture of 8 bits, `(height, width, 3)` with nothing transparent."""
    image = to_8_bits(image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _to_pixels(x_HWC: np.ndarray) -> Tensor:
    """Samples to `(C, H, W)` in [0, 1]."""
    height, width, channels = x_HWC.shape
    pixels_HWC = torch.empty(height, width, channels)
    for top in range(0, height, ROWS):
        pixels_HWC[top : top + ROWS] = torch.from_numpy(x_HWC[top : top + ROWS].astype(np.float32))
    return pixels_HWC.div_(np.iinfo(x_HWC.dtype).max).permute(2, 0, 1)


def _to_samples(pixels: Tensor, bits: int) -> np.ndarray:
    """Values in [0, 1], others clipped, to the nearest samples, `(H, W, C)`."""
    channels, height, width = pixels.shape
    samples = np.empty((height, width, channels), np.uint16 if bits == 16 else np.uint8)
    for top in range(0, height, ROWS):
        rows = pixels[:, top : top + ROWS].detach().float().cpu().clamp(0, 1).mul(2**bits - 1).round_()
        samples[top : top + ROWS] = rows.permute(1, 2, 0).numpy()
    return samples


def _upright(x_CHW: Tensor, orientation: int) -> Tensor:
    """Turn pixels as EXIF's eight orientations say."""
    if orientation in (5, 6, 7, 8):
        x_CHW = x_CHW.transpose(1, 2)
    # Of a transposed picture, 5 is upright, 6 mirrored left to right, 8 top to bottom, 7 both.
    mirrored = {2: [2], 3: [1, 2], 4: [1], 6: [2], 7: [1, 2], 8: [1]}.get(orientation)
    return x_CHW.flip(mirrored) if mirrored else x_CHW


def write_picture(picture: Picture, path: FilePath, *, overwrite: bool = False, warn: Warn = logger.warning) -> int:
    """Write a picture in the format of the file name's ending, rounding to the nearest value it can hold.

    It is written under another name, read back, and then renamed, so that there is never half a file, nor one that
    cannot be opened in the place of one that could.

    Args:
        picture: what to write; values outside [0, 1] are clipped. 16 bits can be written as PNG only.
        path: the file, ending in one of `SUFFIXES`.
        overwrite: whether a file of that name is replaced.
        warn: told which metadata the format cannot hold; by default it is logged.

    Returns:
        The bits of each sample written.

    Raises:
        ValueError: when no format goes by that ending.
        FileExistsError: when there is such a file and `overwrite` is not set.
        OSError: when it cannot be written; what was there is as it was.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite)
    bits = 16 if picture.bits == 16 and path.suffix.lower() == ".png" else 8
    samples = _to_samples(picture.pixels, bits)
    try:
        content, notes = _encode(samples, picture, path.suffix.lower())
    except Exception as error:
        # Pillow's writers raise errors of many kinds for what a format cannot hold, such as too many rows.
        raise OSError(f"cannot write {path}: {' '.join(str(error).split())}") from error
    with replacing(path) as temporary:
        temporary.write_bytes(content)
        del content
        _read_back(temporary, path, samples)
        # Somebody may have written the file while this one was made.
        check_output(path, overwrite=overwrite)
    for note in notes:
        warn(f"{path}: {note}")
    return bits


def _encode(x_HWC: np.ndarray, picture: Picture, suffix: str) -> tuple[bytes, list[str]]:
    """The content of a file, and what of the metadata it cannot hold."""
    exif, profile, dpi = picture.exif, picture.icc_profile, picture.dpi
    notes: list[str] = []
    if suffix == ".webp":
        exif = with_dpi(exif, dpi)
    if suffix in (".jpg", ".jpeg") and len(exif) > MAX_JPEG_EXIF:
        notes.append(f"its EXIF is left out, for it has {len(exif):,} bytes and JPEG holds {MAX_JPEG_EXIF:,}")
        exif = b""
    if suffix == ".bmp" and (exif or profile):
        notes.append("its EXIF and colour profile are left out, for BMP holds none")
        exif = profile = b""
    if x_HWC.dtype == np.uint16:
        return _png16.encode(x_HWC, exif, profile, dpi), notes
    metadata: dict[str, Any] = {"exif": exif, "icc_profile": profile, "dpi": dpi}
    if suffix in (".tif", ".tiff") and exif:
        # Given a block, Pillow rewrites text that is not ASCII.
        metadata["tiffinfo"] = tiff_entries(metadata.pop("exif"))
    stream = BytesIO()
    # In memory first: some of Pillow's writers report a full disk as something else.
    Image.fromarray(x_HWC).save(
        stream,
        Image.registered_extensions()[suffix],
        **SUFFIXES[suffix],
        **{key: value for key, value in metadata.items() if value},
    )
    return stream.getvalue(), notes


def _read_back(temporary: Path, path: Path, x_HWC: np.ndarray) -> None:
    """Refuse a file that does not hold the picture.

    Raises:
        OSError: when it does not.
    """
    try:
        found = np.asarray(open_image(temporary, name=str(path), max_pixels=x_HWC.size).image)
    except ImageError as error:
        raise OSError(f"cannot write {path}: what was written cannot be read back ({error})") from error
    lossless = path.suffix.lower() not in (".jpg", ".jpeg")
    # Of 16 bits Pillow reads the upper 8.
    expected = x_HWC if x_HWC.dtype == np.uint8 else x_HWC >> 8
    if found.shape != x_HWC.shape or (lossless and not np.array_equal(found, expected)):
        raise OSError(f"cannot write {path}: what is read back is not what was written")


def check_output(path: Path, *, overwrite: bool) -> None:
    """Refuse a file that cannot or must not be written, before the work is done.

    Raises:
        ValueError: when no format goes by the name's ending.
        OSError: when the file exists and may not be replaced, or its folder is missing.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"cannot write {path}: give a name that ends in {', '.join(SUFFIXES)}")
    if path.is_dir():
        raise IsADirectoryError(f"cannot write {path}: it is a folder")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists: allow overwriting it, or choose another name")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}")
