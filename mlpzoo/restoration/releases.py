"""What the authors of MAXIM released, as data: task and data set to variant, file and published figures.

Source of every entry: the README of google-research/maxim at 3c82651; the code is Apache-2.0 and the README names no
other licence for the checkpoints.
"""

import dataclasses

BUCKET = "https://storage.googleapis.com/gresearch/maxim/ckpt"
SOURCE = "https://github.com/google-research/maxim/blob/3c82651/README.md"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Score:
    """What the authors report on one test set.

    Attributes:
        dataset: the test set.
        psnr: peak signal-to-noise ratio, in dB.
        ssim: structural similarity.
    """

    dataset: str
    psnr: float
    ssim: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Release:
    """One released checkpoint.

    Attributes:
        task: what it undoes.
        dataset: what it was trained on.
        model: the variant, with three supervision scales.
        url: the file.
        scores: published figures, measured with this file.
        license: of the authors' repository.
        source: where all of this is written.
    """

    task: str
    dataset: str
    model: str
    url: str
    scores: tuple[Score, ...]
    license: str = "Apache-2.0"
    source: str = SOURCE


def _release(task: str, dataset: str, model: str, path: str, *scores: tuple[str, float, float]) -> Release:
    return Release(
        task=task,
        dataset=dataset,
        model=model,
        url=f"{BUCKET}/{path}/checkpoint.npz",
        scores=tuple(Score(dataset=name, psnr=psnr, ssim=ssim) for name, psnr, ssim in scores),
    )


RELEASES = (
    _release("denoising", "sidd", "maxim_s3", "Denoising/SIDD", ("SIDD", 39.96, 0.960), ("DND", 39.84, 0.954)),
    _release("deblurring", "gopro", "maxim_s3", "Deblurring/GoPro", ("GoPro", 32.86, 0.961), ("HIDE", 32.83, 0.956)),
    _release("deblurring", "reds", "maxim_s3", "Deblurring/REDS", ("REDS", 28.93, 0.865)),
    _release("deblurring", "realblur_r", "maxim_s3", "Deblurring/RealBlur_R", ("RealBlur-R", 39.45, 0.962)),
    _release("deblurring", "realblur_j", "maxim_s3", "Deblurring/RealBlur_J", ("RealBlur-J", 32.84, 0.935)),
    _release("deraining", "rain13k", "maxim_s2", "Deraining/Rain13k", ("Rain13k", 33.24, 0.933)),
    _release("deraining", "raindrop", "maxim_s2", "Deraining/Raindrop", ("Raindrop", 31.87, 0.935)),
    _release("dehazing", "sots_indoor", "maxim_s2", "Dehazing/SOTS-Indoor", ("RESIDE-Indoor", 38.11, 0.991)),
    _release("dehazing", "sots_outdoor", "maxim_s2", "Dehazing/SOTS-Outdoor", ("RESIDE-Outdoor", 34.19, 0.985)),
    _release("enhancement", "lol", "maxim_s2", "Enhancement/LOL", ("LOL", 23.43, 0.863)),
    _release("enhancement", "fivek", "maxim_s2", "Enhancement/FiveK", ("FiveK", 26.15, 0.945)),
)
"""A task's first release is its default."""

TASKS = tuple(dict.fromkeys(release.task for release in RELEASES))


def find_release(task: str, dataset: str | None = None) -> Release:
    """The release for a task, trained on a certain data set or, by default, on the task's first.

    Raises:
        ValueError: when there is none, with those there are.
    """
    found = [release for release in RELEASES if release.task == task]
    if not found:
        raise ValueError(f"unknown task '{task}': there is {', '.join(TASKS)}")
    for release in found:
        if dataset in (None, release.dataset):
            return release
    known = ", ".join(release.dataset for release in found)
    raise ValueError(f"no checkpoint for {task} was trained on '{dataset}': there is {known}")
