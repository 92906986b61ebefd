"""What restored files hold besides pixels, and what metadata, sound or broken, do to pixels: nothing."""

import io
import struct
import zlib

import numpy as np
import pytest
import skimage.data
import tifffile
import torch
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin
from torch import nn

from mlpzoo.images import read_image
from mlpzoo.restoration import Picture, read_picture, restore_files, write_picture

LAYOUT = {
    *(
        256,
        257,
        258,
        259,
        262,
        266,
        273,
        277,
        278,
        279,
        284,
        317,
        320,
        322,
        323,
        324,
        325,
        330,
        338,
        339,
        347,
        529,
        530,
    ),
    *(531, 532),
}
"""Tags that say how a TIFF stores its samples."""
DEPTH = {".png": 0, ".tif": 0, ".webp": 0, ".jpg": 12}
"""Formats, and how far a pixel may be off, of 255."""
PHOTO = skimage.data.coffee()[100:148, 200:264].copy()
GRAY = np.asarray(Image.fromarray(PHOTO).convert("L"))
ALPHA = np.where(np.arange(64)[None] < 20, 0, 255).astype(np.uint8).repeat(48, 0)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


class Same(nn.Module):
    """The picture itself."""

    def forward(self, x):
        return x


def restored(source, output, **options):
    (result,) = restore_files(Same(), source, output, **options)
    assert result.error is None, result.error
    return result


def on_white(samples):
    return np.where(ALPHA[..., None] == 0, 255, samples)


def save(mode, path, **options):
    image = Image.fromarray(PHOTO)
    if mode in ("LA", "RGBA"):
        image = image.convert(mode)
        image.putalpha(Image.fromarray(ALPHA))
    elif mode == "P":
        image = image.convert("P", palette=Image.Palette.ADAPTIVE)
    elif mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(image, *profiles, outputMode="LAB")
    else:
        image = image.convert(mode)
    image.save(path, **options)
    return np.asarray(image.convert("RGB") if mode not in ("LA", "RGBA") else Image.fromarray(PHOTO))


def save_array(kind, path):
    """Write a TIFF that Pillow does not write, and return the colours it shows."""
    deep, gray = PHOTO.astype(np.uint16) * 257, GRAY.astype(np.uint16) * 257
    planes = deep.transpose(2, 0, 1)
    content, options = {
        "gray-16": (gray, {}),
        "gray-16-big-endian": (gray, {"byteorder": ">"}),
        "gray-16-white-is-zero": (65535 - gray, {"photometric": "miniswhite"}),
        "gray-8-white-is-zero": (255 - GRAY, {"photometric": "miniswhite"}),
        "gray-16-predictor": (gray, {"compression": "zlib", "predictor": True}),
        "rgb-16": (deep, {"photometric": "rgb"}),
        "rgb-16-planes": (planes, {"photometric": "rgb", "planarconfig": "separate"}),
        "rgb-16-planes-big-endian": (planes, {"photometric": "rgb", "planarconfig": "separate", "byteorder": ">"}),
        "rgb-16-planes-zlib": (planes, {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib"}),
        "rgb-8-planes": (PHOTO.transpose(2, 0, 1), {"photometric": "rgb", "planarconfig": "separate"}),
        "rgb-8-predictor": (PHOTO, {"photometric": "rgb", "compression": "zlib", "predictor": True}),
        "rgb-8-tiles": (PHOTO, {"photometric": "rgb", "tile": (16, 16)}),
        "ycbcr-planes": (
            np.asarray(Image.fromarray(PHOTO).convert("YCbCr")).transpose(2, 0, 1),
            {"photometric": "ycbcr", "planarconfig": "separate", "subsampling": (1, 1)},
        ),
    }[kind]
    tifffile.imwrite(path, content, **options)
    return GRAY[..., None].repeat(3, 2) if "gray" in kind else PHOTO


ARRAYS = ["gray-16", "gray-16-big-endian", "gray-16-white-is-zero", "gray-8-white-is-zero", "gray-16-predictor"]
ARRAYS += ["rgb-16", "rgb-16-planes", "rgb-16-planes-big-endian", "rgb-16-planes-zlib", "rgb-8-planes"]
ARRAYS += ["rgb-8-predictor", "rgb-8-tiles", "ycbcr-planes"]
SOURCES = [(mode, ".tif") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", *ARRAYS)]
SOURCES += [(mode, ".png") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")]
SOURCES += [("L", ".jpg"), ("RGB", ".jpg"), ("CMYK", ".jpg"), ("RGB", ".webp"), ("RGBA", ".webp"), ("P", ".gif")]


@pytest.mark.parametrize("suffix", DEPTH)
@pytest.mark.parametrize(("mode", "ending"), SOURCES, ids=[f"{mode}{ending}" for mode, ending in SOURCES])
def test_every_output_opens_anywhere_in_the_right_colours(tmp_path, mode, ending, suffix):
    source, output = tmp_path / f"source{ending}", tmp_path / f"out{suffix}"
    if mode in ARRAYS:
        expected = save_array(mode, source)
    else:
        options = {"lossless": True} if ending == ".webp" else {"quality": 95} if ending == ".jpg" else {}
        expected = save(mode, source, **options)
    expected = on_white(expected) if mode in ("LA", "RGBA") else expected
    expected = GRAY[..., None].repeat(3, 2) if mode == "L" else expected
    if mode == "LA":
        expected = on_white(GRAY[..., None].repeat(3, 2))
    result = restored(source, output)
    deep = suffix == ".png" and mode.startswith("gray-16")
    assert result.bits == (16 if deep else 8)
    with Image.open(output) as image:
        found = np.asarray(image).astype(int)
        tags = dict(image.getexif())
        assert suffix == ".tif" or not LAYOUT & set(tags)
        assert 330 not in tags
    off = DEPTH[suffix] + (12 if ending == ".jpg" else 4 if mode in ("ycbcr-planes", "YCbCr", "LAB") else 0)
    assert np.abs(found - expected).mean() <= off / 4
    assert np.abs(found - expected).max() <= 6 * off
    if suffix == ".tif":
        with tifffile.TiffFile(output) as file:
            (page,) = file.pages
            assert (page.shape, page.photometric.name, page.planarconfig.name) == ((48, 64, 3), "RGB", "CONTIG")
            assert np.array_equal(file.asarray(), found)
            assert page.subifds is None


def test_sub_directories_and_further_pages_of_a_tiff_stay_behind(tmp_path):
    with tifffile.TiffWriter(tmp_path / "source.tif") as file:
        file.write(PHOTO, photometric="rgb", subifds=1)
        file.write(PHOTO[::2, ::2], photometric="rgb", subfiletype=1)
        file.write(PHOTO[::4], photometric="rgb")
    restored(tmp_path / "source.tif", tmp_path / "out.tif")
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert len(file.pages) == 1
        assert file.pages[0].subifds is None
        assert np.array_equal(file.asarray(), PHOTO)


@pytest.mark.parametrize("kind", ["shaped", "imagej", "ome"])
def test_descriptions_that_programs_read_stay_behind(tmp_path, kind):
    options = {"imagej": {"imagej": True}, "ome": {"ome": True}, "shaped": {}}[kind]
    tifffile.imwrite(tmp_path / "source.tif", GRAY.astype(np.uint16) * 257, **options)
    restored(tmp_path / "source.tif", tmp_path / "out.tif")
    with tifffile.TiffFile(tmp_path / "out.tif") as file:
        assert not any((file.is_shaped, file.is_imagej, file.is_ome))
        assert file.asarray().shape == (48, 64, 3)


def rich_exif(maker_note=b"\1\2\3\4\5"):
    exif = Image.Exif()
    exif[0x010E], exif[0x010F], exif[0x0110] = "a cup", "a maker", "a camera"
    exif[0x013B], exif[0x8298] = "Zoë".encode(), "me"
    exif[ExifTags.IFD.Exif] = {
        0x9003: "2024:02:03 04:05:06",
        0xA002: 64,
        0xA003: 48,
        0x927C: maker_note,
        0x829A: 0.25,
    }
    exif[ExifTags.IFD.GPSInfo] = {1: "N", 2: (47.0, 22.0, 10.5)}
    return exif.tobytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("ending", [".jpg", ".png", ".tif", ".webp"])
def test_what_describes_a_picture_survives(tmp_path, ending, suffix):
    for mode in ("RGB", "P", "L") if ending in (".png", ".tif") else ("RGB",):
        save(mode, tmp_path / f"source{ending}", exif=rich_exif(), icc_profile=SRGB, dpi=(300, 150))
        result = restored(tmp_path / f"source{ending}", tmp_path / f"out{suffix}", overwrite=True)
        assert result.notes == ()
        with Image.open(tmp_path / f"out{suffix}") as image:
            exif = image.getexif()
            assert [exif[tag] for tag in (0x010E, 0x010F, 0x0110, 0x8298)] == ["a cup", "a maker", "a camera", "me"]
            # Pillow itself writes TIFF files in ASCII.
            assert ending == ".tif" or exif[0x013B].encode("latin-1").decode() == "Zoë"
            own = exif.get_ifd(ExifTags.IFD.Exif)
            assert (own[0x9003], own[0x927C], float(own[0x829A])) == ("2024:02:03 04:05:06", b"\1\2\3\4\5", 0.25)
            assert not {0xA002, 0xA003} & set(own)
            assert [float(part) for part in exif.get_ifd(ExifTags.IFD.GPSInfo)[2]] == [47.0, 22.0, 10.5]
            assert image.info["icc_profile"] == SRGB
        if ending != ".webp":
            assert read_picture(tmp_path / f"out{suffix}").dpi == pytest.approx((300, 150), abs=0.02)


def test_a_resolution_turns_with_the_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for ending in (".jpg", ".png", ".tif"):
        Image.fromarray(PHOTO).save(tmp_path / f"source{ending}", exif=exif, dpi=(300, 150))
        picture = read_picture(tmp_path / f"source{ending}")
        assert picture.pixels.shape == (3, 64, 48)
        assert picture.dpi == pytest.approx((150, 300), abs=0.02)


@pytest.mark.parametrize("dpi", [(0, 0), (float("nan"), 72), (1e9, 1e9), ("x", "y"), None, 72, (-1, -1)])
def test_resolutions_that_mean_nothing(tmp_path, monkeypatch, dpi):
    save("RGB", tmp_path / "source.png")
    opened = Image.open

    def opening(*args, **options):
        image = opened(*args, **options)
        image.info["dpi"] = dpi
        return image

    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", opening)
        picture = read_picture(tmp_path / "source.png")
    assert picture.dpi is None
    write_picture(picture, tmp_path / "out.jpg")


def test_profiles_of_other_colours_are_left_out(tmp_path):
    gray = bytearray(SRGB)
    gray[16:20] = b"GRAY"
    for profile, mode in ((bytes(gray), "L"), (b"no profile", "RGB"), (bytes(200), "RGB")):
        save(mode, tmp_path / "source.png", icc_profile=profile)
        assert read_picture(tmp_path / "source.png").icc_profile == b""


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "ending"), [("L", ".tif"), ("I;16", ".tif"), ("P", ".tif"), ("RGB", ".tif"), ("L", ".jpg")]
)
def test_turned_files_of_every_depth(tmp_path, kind, ending, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = {"L": GRAY, "P": GRAY, "RGB": PHOTO, "I;16": GRAY.astype(np.uint16) * 257}[kind]
    stored = {
        1: lambda x: x,
        2: np.fliplr,
        3: lambda x: np.rot90(x, 2),
        4: np.flipud,
        5: lambda x: x.swapaxes(0, 1),
        6: np.rot90,
        7: lambda x: np.rot90(x, 2).swapaxes(0, 1),
        8: lambda x: np.rot90(x, -1),
    }[orientation](upright)
    image = Image.fromarray(np.ascontiguousarray(stored))
    image = image.convert("P") if kind == "P" else image
    image.save(tmp_path / f"turned{ending}", exif=exif, **({"quality": 100} if ending == ".jpg" else {}))
    expected = PHOTO if kind == "RGB" else GRAY[..., None].repeat(3, 2)
    off = 3 if ending == ".jpg" else 1 if kind == "I;16" else 0
    found = read_image(tmp_path / f"turned{ending}")
    assert np.abs(np.asarray(found).astype(int) - expected).max() <= off
    assert not dict(found.getexif())
    pixels = read_picture(tmp_path / f"turned{ending}").pixels.permute(1, 2, 0).numpy() * 255
    assert np.abs(pixels - expected).max() <= off + 0.01


def exif_with(entries, head=b"II*\0\x08\0\0\0"):
    """An EXIF block of raw entries (tag, type, count, four bytes)."""
    packed = b"".join(struct.pack("<HHI4s", *entry) for entry in entries)
    return b"Exif\0\0" + head + struct.pack("<H", len(entries)) + packed + bytes(4)


CAMERA = (0x0110, 2, 4, b"cam\0")
BROKEN = {
    "no TIFF": b"Exif\0\0this is no TIFF file",
    "only a head": b"Exif\0\0II*\0",
    "nothing": b"Exif\0\0",
    "directory beyond the end": b"Exif\0\0II*\0\xff\xff\0\0",
    "cut directory": exif_with([CAMERA, CAMERA])[:30],
    "value beyond the end": exif_with([CAMERA, (0x010F, 2, 400, struct.pack("<I", 9000))]),
    "unknown type": exif_with([CAMERA, (0x010F, 99, 1, bytes(4))]),
    "huge count": exif_with([CAMERA, (0x010F, 5, 2**31 - 1, bytes(4))]),
    "orientation as text": exif_with([CAMERA, (0x0112, 2, 2, b"6\0\0\0")]),
    "orientation as bytes": exif_with([CAMERA, (0x0112, 7, 1, b"\6\0\0\0")]),
    "orientation out of range": exif_with([CAMERA, (0x0112, 3, 1, struct.pack("<HH", 77, 0))]),
    "orientation zero": exif_with([CAMERA, (0x0112, 3, 1, bytes(4))]),
    "GPS beyond the end": exif_with([CAMERA, (0x8825, 4, 1, struct.pack("<I", 2**31))]),
    "EXIF directory is text": exif_with([CAMERA, (0x8769, 2, 4, b"abc\0")]),
    "EXIF directory in itself": exif_with([CAMERA, (0x8769, 4, 1, struct.pack("<I", 8))]),
    "resolution over zero": exif_with([CAMERA, (0x011A, 5, 1, struct.pack("<I", 0))]),
}


def with_exif(ending, block, path):
    """The photograph in a lossless format, or in JPEG, with that block as it is."""
    options = {".webp": {"lossless": True}, ".jpg": {"quality": 100, "subsampling": 0}}.get(ending, {})
    Image.fromarray(PHOTO).save(path, exif=block, **options)
    return path


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp"])
def test_broken_exif_leaves_the_pixels_alone(tmp_path, ending, kind):
    source = with_exif(ending, BROKEN[kind], tmp_path / f"source{ending}")
    notes = []
    found = np.asarray(read_image(source, warn=notes.append)).astype(int)
    assert np.abs(found - PHOTO).max() <= (8 if ending == ".jpg" else 0)
    assert all(note.startswith(f"{source}: its ") and "\n" not in note for note in notes)
    if kind == "no TIFF" or (kind.startswith("orientation") and kind != "orientation zero"):
        assert len(notes) == 1
    for suffix in DEPTH:
        result = restored(source, tmp_path / f"out{suffix}", overwrite=True)
        assert all(note.startswith(str(source)) for note in result.notes)
        picture = read_picture(tmp_path / f"out{suffix}", warn=pytest.fail)
        assert picture.pixels.shape == (3, 48, 64)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(*chunks):
    """The photograph with more chunks before its pixels."""
    stream = io.BytesIO()
    Image.fromarray(PHOTO).save(stream, "PNG")
    content = stream.getvalue()
    return content[:33] + b"".join(chunks) + content[33:]


def jpeg_with(*segments):
    stream = io.BytesIO()
    Image.fromarray(PHOTO).save(stream, "JPEG", quality=100, subsampling=0)
    content = stream.getvalue()
    segments = b"".join(bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data for marker, data in segments)
    return content[:2] + segments + content[2:]


def tiff_with(tag, kind, count, value):
    """The photograph in TIFF, with an entry of its directory changed."""
    stream = io.BytesIO()
    Image.fromarray(PHOTO).save(stream, "TIFF", exif=rich_exif(), dpi=(300, 300))
    content = stream.getvalue()
    (start,) = struct.unpack("<I", content[4:8])
    (entries,) = struct.unpack("<H", content[start : start + 2])
    for place in range(start + 2, start + 2 + 12 * entries, 12):
        if content[place : place + 2] == struct.pack("<H", tag):
            return content[:place] + struct.pack("<HHI4s", tag, kind, count, value) + content[place + 12 :]
    raise AssertionError(tag)


MPF = b"MPF\0II*\0\x08\0\0\0"
DAMAGED = {
    "eXIf.png": png_with(chunk(b"eXIf", b"no TIFF")),
    "eXIf-empty.png": png_with(chunk(b"eXIf", b"")),
    "pHYs.png": png_with(chunk(b"pHYs", b"\0")),
    "checksum.png": png_with(chunk(b"tEXt", b"a\0b")[:-1] + b"!"),
    "text.png": png_with(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))),
    "iCCP.png": png_with(chunk(b"iCCP", b"x\0\0broken")),
    "tIME.png": png_with(chunk(b"tIME", b"")),
    "raw-profile.png": png_with(chunk(b"tEXt", b"Raw profile type exif\0\nexif\n  4\nzz!!")),
    "index.jpg": jpeg_with((0xE2, MPF + struct.pack("<H", 1) + struct.pack("<HHII", 0xB001, 4, 1, 3) + bytes(4))),
    "index-2.jpg": jpeg_with(
        (
            0xE2,
            MPF
            + struct.pack("<H", 2)
            + struct.pack("<HHII", 0xB001, 4, 1, 3)
            + struct.pack("<HHII", 0xB002, 7, 16, 38)
            + bytes(20),
        )
    ),
    "index-3.jpg": jpeg_with((0xE2, b"MPF\0nonsense")),
    "photoshop.jpg": jpeg_with((0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\1x")),
    "jfif.jpg": jpeg_with((0xE0, b"JFIF\0\1")),
    "adobe.jpg": jpeg_with((0xEE, b"Adobe")),
    "icc.jpg": jpeg_with((0xE2, b"ICC_PROFILE\0\1")),
    "exif.jpg": jpeg_with((0xE1, BROKEN["no TIFF"]), (0xE1, BROKEN["cut directory"])),
    "resolution-text.tif": tiff_with(282, 2, 4, b"abc\0"),
    "resolution-short.tif": tiff_with(283, 3, 1, bytes(4)),
    "unit-text.tif": tiff_with(296, 2, 4, b"abc\0"),
    "orientation.tif": tiff_with(0x010F, 99, 7, bytes(4)),
    "maker.tif": tiff_with(0x010F, 2, 2**30, struct.pack("<I", 2**31)),
    "exif-directory.tif": tiff_with(0x8769, 2, 4, b"abc\0"),
    "exif-far.tif": tiff_with(0x8769, 4, 1, struct.pack("<I", 2**31 + 5)),
    "gps-directory.tif": tiff_with(0x8825, 4, 1, struct.pack("<I", 3)),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_metadata_leave_the_pixels_alone(tmp_path, name):
    source = tmp_path / name
    source.write_bytes(DAMAGED[name])
    notes = []
    found = np.asarray(read_image(source, warn=notes.append)).astype(int)
    assert np.abs(found - PHOTO).max() <= (8 if name.endswith("jpg") else 0)
    for suffix in DEPTH:
        restored(source, tmp_path / f"out{suffix}", overwrite=True)
        read_picture(tmp_path / f"out{suffix}", warn=pytest.fail)


def test_damaged_pixels_are_still_refused(tmp_path):
    whole = png_with()
    for content in (whole[:-300], whole[:60] + b"!!" + whole[62:], jpeg_with()[:300]):
        (tmp_path / "a.png").write_bytes(content)
        (result,) = restore_files(Same(), tmp_path / "a.png", tmp_path / "out.png")
        assert "cannot read" in str(result.error)
        assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("ending", [".png", ".webp", ".tif"])
def test_an_exif_block_that_is_too_long_for_jpeg(tmp_path, ending):
    with_exif(ending, rich_exif(bytes(70000)), tmp_path / f"source{ending}")
    result = restored(tmp_path / f"source{ending}", tmp_path / "out.jpg")
    (note,) = result.notes
    assert note.startswith(f"{tmp_path / 'out.jpg'}: its EXIF is left out, for it has 70,")
    with Image.open(tmp_path / "out.jpg") as image:
        assert not dict(image.getexif())
    for suffix in (".png", ".webp", ".tif"):
        assert restored(tmp_path / f"source{ending}", tmp_path / f"out{suffix}").notes == ()
        with Image.open(tmp_path / f"out{suffix}") as image:
            assert len(image.getexif().get_ifd(ExifTags.IFD.Exif)[0x927C]) == 70000


def test_formats_that_hold_none_say_so(tmp_path):
    with_exif(".png", rich_exif(), tmp_path / "source.png")
    assert "BMP holds none" in restored(tmp_path / "source.png", tmp_path / "out.bmp").notes[0]


def test_a_transparent_colour_of_sixteen_bits_becomes_white(tmp_path):
    deep = PHOTO.astype(np.uint16) * 257
    deep[:9] = (1000, 2000, 3000)
    # One that differs in its lower byte alone stays.
    deep[20] = (1000, 2000, 3001)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 48, 16, 2, 0, 0, 0))
    colour = chunk(b"tRNS", struct.pack(">HHH", 1000, 2000, 3000))
    content = b"\x89PNG\r\n\x1a\n" + header + colour + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "clear.png").write_bytes(content)
    pixels = (read_picture(tmp_path / "clear.png").pixels.permute(1, 2, 0) * 65535).round().numpy()
    assert (pixels[:9] == 65535).all()
    assert (pixels[20] == deep[20]).all()
    assert (np.asarray(read_image(tmp_path / "clear.png"))[:9] == 255).all()


def test_pictures_of_one_bit_depth_more(tmp_path):
    """Twelve bits a sample fill the whole range."""
    image = TiffImagePlugin.ImageFileDirectory_v2()
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    packed = np.zeros((64, 96), np.uint8)
    even, odd = values[:, ::2], values[:, 1::2]
    packed[:, ::3], packed[:, 1::3], packed[:, 2::3] = even >> 4, (even & 15) << 4 | odd >> 8, odd & 255
    for tag, value in {256: 64, 257: 64, 258: 12, 259: 1, 262: 1, 277: 1, 278: 64, 279: packed.size}.items():
        image[tag] = value
    # Counted from the end of the directory.
    image[273] = 0
    (tmp_path / "twelve.tif").write_bytes(b"II*\0\x08\0\0\0" + image.tobytes(8) + packed.tobytes())
    pixels = read_picture(tmp_path / "twelve.tif").pixels
    assert (pixels.min(), pixels.max()) == (0, 1)
    assert torch.equal((pixels[0] * 4095).round(), torch.from_numpy(values.astype(np.float32)))


def test_what_is_written_is_whatever_was_read(tmp_path):
    """A written picture has no metadata of a kind that reading it again would drop."""
    with_exif(".png", rich_exif(), tmp_path / "source.png")
    picture = read_picture(tmp_path / "source.png")
    assert isinstance(picture, Picture)
    write_picture(picture, tmp_path / "out.png")
    again = read_picture(tmp_path / "out.png")
    assert (again.exif, again.icc_profile, again.dpi) == (picture.exif, picture.icc_profile, picture.dpi)
    assert torch.equal(again.pixels, picture.pixels)
