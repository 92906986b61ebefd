"""From image files to restored image files."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from mlpzoo.images import FilePath, ImageError
from mlpzoo.models import Network
from mlpzoo.registry import LOCAL
from mlpzoo.restoration._create import create_restorer
from mlpzoo.restoration._restore import check_tiles, restore
from mlpzoo.restoration.metrics import WINDOW, psnr, ssim
from mlpzoo.restoration.pictures import SUFFIXES, check_output, read_picture, write_picture
from mlpzoo.weights import CheckpointError, read_config
from mlpzoo.weights._writing import disk_is_full

READ_SUFFIXES = (*SUFFIXES, ".gif", ".jp2", ".j2k", ".ppm", ".pgm")
"""Endings of the names that count as images in a folder."""

PictureProgress = Callable[[Path, int, int], None]
"""Told, after every pass of the network, of which file it was, and how many passes are done, of how many."""


@dataclasses.dataclass(frozen=True)
class RestoredFile:
    """What became of one file.

    Attributes:
        source: the file read.
        output: the file written.
        bits: of each sample written.
        source_bits: of each sample read.
        psnr: of what was written against the target, in dB, where there is one.
        ssim: likewise, where the picture is large enough.
        source_psnr: of what was read, against the target.
        source_ssim: likewise.
        error: why nothing was written, else None.
        notes: what could not be used or kept of a picture that was restored nevertheless.
    """

    source: Path
    output: Path
    bits: int = 0
    source_bits: int = 0
    psnr: float | None = None
    ssim: float | None = None
    source_psnr: float | None = None
    source_ssim: float | None = None
    error: Exception | None = None
    notes: tuple[str, ...] = ()


def load_restorer(
    checkpoint: FilePath | None = None,
    *,
    model: str | None = None,
    task: str | None = None,
    dataset: str | None = None,
    device: torch.device | str | None = None,
) -> Network:
    """Build a trained network for `restore_files`.

    Args:
        checkpoint: a folder that training wrote, which names its network itself; or a file of weights, with `model`
            or `task` to say of which network. None to download the checkpoint released for `task`.
        model: a name of `list_restorers()`.
        task: a task with released checkpoints.
        dataset: which of them, by what it was trained on.
        device: where the network runs.

    Returns:
        The network, in evaluation mode.

    Raises:
        ValueError: for unknown names, or a combination that makes no sense.
        mlpzoo.CheckpointError: when the checkpoint cannot be read or does not fit.
    """
    if checkpoint is None:
        if task is None:
            raise ValueError("give a checkpoint, or a task to download its released checkpoint")
        return create_restorer(model, task=task, dataset=dataset, pretrained=True, device=device).eval()
    checkpoint = Path(checkpoint)
    if checkpoint.is_dir():
        if model is not None or task is not None or dataset is not None:
            raise ValueError(
                f"the folder {checkpoint} names its own network ({read_config(checkpoint)['architecture']}): leave out "
                "model, task and data set"
            )
        return create_restorer(f"{LOCAL}{checkpoint}", device=device).eval()
    if not checkpoint.exists():
        raise CheckpointError(f"there is no file or folder {checkpoint}")
    if model is None and task is None:
        raise ValueError(f"{checkpoint} is a file of weights: say of which network, by its name or by the task")
    return create_restorer(model, task=task, dataset=dataset, checkpoint_path=checkpoint, device=device).eval()


def restore_files(
    model: nn.Module,
    source: FilePath,
    output: FilePath,
    *,
    target: FilePath | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    self_ensemble: bool = False,
    overwrite: bool = False,
    max_pixels: int | None = None,
    progress: PictureProgress | None = None,
) -> Iterator[RestoredFile]:
    """Restore an image file, or every image file of a folder, going on past those that cannot be read or written.

    Pictures are read upright and keep their 8 or 16 bits (16 in PNG files only), their colour profile, their resolution
    and what else EXIF says of them; see `mlpzoo.restoration.pictures`. They are written in RGB. Only a full disk ends
    the work, for nothing more could be written.

    Args:
        model: a network from image to image, see `mlpzoo.restoration.restore`.
        source: an image file, or a folder; folders inside it are left alone.
        output: the file to write, its ending says in which format; or a folder, made if missing when `source` is
            one, to hold files of the same names (with `.png` for formats that are not written).
        target: the true picture, or a folder of true pictures of the same names, for PSNR and SSIM. They are measured
            on the 8 or 16 bits written, JPEG's loss aside.
        tile: see `restore`.
        overlap: see `restore`.
        self_ensemble: see `restore`.
        overwrite: whether files that exist are replaced, each when the new one is whole and was read back; otherwise
            they are errors.
        max_pixels: how many pixels a picture may have, see `mlpzoo.images.read_image`.
        progress: called as the work goes on.

    Returns:
        One `RestoredFile` a picture, made as they are asked for.

    Raises:
        ValueError: when source, output and target do not go together, or the tile does not suit the network; at the
            call.
        OSError: when the output cannot be written; at the call. When the disk is full; as that file is asked for.
    """
    check_tiles(model, tile, overlap)
    if max_pixels is not None and max_pixels < 1:
        raise ValueError(f"max_pixels must be 1 or more, got {max_pixels}")
    jobs = _plan(Path(source), Path(output), None if target is None else Path(target), overwrite)

    def run(job: _Job) -> RestoredFile:
        def passed(done: int, total: int) -> None:
            if progress is not None:
                progress(job.source, done, total)

        notes: list[str] = []
        try:
            check_output(job.output, overwrite=overwrite)
            truth = None
            if job.target is not None:
                truth = read_picture(job.target, max_pixels=max_pixels, warn=notes.append).pixels
            picture = read_picture(job.source, max_pixels=max_pixels, warn=notes.append)
            if truth is not None and truth.shape != picture.pixels.shape:
                sizes = [f"{image.shape[1]}×{image.shape[2]}" for image in (picture.pixels, truth)]
                raise ImageError(f"{job.source} is {sizes[0]} pixels and its target {job.target} is {sizes[1]}")
            pixels = restore(
                model, picture.pixels, tile=tile, overlap=overlap, self_ensemble=self_ensemble, progress=passed
            )
            if not math.isfinite(float(pixels.sum())):
                raise ImageError(f"cannot restore {job.source}: the network gives NaN or infinity")
            restored = dataclasses.replace(picture, pixels=pixels)
            if truth is None:
                # A large picture is not held twice while it is written.
                picture = restored
            bits = write_picture(restored, job.output, overwrite=overwrite, warn=notes.append)
        except OSError as error:
            if disk_is_full(error):
                raise
            return RestoredFile(job.source, job.output, error=error, notes=tuple(notes))
        except ImageError as error:
            return RestoredFile(job.source, job.output, error=error, notes=tuple(notes))
        except (MemoryError, RuntimeError) as error:
            # One picture may be too large for the device; the others need not be.
            problem = ImageError(f"cannot restore {job.source}: {' '.join(str(error).split()) or 'out of memory'}")
            problem.__cause__ = error
            return RestoredFile(job.source, job.output, error=problem, notes=tuple(notes))
        result = RestoredFile(job.source, job.output, bits, picture.bits, notes=tuple(notes))
        if truth is None:
            return result
        steps = 2**bits - 1
        written = pixels.clamp(0, 1).mul(steps).round().div(steps)
        return dataclasses.replace(
            result,
            psnr=psnr(written, truth),
            source_psnr=psnr(picture.pixels, truth),
            ssim=_ssim(written, truth),
            source_ssim=_ssim(picture.pixels, truth),
        )

    return map(run, jobs)


@dataclasses.dataclass(frozen=True)
class _Job:
    source: Path
    output: Path
    target: Path | None


def _plan(source: Path, output: Path, target: Path | None, overwrite: bool) -> list[_Job]:
    """What to make of what.

    Raises:
        ValueError: when it is unclear.
        OSError: when the output cannot be written.
    """
    if target is not None and not target.exists():
        raise ValueError(f"there is no target {target}")
    if not source.is_dir():
        if target is not None and target.is_dir():
            raise ValueError(f"the target {target} is a folder: give the one true picture of {source}")
        job = _Job(source, output / _output_name(source) if output.is_dir() else output, target)
        _check_target(job)
        if not output.is_dir():
            # One file's mistakes are the call's.
            check_output(output, overwrite=overwrite)
        return [job]
    if target is not None and not target.is_dir():
        raise ValueError(f"{source} is a folder: give a folder of true pictures as the target as well")
    files = sorted(path for path in source.iterdir() if path.suffix.lower() in READ_SUFFIXES and path.is_file())
    if not files:
        raise ValueError(f"{source} holds no image files ({', '.join(READ_SUFFIXES)})")
    outputs = [output / _output_name(path) for path in files]
    if len(set(outputs)) < len(outputs):
        twice = next(path for path in outputs if outputs.count(path) > 1)
        raise ValueError(f"two pictures of {source} would both become {twice}: restore them one by one")
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output} is a file: give a folder to hold the pictures restored")
    truths = [None] * len(files) if target is None else [_counterpart(path, target) for path in files]
    jobs = [_Job(*paths) for paths in zip(files, outputs, truths, strict=True)]
    for job in jobs:
        _check_target(job)
    output.mkdir(parents=True, exist_ok=True)
    return jobs


def _check_target(job: _Job) -> None:
    """Refuse to measure against a picture that would be replaced.

    Raises:
        ValueError: when the target is the output, by whatever name.
    """
    if job.target is None:
        return
    same = job.output.resolve() == job.target.resolve()
    if same or (job.output.exists() and job.target.exists() and job.output.samefile(job.target)):
        raise ValueError(f"{job.target} is the target and the output: choose another output, or the truth is lost")


def _output_name(source: Path) -> str:
    return source.name if source.suffix.lower() in SUFFIXES else f"{source.stem}.png"


def _counterpart(path: Path, folder: Path) -> Path:
    """The picture of that name in a folder; one that differs in its ending alone will do."""
    named: Iterable[Path] = (folder / path.name, *(folder / f"{path.stem}{suffix}" for suffix in READ_SUFFIXES))
    return next((candidate for candidate in named if candidate.is_file()), folder / path.name)


def _ssim(image: Tensor, truth: Tensor) -> float | None:
    return ssim(image, truth) if min(image.shape[1:]) >= WINDOW else None
