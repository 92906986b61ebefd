"""Image files of every kind, read safely: what metadata say never decides whether the pixels can be used.

Shape suffixes: H × W pixels.
"""

import dataclasses
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from mlpzoo._essential import essential_bytes

FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats read. Pillow knows more, some of which start other programs (EPS) or run long on purpose-made files."""

SUFFIXES = (
    *(".bmp", ".gif", ".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".png"),
    *(".apng", ".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff", ".webp"),
)
"""Suffixes, in lower case, of files in these formats."""

MAX_ASPECT = 100
"""Longer side over shorter, at most: transforms resize by the shorter side, so a thin strip would become huge."""

FilePath = str | os.PathLike[str]
Warn = Callable[[str], object]
"""Told, in a sentence that names the file, what could not be used of it, though its pixels could."""

ORIENTATION = 0x0112
"""EXIF's tag for how a picture is turned."""
BITS_PER_SAMPLE, PHOTOMETRIC, PLANAR = 258, 262, 284
MIN_IS_WHITE, YCBCR = 0, 6
"""Photometric interpretations of TIFF files: gray of which the smallest value is white, and colour as in JPEG."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How a picture of each of EXIF's orientations comes upright; 1 is."""

logger = logging.getLogger("mlpzoo")


class ImageError(ValueError):
    """A file cannot be read as an image: the message names the file and the reason."""


@dataclasses.dataclass(frozen=True)
class OpenedImage:
    """An image file, decoded.

    Attributes:
        image: its pixels as Pillow keeps them; of an animation or of several pages, the first.
        orientation: how they are turned still, as EXIF counts it; 1 for not at all.
        exif: its EXIF block; empty where there is none or it cannot be read.
        sideways: whether width and height are those of the file exchanged, once it is upright.
        notes: what could not be used of it.
    """

    image: Image.Image
    orientation: int
    exif: Image.Exif
    sideways: bool
    notes: tuple[str, ...]


def read_image(
    source: FilePath | BinaryIO,
    mode: Literal["L", "RGB"] = "RGB",
    *,
    name: str | None = None,
    max_pixels: int | None = None,
    warn: Warn = logger.warning,
) -> Image.Image:
    """Read an image file upright, with 8 bits a channel and nothing transparent.

    The EXIF rotation is applied, transparent pixels are put on white, 16-bit grayscale is scaled to 8 bits, and
    palettes, CMYK and Lab are converted. Of an animation the first frame is read. Metadata that cannot be read are left
    aside.

    Args:
        source: a file in one of `FORMATS`, told by content, or its bytes as a stream that can seek.
        mode: `"RGB"` for colour, `"L"` for grayscale.
        name: what a stream is called in errors.
        max_pixels: how many pixels an image may have; by default Pillow's `Image.MAX_IMAGE_PIXELS`, 89,478,485 unless
            it was changed.
        warn: told what could not be used of a file that is read nevertheless; by default it is logged.

    Returns:
        The image in that mode.

    Raises:
        ImageError: when the file is missing, damaged, no image, or has more pixels than allowed.
        ValueError: when `max_pixels` is less than 1.
    """
    name = name or (os.fspath(source) if isinstance(source, str | os.PathLike) else "an image")
    opened = open_image(source, name=name, max_pixels=max_pixels)
    with reported(name):
        image = to_8_bits(opened.image)
        if opened.orientation in TURNS:
            image = image.transpose(TURNS[opened.orientation])
        image = image.convert(mode)
        for key in ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"):
            # They may say how the file is turned, which the image is no more.
            image.info.pop(key, None)
    for note in opened.notes:
        warn(note)
    return image


def open_image(source: FilePath | BinaryIO, *, name: str, max_pixels: int | None = None) -> OpenedImage:
    """Decode an image file; the arguments and errors are those of `read_image`."""
    if max_pixels is not None and max_pixels < 1:
        raise ValueError(f"max_pixels must be 1 or more, got {max_pixels}")
    with ExitStack() as stack:
        stack.enter_context(reported(name))
        stream = stack.enter_context(_stream(Path(source))) if isinstance(source, str | os.PathLike) else source
        limit = stack.enter_context(_pixel_limit(max_pixels))
        try:
            opened = _decode(stream, limit)
        except (ImageError, MemoryError):
            raise
        except Exception as error:
            # Decoders fed damaged metadata raise whatever they stumble over, and do not get to the pixels.
            stream.seek(0)
            essential = essential_bytes(stream.read())
            if essential is None:
                raise
            try:
                opened = _decode(BytesIO(essential), limit)
            except Exception:
                raise error from None
            opened = dataclasses.replace(opened, notes=(f"its metadata are left out, for {_reason(error)}",))
    return dataclasses.replace(opened, notes=tuple(f"{name}: {note}" for note in opened.notes))


@contextmanager
def reported(name: str) -> Iterator[None]:
    """Turn whatever goes wrong with a file into an `ImageError` that names it."""
    try:
        yield
        return
    except ImageError as error:
        reason = str(error)
    except FileNotFoundError:
        reason = "there is no such file"
    except UnidentifiedImageError:
        reason = f"it is no image, or not in a format read here ({', '.join(FORMATS)})"
    except PermissionError as error:
        reason = str(error.strerror)
    except MemoryError:
        reason = "it takes more memory than there is"
    except Exception as error:
        reason = f"it is damaged or cut short ({_reason(error)})"
    raise ImageError(f"cannot read {name}: {reason}")


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _stream(path: Path) -> BinaryIO:
    if path.is_dir():
        raise ImageError("it is a folder")
    if path.exists() and not path.is_file():
        raise ImageError("it is no regular file")
    return path.open("rb")


def _decode(stream: BinaryIO, limit: int | None) -> OpenedImage:
    # Given the file's name, Pillow maps some files into memory and then forgets that a TIFF may be turned.
    image = Image.open(stream, formats=FORMATS)
    _check_size(image, limit)
    sideways = False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        image = _by_libtiff(image, stream)
        # Pillow turns TIFF files as it loads them.
        sideways = image.tag_v2.get(ORIENTATION) in (5, 6, 7, 8)
    image.load()
    _check_size(image, limit)
    notes = []
    try:
        if isinstance(image.info.get("exif"), bytes):
            # Pillow may have read it in passing, and tells of an error once.
            Image.Exif().load(image.info["exif"])
        exif = image.getexif()
        orientation = exif.get(ORIENTATION, 1)
        # Numbers of any type will do. Cameras write 0 where they do not know.
        known = next((i for i in range(9) if i == orientation), None)
        if known is None:
            notes.append(f"its orientation, {str(orientation)[:40]!r}, means nothing, so it is used as stored")
    except Exception as error:
        exif, known = Image.Exif(), 1
        notes.append(f"its EXIF is left out, for {_reason(error)}")
    return OpenedImage(image, known or 1, exif, sideways or known in (5, 6, 7, 8), tuple(notes))


def _check_size(image: Image.Image, limit: int | None) -> None:
    if limit is not None and image.width * image.height > limit:
        raise _too_large(limit)


def _too_large(limit: int | None) -> ImageError:
    return ImageError(
        f"it unpacks to more than {limit:,} pixels; refused. If it is meant to, raise that limit: max_pixels=N, on "
        "the command line --max-pixels N"
    )


def _by_libtiff(image: TiffImagePlugin.TiffImageFile, stream: BinaryIO) -> TiffImagePlugin.TiffImageFile:
    """Have libtiff read what Pillow's own decoder reads wrongly: 16-bit colour a plane at a time, and YCbCr."""
    tags = image.tag_v2
    planes, ycbcr = tags.get(PLANAR) == 2, tags.get(PHOTOMETRIC) == YCBCR
    # Pillow 10 and 11 take the latter for RGB.
    wrong = (planes and (ycbcr or max(tags.get(BITS_PER_SAMPLE, (1,))) > 8)) or (ycbcr and image.mode == "RGB")
    if not wrong or image.use_load_libtiff:
        return image
    with _LIMIT.lock:
        before, TiffImagePlugin.READ_LIBTIFF = TiffImagePlugin.READ_LIBTIFF, True
        try:
            stream.seek(0)
            again = Image.open(stream, formats=("TIFF",))
        finally:
            TiffImagePlugin.READ_LIBTIFF = before
    assert isinstance(again, TiffImagePlugin.TiffImageFile)
    return again


class _Limit:
    """Pillow's limit of pixels, which is the process's, and who has lifted it at the moment."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.lifted = 0
        self.pillows: int | None = None


_LIMIT = _Limit()


@contextmanager
def _pixel_limit(max_pixels: int | None) -> Iterator[int | None]:
    """How many pixels an image may have, with Pillow's own limit out of the way where that is lower."""
    with _LIMIT.lock:
        pillows = _LIMIT.pillows if _LIMIT.lifted else Image.MAX_IMAGE_PIXELS
        limit = pillows if max_pixels is None else max_pixels
    lift = pillows is not None and limit is not None and limit > pillows
    try:
        with pillow_unlimited() if lift else nullcontext(), warnings.catch_warnings():
            # Pillow's remarks on odd metadata are of no use here; what is too large is refused by the limit.
            warnings.simplefilter("ignore")
            yield limit
    except Image.DecompressionBombError:
        raise _too_large(limit) from None


@contextmanager
def pillow_unlimited() -> Iterator[None]:
    """Keep Pillow from refusing large images, where their size has been found fit already: it does so when it crops."""
    with _LIMIT.lock:
        if not _LIMIT.lifted:
            _LIMIT.pillows, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _LIMIT.lifted += 1
    try:
        yield
    finally:
        with _LIMIT.lock:
            _LIMIT.lifted -= 1
            if not _LIMIT.lifted:
                Image.MAX_IMAGE_PIXELS = _LIMIT.pillows


def to_8_bits(image: Image.Image) -> Image.Image:
    """An image with 8 bits a channel, in gray or colour, and nothing transparent.

    Raises:
        ImageError: when its samples are numbers of which nobody knows what is white.
    """
    samples = deep_gray(image)
    if samples is not None:
        return Image.fromarray(((samples.astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.mode == "LAB":
        if getattr(image, "tag_v2", {}).get(PLANAR) == 2:
            # Signed in the file, unsigned in Pillow, which forgets it of planes.
            lightness, *colours = image.split()
            image = Image.merge("LAB", (lightness, *(colour.point(lambda v: v ^ 128) for colour in colours)))
        return image.convert("RGB")
    transparent = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(transparent, tuple) and max(transparent) > 255:
        # A PNG of 16 bits, of which Pillow has kept the upper 8, names its transparent colour with all 16.
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image


def deep_gray(image: Image.Image) -> np.ndarray | None:
    """The samples of gray with more than 8 bits, `(height, width)` in uint16, white 65535, as they are stored.

    Returns:
        The samples, transparent ones white; None for an image of 8 bits a channel.

    Raises:
        ImageError: when nobody knows which of them is white.
    """
    if image.mode == "F":
        raise ImageError("its samples are floating-point numbers, whose range is unknown: save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return None
    x_HW = np.asarray(image)
    if x_HW.min() < 0 or x_HW.max() > 65535:
        raise ImageError("its samples are 32-bit numbers, whose range is unknown: save it with 8 or 16 bits")
    x_HW = x_HW.astype(np.uint16)
    tags = getattr(image, "tag_v2", {})
    if tags.get(BITS_PER_SAMPLE) == (12,):
        x_HW = x_HW << 4 | x_HW >> 8
    if tags.get(PHOTOMETRIC) == MIN_IS_WHITE:
        x_HW = 65535 - x_HW
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        x_HW[x_HW == transparent] = 65535
    return x_HW
