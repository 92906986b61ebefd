"""What of a picture's metadata goes into a file written anew: what describes the picture, not how a file stores it."""

import math
import re
from collections.abc import Mapping
from typing import Any

from PIL import Image, TiffImagePlugin

from mlpzoo.images import OpenedImage

EXIF_IFD, GPS_IFD = 0x8769, 0x8825
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
INCH, CENTIMETRE = 2, 3

DESCRIPTIVE = frozenset(
    (
        *(0x010D, 0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C),  # DocumentName to HostComputer
        *(0x4746, 0x4749, 0x8298, *range(0x9C9B, 0x9CA0)),  # Rating, RatingPercent, Copyright, XPTitle to XPSubject
    )
)
"""Tags of the first directory that are kept; the others say how that file stores its samples."""
IMAGE_DESCRIPTION = 0x010E
MACHINE_READ = re.compile(r"\s*(?:[{<]|ImageJ=|shape=)")
"""Descriptions by which programs tell the shape of a TIFF's samples, which would be wrong of another file."""

OF_THE_FILE = frozenset((0x9101, 0x9102, 0xA002, 0xA003, 0xA005))
"""Tags of EXIF's own directory that say how the file stores its samples, or point into it: ComponentsConfiguration,
CompressedBitsPerPixel, the two PixelDimensions, the interoperability directory."""


def kept_exif(opened: OpenedImage) -> tuple[bytes, tuple[str, ...]]:
    """The EXIF block for a file written anew, without orientation, and what of it could not be kept.

    Returns:
        The block, empty for none; and notes.
    """
    directories: dict[int, dict[int, Any]] = {}
    lost: list[str] = []
    for directory, wanted in ((0, DESCRIPTIVE), (EXIF_IFD, None), (GPS_IFD, None)):
        found = _tags(opened.exif, directory, lost)
        kept = {tag: value for tag, value in found.items() if (tag in wanted if wanted else tag not in OF_THE_FILE)}
        description = kept.get(IMAGE_DESCRIPTION)
        if directory == 0 and isinstance(description, str) and MACHINE_READ.match(description):
            del kept[IMAGE_DESCRIPTION]
        for tag in [tag for tag, value in kept.items() if not _block({directory: {tag: value}})]:
            lost.append(f"{tag:#06x}")
            del kept[tag]
        directories[directory] = kept
    notes = (f"entries of its EXIF cannot be read and are left out: {', '.join(lost)}",) if lost else ()
    return _block(directories), notes


def _tags(exif: Image.Exif, directory: int, lost: list[str]) -> dict[int, Any]:
    """The entries of a directory that can be read."""
    try:
        entries: Mapping[int, Any] = exif.get_ifd(directory) if directory else exif
        names = list(entries)
    except Exception:
        # Whatever Pillow stumbles over in a damaged block.
        lost.append(f"{directory:#06x}")
        return {}
    found = {}
    for tag in names:
        try:
            found[tag] = _plain(entries[tag])
        except Exception:
            lost.append(f"{tag:#06x}")
    return found


def _plain(value: Any) -> Any:
    """Text as the bytes it was, for Pillow reads it as Latin-1 and writes ASCII."""
    return value.encode("latin-1") if isinstance(value, str) and not value.isascii() else value


def _block(directories: Mapping[int, Mapping[int, Any]]) -> bytes:
    """An EXIF block of these directories; empty where they are, or hold what cannot be written."""
    exif = Image.Exif()
    for directory, tags in directories.items():
        if directory and tags:
            exif[directory] = dict(tags)
        elif not directory:
            for tag, value in tags.items():
                exif[tag] = value
    try:
        block = exif.tobytes() if len(exif) else b""
        # Pillow writes some values that it cannot read.
        again = Image.Exif()
        again.load(block)
        for directory, tags in directories.items():
            read = again.get_ifd(directory) if directory else again
            for tag in tags:
                read[tag]
    except Exception:
        return b""
    return block


def kept_profile(opened: OpenedImage) -> bytes:
    """The colour profile, if it is one for RGB: for gray or printing colours it would be wrong for what is written."""
    profile = opened.image.info.get("icc_profile")
    if not isinstance(profile, bytes) or len(profile) < 128 or profile[16:20] != b"RGB " or profile[36:40] != b"acsp":
        return b""
    return profile


def kept_dpi(opened: OpenedImage) -> tuple[float, float] | None:
    """Pixels an inch, across and down the upright picture; None where the file does not say, or nothing usable."""
    try:
        across, down = opened.image.info.get("dpi") or _exif_dpi(opened.exif)
        dpi = float(across), float(down)
    except Exception:
        return None
    if not all(math.isfinite(value) and 1 <= value <= 65535 for value in dpi):
        return None
    return dpi[::-1] if opened.sideways else dpi


def _exif_dpi(exif: Image.Exif) -> tuple[float, float]:
    per_inch = {INCH: 1.0, CENTIMETRE: 2.54}[exif.get(RESOLUTION_UNIT, INCH)]
    return float(exif[X_RESOLUTION]) * per_inch, float(exif[Y_RESOLUTION]) * per_inch


def with_dpi(block: bytes, dpi: tuple[float, float] | None) -> bytes:
    """An EXIF block that says the resolution besides, for formats that have no other place for it."""
    if dpi is None:
        return block
    directories = _directories(block)
    directories[0] |= {X_RESOLUTION: dpi[0], Y_RESOLUTION: dpi[1], RESOLUTION_UNIT: INCH}
    return _block(directories)


def tiff_entries(block: bytes) -> TiffImagePlugin.ImageFileDirectory_v2:
    """An EXIF block as entries of a TIFF file's own directory."""
    entries = TiffImagePlugin.ImageFileDirectory_v2()
    directories = _directories(block)
    for tag, value in (directories.pop(0) | {key: tags for key, tags in directories.items() if tags}).items():
        entries[tag] = value
    return entries


def _directories(block: bytes) -> dict[int, dict[int, Any]]:
    """The entries of a block that `_block` made, by directory."""
    exif = Image.Exif()
    exif.load(block)
    found = {directory: _tags(exif, directory, []) for directory in (0, EXIF_IFD, GPS_IFD)}
    return {**found, 0: {tag: value for tag, value in found[0].items() if tag not in (EXIF_IFD, GPS_IFD)}}
