"""The bytes of an image file that decide about its pixels, for files whose metadata a decoder stumbles over."""

import struct

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
TIFF = {b"II*\0": "<", b"MM\0*": ">"}

COLOUR_SEGMENTS = {0xE0: 16, 0xEE: 14}
"""JPEG's markers of the segments of JFIF and of Adobe, and the bytes of a whole one."""
TIFF_TAGS = frozenset(
    (
        *(256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284),  # size, samples, photometric, strips, planes
        *(292, 293, 317, 320, 322, 323, 324, 325, 332),  # fax options, predictor, palette, tiles, inks
        *(338, 339, 347, *range(512, 522), 529, 530, 531, 532),  # alpha, sample format, JPEG tables, YCbCr
    )
)
"""Entries that say where a TIFF's samples are and what they mean (TIFF 6.0, sections 2 to 22)."""
ORIENTATION, SHORT = 274, 3


def essential_bytes(content: bytes) -> bytes | None:
    """A file without what does not decide about its pixels: EXIF, comments, profiles, thumbnails, further pages.

    Args:
        content: a JPEG, PNG or TIFF file.

    Returns:
        Such a file; None for another format, or one too damaged to be taken apart.
    """
    try:
        if content.startswith(JPEG):
            return _jpeg(content)
        if content.startswith(PNG):
            return _png(content)
        if content[:4] in TIFF:
            return _tiff(content, TIFF[content[:4]])
    except (struct.error, IndexError):
        pass
    return None


def _jpeg(content: bytes) -> bytes:
    """Without comments and application segments, but whole ones of JFIF and Adobe, which tell the colour space."""
    kept, place = [content[:2]], 2
    while (marker := content[place + 1]) != 0xDA:
        (length,) = struct.unpack(">H", content[place + 2 : place + 4])
        application = 0xE0 <= marker <= 0xEF or marker == 0xFE
        if not application or length >= COLOUR_SEGMENTS.get(marker, 1 << 16):
            kept.append(content[place : place + 2 + length])
        place += 2 + length
        while content[place : place + 2] == b"\xff\xff":
            place += 1
    return b"".join([*kept, content[place:]])


def _png(content: bytes) -> bytes:
    """Without ancillary chunks, whose names begin with a small letter, but the one for transparency."""
    kept, place = [PNG], len(PNG)
    while place + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[place : place + 8])
        if not kind[0] & 32 or kind == b"tRNS":
            kept.append(content[place : place + 12 + length])
        place += 12 + length
    return b"".join(kept)


def _tiff(content: bytes, order: str) -> bytes:
    """With a first directory of the essential entries alone, in the place of the old one, and no second."""
    (start,) = struct.unpack(f"{order}I", content[4:8])
    (count,) = struct.unpack(f"{order}H", content[start : start + 2])
    entries = [content[start + 2 + 12 * i : start + 14 + 12 * i] for i in range(count)]
    kept = [entry for entry in entries if _is_essential(entry, order)]
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4)
    return content[:start] + directory + content[start + len(directory) :]


def _is_essential(entry: bytes, order: str) -> bool:
    tag, kind, count, value = struct.unpack(f"{order}HHIH2x", entry)
    return tag in TIFF_TAGS or (tag == ORIENTATION and kind == SHORT and count == 1 and 1 <= value <= 8)
