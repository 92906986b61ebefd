"""PNG files of 16 bits a sample, which Pillow reads with 8 unless they are gray, and does not write in colour.

After the PNG specification, third edition (https://www.w3.org/TR/png-3/).

Shape suffixes: H × W pixels, C channels, N bytes of a pixel.
"""

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
INCH = 0.0254
"""In metres."""
CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}
"""Samples of a pixel by colour type: gray, RGB, gray and alpha, RGB and alpha."""


def has_16_bits(content: bytes) -> bool:
    """Whether a file is a PNG of 16 bits a sample that `decode` can read: not one of interlaced rows."""
    return content.startswith(SIGNATURE) and content[24:25] == b"\x10" and content[28:29] == b"\0"


def decode(content: bytes) -> np.ndarray:
    """The samples of a file that `has_16_bits`, `(height, width, channels)` in uint16; alpha comes last.

    Raises:
        ValueError: when the file is damaged or cut short.
    """
    compressed = []
    place = len(SIGNATURE)
    kind = b""
    while kind != b"IEND":
        header = content[place : place + 8]
        if len(header) < 8:
            raise ValueError("it ends before its last chunk")
        length, kind = struct.unpack(">I4s", header)
        data = content[place + 8 : place + 8 + length]
        if content[place + 8 + length : place + 12 + length] != struct.pack(">I", zlib.crc32(kind + data)):
            raise ValueError("a checksum is wrong")
        if kind == b"IDAT":
            compressed.append(data)
        place += 12 + length
    width, height, _, colour = struct.unpack(">IIBB", content[16:26])
    pixel = 2 * CHANNELS[colour]
    size = height * (1 + width * pixel)
    try:
        # Not a byte more than the picture has, whatever the file would unpack to.
        unpacked = zlib.decompressobj().decompress(b"".join(compressed), size)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(unpacked) < size:
        raise ValueError("it has fewer pixels than it says")
    rows = np.frombuffer(unpacked, np.uint8).reshape(height, -1)
    if rows[:, 0].max() > 4:
        raise ValueError("a row has a filter of an unknown kind")
    x_HWN = _unfilter(rows[:, 0], rows[:, 1:].reshape(height, width, pixel))
    return x_HWN.reshape(height, -1).view(">u2").reshape(height, width, -1).astype(np.uint16)


def _unfilter(filters_H: np.ndarray, x_HWN: np.ndarray) -> np.ndarray:
    """Add to each byte what its row's filter predicts from the pixels to the left, above, and above to the left.

    A pixel waits for three others, so pixels of one diagonal wait for none of each other: one step takes all of them.
    """
    height, width, pixel = x_HWN.shape
    # A row and a column of zeros stand before the first ones.
    y = np.zeros((height + 1, width + 1, pixel), np.uint8)
    for step in range(height + width - 1):
        rows = np.arange(max(0, step - width + 1), min(height, step + 1))
        columns = step - rows
        left = y[rows + 1, columns].astype(np.int16)
        above = y[rows, columns + 1].astype(np.int16)
        corner = y[rows, columns].astype(np.int16)
        # Paeth: the one of the three nearest to left + above - corner, the earlier one where two are as near.
        to_left, to_above = abs(above - corner), abs(left - corner)
        to_corner = abs(left + above - 2 * corner)
        nearest = np.where(to_above <= to_corner, above, corner)
        nearest = np.where((to_left <= to_above) & (to_left <= to_corner), left, nearest)
        predicted = np.choose(filters_H[rows, None], [0 * left, left, above, (left + above) // 2, nearest])
        y[rows + 1, columns + 1] = (x_HWN[rows, columns] + predicted) & 255
    return np.ascontiguousarray(y[1:, 1:])


def encode(
    x_HWC: np.ndarray, exif: bytes = b"", icc_profile: bytes = b"", dpi: tuple[float, float] | None = None
) -> bytes:
    """A PNG file of RGB samples.

    Args:
        x_HWC: `(height, width, 3)` in uint16.
        exif: EXIF block, with or without the marker that JPEG puts before it.
        icc_profile: colour profile.
        dpi: pixels an inch, across and down.

    Returns:
        The file's content.
    """
    height, width, _ = x_HWC.shape
    rows = x_HWC.astype(">u2").reshape(height, -1).view(np.uint8)
    # Filter 2: every byte less the one above it.
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0] = 2
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
        (b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc_profile) if icc_profile else b""),
        (b"pHYs", struct.pack(">IIB", *(round(value / INCH) for value in dpi), 1) if dpi else b""),
        (b"eXIf", exif.removeprefix(b"Exif\0\0")),
        (b"IDAT", zlib.compress(filtered.tobytes())),
    ]
    return b"".join([SIGNATURE, *(_chunk(kind, data) for kind, data in chunks if data), _chunk(b"IEND", b"")])


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
