"""Pictures on disk: read with all their bits, written whole or not at all, metadata kept.

Shape suffixes: C image channels, H × W pixels.
"""

import dataclasses
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mlpzoo.inference import FORMATS, FilePath, ImageError, read_image
from mlpzoo.restoration import _png16
from mlpzoo.weights._writing import replacing

ORIENTATION = 0x0112
"""EXIF's tag for how a picture is turned."""

SUFFIXES: dict[str, dict[str, Any]] = {
    ".png": {},
    ".jpg": {"quality": 95, "subsampling": 0},
    ".jpeg": {"quality": 95, "subsampling": 0},
    ".tif": {},
    ".tiff": {},
    ".webp": {"lossless": True},
    ".bmp": {},
}
"""Formats written, by the file name's ending, and how: without loss, or in JPEG's case with little."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture, upright.

    Attributes:
        pixels: `(3, height, width)`, float32 in [0, 1].
        bits: of each sample, 8 or 16.
        exif: the EXIF block without the orientation, which the pixels have taken on; empty for none.
        icc_profile: what the colours mean; empty for none.
    """

    pixels: Tensor
    bits: int = 8
    exif: bytes = b""
    icc_profile: bytes = b""


def read_picture(path: FilePath) -> Picture:
    """Read an image file upright, in RGB, with all its bits where it is a PNG or a gray picture.

    Transparent pixels are put on white. Colour TIFF files and interlaced PNG files of 16 bits are read with 8.

    Args:
        path: a file in one of `mlpzoo.inference.FORMATS`, told by content.

    Returns:
        The picture.

    Raises:
        mlpzoo.inference.ImageError: when the file is missing, damaged, no image, or would unpack to an enormous one.
    """
    # Refuses whatever is no image or unpacks to an enormous one.
    image = read_image(path)
    orientation, exif, icc_profile, mode = _metadata(path)
    deep = _read_16_bits(Path(path), orientation, mode)
    if deep is not None:
        return Picture(deep, 16, exif, icc_profile)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div_(255)
    return Picture(pixels, 8, exif, icc_profile)


def _metadata(path: FilePath) -> tuple[int, bytes, bytes, str]:
    """Orientation, EXIF without it, colour profile, and Pillow's name for the kind of samples."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Image.open(path, formats=FORMATS) as file:
            exif = file.getexif()
            orientation = exif.pop(ORIENTATION, 1)
            # A profile for gray or printing colours would be wrong for what is written.
            icc_profile = file.info.get("icc_profile") or b"" if file.mode in ("RGB", "RGBA") else b""
            return orientation, exif.tobytes() if len(exif) else b"", icc_profile, file.mode


def _read_16_bits(path: Path, orientation: int, mode: str) -> Tensor | None:
    """The pixels of a picture of 16 bits; None for one of 8."""
    content = path.read_bytes()
    if _png16.has_16_bits(content):
        try:
            samples = _png16.decode(content)
        except ValueError as error:
            raise ImageError(f"cannot read {os.fspath(path)}: it is damaged or cut short ({error})") from None
    elif mode.startswith("I"):
        with Image.open(path, formats=FORMATS) as file:
            samples = np.asarray(file)[..., None]
    else:
        return None
    x_CHW = torch.from_numpy(samples.astype(np.float32) / 65535).permute(2, 0, 1)
    if len(x_CHW) in (2, 4):
        alpha = x_CHW[-1:]
        x_CHW = x_CHW[:-1] * alpha + (1 - alpha)
    return _upright(x_CHW, orientation).expand(3, -1, -1).contiguous()


def _upright(x_CHW: Tensor, orientation: int) -> Tensor:
    """Turn pixels as EXIF's eight orientations say."""
    if orientation in (5, 6, 7, 8):
        x_CHW = x_CHW.transpose(1, 2)
    # Of a transposed picture, 5 is upright, 6 mirrored left to right, 8 top to bottom, 7 both.
    return x_CHW.flip({2: [2], 3: [1, 2], 4: [1], 6: [2], 7: [1, 2], 8: [1]}.get(orientation, []))


def write_picture(picture: Picture, path: FilePath, *, overwrite: bool = False) -> int:
    """Write a picture in the format of the file name's ending, rounding to the nearest value it can hold.

    It is written under another name and then renamed, so that there is never half a file.

    Args:
        picture: what to write; values outside [0, 1] are clipped. 16 bits can be written as PNG only.
        path: the file, ending in one of `SUFFIXES`.
        overwrite: whether a file of that name is replaced.

    Returns:
        The bits of each sample written.

    Raises:
        ValueError: when no format goes by that ending.
        FileExistsError: when there is such a file and `overwrite` is not set.
        OSError: when it cannot be written.
    """
    path = Path(path)
    check_output(path, overwrite=overwrite)
    suffix = path.suffix.lower()
    bits = 16 if picture.bits == 16 and suffix == ".png" else 8
    scaled = picture.pixels.detach().float().cpu().clamp(0, 1).mul(2**bits - 1).round_().permute(1, 2, 0)
    samples = scaled.numpy().astype(np.uint16 if bits == 16 else np.uint8)
    with replacing(path) as temporary:
        if bits == 16:
            temporary.write_bytes(_png16.encode(samples, picture.exif, picture.icc_profile))
        else:
            metadata: dict[str, Any] = (
                {"exif": picture.exif, "icc_profile": picture.icc_profile} if suffix != ".bmp" else {}
            )
            Image.fromarray(samples).save(
                temporary,
                Image.registered_extensions()[suffix],
                **SUFFIXES[suffix],
                **{key: value for key, value in metadata.items() if value},
            )
        # Somebody may have written the file while this one was made.
        check_output(path, overwrite=overwrite)
    return bits


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
