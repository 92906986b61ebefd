"""Detections drawn into pictures, file by file."""

import colorsys
import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mlpzoo.images import FilePath
from mlpzoo.tasks.detector import Box, Detections, Detector, detect
from mlpzoo.weights._writing import disk_is_full, replacing

SUFFIX = "-detected.png"
LEGIBLE = 512
"""Pictures whose longer side has fewer pixels are drawn enlarged, a whole number of times, for the text's sake."""


def color_of(number: int) -> str:
    """A colour for a class; those of neighbouring numbers are far apart."""
    red, green, blue = colorsys.hls_to_rgb(number * 0.381966 % 1, 0.45, 0.95)
    return f"#{round(255 * red):02x}{round(255 * green):02x}{round(255 * blue):02x}"


def draw_boxes(image: Image.Image, boxes: Sequence[Box], classes: Sequence[str]) -> Image.Image:
    """A copy of an image with boxes, class names and scores; a small one is enlarged."""
    scale = max(1, LEGIBLE // max(image.size))
    drawn = image.resize((scale * image.width, scale * image.height), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(drawn)
    size = max(12, max(drawn.size) // 40)
    font = ImageFont.load_default(size)
    width = max(2, size // 6)
    # The highest score last, and so on top.
    for box in reversed(boxes):
        left, top, right, bottom = (scale * side for side in box.box)
        color = color_of(classes.index(box.label))
        pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=color, width=width)
        text = f"{box.label} {box.score:.2f}"
        _, _, wide, high = pen.textbbox((0, 0), text, font=font)
        # Above the box; inside where the picture ends.
        across = min(max(left, 0), max(drawn.width - wide - 4, 0))
        down = top - high - 4 if top >= high + 4 else top
        pen.rectangle((across, down, across + wide + 4, down + high + 4), fill=color)
        pen.text((across + 2, down + 1), text, font=font, fill="white")
    return drawn


@dataclasses.dataclass(frozen=True)
class DetectedFile:
    """What became of one file.

    Attributes:
        source: the file read.
        output: the picture written; None where none was.
        boxes: what was found.
        error: why nothing was written, else None.
    """

    source: Path
    output: Path | None = None
    boxes: tuple[Box, ...] = ()
    error: Exception | None = None
    notes: tuple[str, ...] = ()


def detect_files(
    detector: Detector,
    paths: Iterable[FilePath],
    *,
    out: str | Path | None = None,
    score_threshold: float = 0.5,
    overwrite: bool = False,
    max_pixels: int | None = None,
) -> Iterator[DetectedFile]:
    """Detect objects in image files and write `NAME-detected.png` for each, going on past those that cannot be used.

    Args:
        detector: what `load_detector` gave.
        paths: the files.
        out: the folder to write into, made if missing; beside each file if None.
        score_threshold: objects of a lower score are left out.
        overwrite: whether to replace files of earlier runs. Files of `paths`, and what was written for others of
            them, are never replaced.
        max_pixels: how many pixels an image may have, see `mlpzoo.images.read_image`.

    Returns:
        One `DetectedFile` a file, made as they are asked for.

    Raises:
        ValueError: for a threshold outside of 0 to 1, or less than one pixel; at the call.
        OSError: when the disk is full; as that file is asked for.
    """
    files = [Path(path) for path in paths]
    found = detect(detector, files, score_threshold=score_threshold, max_pixels=max_pixels)
    return _draw_all(detector.config.classes, files, found, None if out is None else Path(out), overwrite)


def _draw_all(
    classes: Sequence[str], files: list[Path], found: Iterator[Detections], out: Path | None, overwrite: bool
) -> Iterator[DetectedFile]:
    taken = {os.path.realpath(file) for file in files}
    for source in files:
        output = (out or source.parent) / f"{source.stem}{SUFFIX}"
        detections = next(found)
        if detections.error or detections.image is None:
            yield DetectedFile(source, error=detections.error)
            continue
        place = os.path.realpath(output)
        if place in taken:
            error: Exception = ValueError(
                f"will not write {output} for {source}: it is one of the files given, or written for another of them"
            )
        elif output.exists() and not overwrite:
            error = ValueError(f"will not replace {output}: say --overwrite (overwrite=True), or name another folder")
        else:
            taken.add(place)
            try:
                with replacing(output) as temporary:
                    draw_boxes(detections.image, detections.boxes, classes).save(temporary, format="PNG")
            except OSError as problem:
                if disk_is_full(problem):
                    raise
                error = OSError(f"cannot write {output}: {problem.strerror or problem}")
            else:
                yield DetectedFile(source, output, detections.boxes, notes=detections.notes)
                continue
        yield DetectedFile(source, boxes=detections.boxes, error=error, notes=detections.notes)
