"""Image files below folders: which there are, each of them once, and what is left out."""

import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from mlpzoo.images import SUFFIXES, logger
from mlpzoo.train.config import DataError

NO_DATA = ("__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found")
"""Folders that archives, systems and tools make beside the data, besides those whose name begins with a dot."""
LINKED = "links to what is read anyway"
FILES_OF_SYSTEMS = ("thumbs.db", "desktop.ini")


def natural(name: str) -> tuple[list[int | str], str]:
    """The sort key by which `2` stands before `10`, and capitals do not count unless nothing else differs."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if i % 2 else part.lower() for i, part in enumerate(parts)], name


def is_data(name: str) -> bool:
    """Whether a file or folder of that name belongs to the data: not if it is hidden or a system's own."""
    return not name.startswith(".") and name not in NO_DATA and name.lower() not in FILES_OF_SYSTEMS


def folders_in(folder: Path) -> list[str]:
    """Names of the folders in a folder that may hold data, in natural order.

    Raises:
        DataError: when it cannot be read.
    """
    return sorted((entry.name for entry in _entries(folder) if is_data(entry.name) and entry.is_dir()), key=natural)


class ImageFinder:
    """Finds image files, each once by its real path, and counts what it leaves out.

    A file that stands in several places through links belongs to the place where it really is, or else to the first
    link. Links to folders are followed, but for those that lead back to a folder they are in.

    Attributes:
        left_out: how many files of each kind were no images or known already.
    """

    def __init__(self) -> None:
        self.left_out: Counter[str] = Counter()
        self._found: dict[str, str] = {}
        self._folders: set[str] = set()

    def find(self, folders: Iterable[Path]) -> list[list[str]]:
        """The image files of each of some folders, at any depth, in natural order.

        Raises:
            DataError: when a folder cannot be read, or a file is linked to from two of the folders and is in neither.
        """
        folders = list(folders)
        for folder in folders:
            above = Path(os.path.realpath(folder.parent))
            self._folders.update(map(str, (above, *above.parents)))
        files: list[list[str]] = [[] for _ in folders]
        links: list[tuple[int, str]] = []
        linked_from: dict[str, int] = {}
        for i, folder in enumerate(folders):
            if folder.is_symlink():
                links.append((i, str(folder)))
            else:
                self._walk(i, str(folder), files, links)
        # After everything that is really there. The list grows while links lead to more of them.
        for i, link in links:
            if os.path.isdir(link):
                real = os.path.realpath(link)
                if real not in self._folders and not _is_in(os.path.realpath(os.path.dirname(link)), real):
                    self._walk(i, link, files, links, linked_from)
                else:
                    self.left_out[LINKED] += 1
            else:
                self._take(i, link, files, linked_from)
        return [sorted(found, key=natural) for found in files]

    def summary(self) -> str:
        """What was left out, such as `3 .txt, 1 .heic`; empty for nothing."""
        return ", ".join(f"{number} {kind}" for kind, number in self.left_out.most_common())

    def report(self, folder: str | Path) -> None:
        """Log what was left out of a folder, if anything was."""
        if self.left_out:
            number = self.left_out.total()
            logger.warning("%s: left out %d file%s: %s", folder, number, "s" * (number > 1), self.summary())

    def _walk(
        self,
        i: int,
        folder: str,
        files: list[list[str]],
        links: list[tuple[int, str]],
        linked_from: dict[str, int] | None = None,
    ) -> None:
        waiting = [folder]
        while waiting:
            current = waiting.pop()
            self._folders.add(os.path.realpath(current))
            for entry in sorted(_entries(Path(current)), key=lambda entry: natural(entry.name)):
                if not is_data(entry.name):
                    continue
                if entry.is_symlink():
                    links.append((i, entry.path))
                elif entry.is_dir():
                    if os.path.realpath(entry.path) not in self._folders:
                        waiting.append(entry.path)
                else:
                    self._take(i, entry.path, files, linked_from)

    def _take(self, i: int, path: str, files: list[list[str]], linked_from: dict[str, int] | None) -> None:
        suffix = os.path.splitext(path)[1].lower()
        if suffix not in SUFFIXES:
            self.left_out[suffix or "without a suffix"] += 1
            return
        real = os.path.realpath(path)
        if real in self._found:
            if linked_from is not None and linked_from.get(real, i) != i:
                raise DataError(
                    f"{path} and {self._found[real]} are links to one file, so nothing says which class it is of: "
                    "remove one of them"
                )
            self.left_out[LINKED] += 1
            return
        self._found[real] = path
        if linked_from is not None:
            linked_from[real] = i
        files[i].append(path)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(f"cannot read the folder {folder}: {error.strerror}") from None


def leads_back(folder: Path) -> bool:
    """Whether a folder is a link to the folder it is in, to one above, or to one beside it."""
    real, above = os.path.realpath(folder), os.path.realpath(folder.parent)
    return folder.is_symlink() and (_is_in(above, real) or _is_in(real, above))


def _is_in(path: str, folder: str) -> bool:
    """Whether a real path is a real folder or below it."""
    return path == folder or path.startswith(os.path.join(folder, ""))
