"""Released files by name: from the cache, from where they were released, or from the user's hands."""

from pathlib import Path

from mlpzoo.models import Weights
from mlpzoo.weights._files import CheckpointError
from mlpzoo.weights.download import cache_folder, fetch, fetch_hub
from mlpzoo.weights.folders import WEIGHTS


def released_file(name: str, weights: Weights, *, cache_dir: str | Path | None = None, progress: bool = True) -> Path:
    """The path of a released file, downloaded if it is not in the cache.

    Args:
        name: its name, `variant.tag`.
        weights: what is known of it.
        cache_dir: folder to use instead of PyTorch's, or for files of a hub instead of its client's.
        progress: whether to show a progress bar.

    Raises:
        CheckpointError: when it cannot be had, saying why; for a file that no program can fetch, where a person gets
            it and where to put it.
    """
    if weights.hub:
        return fetch_hub(weights.hub, WEIGHTS, sha256=weights.sha256, cache_dir=cache_dir, progress=progress)
    if weights.url:
        return fetch(weights.url, sha256=weights.sha256, cache_dir=cache_dir, progress=progress)
    by_hand = cache_folder(cache_dir) / f"{name}.pth"
    if not by_hand.is_file():
        raise CheckpointError(
            f"the weights {name} cannot be downloaded by a program. {weights.where}; or save the file as {by_hand}, "
            "where pretrained=True finds it"
        )
    return by_hand
