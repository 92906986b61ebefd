"""Released restoration networks by what they undo and what they were trained on: from the families' own tables.

The tag of a released file says both: `maxim_s3.denoising_sidd` undoes noise and was trained on SIDD.
"""

from mlpzoo.models import RESTORATION
from mlpzoo.registry import list_pretrained


def list_tasks() -> list[str]:
    """What there are released networks for: denoising, deblurring and so on."""
    return list(dict.fromkeys(_split(tagged)[0] for tagged in list_pretrained(task=RESTORATION)))


def find_release(task: str, dataset: str | None = None) -> str:
    """The released file for a task, trained on a certain data set or, by default, on the task's first.

    Args:
        task: one of `list_tasks()`.
        dataset: what the file was trained on.

    Returns:
        Its name, `variant.tag`, which `create_restorer` takes.

    Raises:
        ValueError: when there is none, with those there are.
    """
    found = [tagged for tagged in list_pretrained(task=RESTORATION) if _split(tagged)[0] == task]
    if not found:
        raise ValueError(f"unknown task '{task}': there is {', '.join(list_tasks())}")
    for tagged in found:
        if dataset in (None, _split(tagged)[1]):
            return tagged
    known = ", ".join(_split(tagged)[1] for tagged in found)
    raise ValueError(f"no checkpoint for {task} was trained on '{dataset}': there is {known}")


def _split(tagged: str) -> tuple[str, str]:
    """Task and data set of a released file."""
    task, _, dataset = tagged.partition(".")[2].partition("_")
    return task, dataset
