"""Handwritten digits as image files: `python -m mlpzoo.demos.digit_files FOLDER`."""

import argparse
from pathlib import Path

from mlpzoo.demos.digits import write_digits


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser("python -m mlpzoo.demos.digit_files", description="Write digits as image files.")
    parser.add_argument("folder", type=Path, help="where to")
    parser.add_argument("--classes", default="0123456789", metavar="DIGITS", help="which, such as 01234 (default: all)")
    parser.add_argument("--size", type=int, default=8, metavar="PIXELS", help="side of the files (default: 8)")
    given = parser.parse_args()
    if not given.classes.isdecimal() or given.size < 8:
        parser.error("--classes takes digits, and --size 8 or more")
    number = write_digits(given.folder, map(int, given.classes), size=given.size)
    print(f"{number} files in {given.folder}")


if __name__ == "__main__":
    main()
