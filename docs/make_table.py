"""Write the README's table of models from the registry: `python -m docs.make_table`, `--check` to compare only."""

import sys
from pathlib import Path

import mlpzoo

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- models: begin -->\n", "<!-- models: end -->"


def table() -> str:
    """The table as Markdown."""
    lines = [
        "| model | family | parameters | GMACs | input | top-1 | released weights |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    for name in mlpzoo.list_models():
        info = mlpzoo.model_info(name)
        top1 = f"{info.top1:.2f}" if info.top1 is not None else ""
        more = f" + {len(info.weights) - 1}" if len(info.weights) > 1 else ""
        weights = f"`{info.weights[0]}`{more}" if info.weights else ""
        size = "×".join(map(str, info.input_size[1:]))
        lines.append(
            f"| `{name}` | [{info.family}]({info.paper}) | {info.parameters / 1e6:.1f} M | {info.gmacs:.1f} "
            f"| {size} | {top1} | {weights} |"
        )
    return "\n".join(lines) + "\n"


def readme_with_table(readme: str) -> str:
    """The README with its table replaced."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + table() + END + after


def main() -> int:
    """Write the README, or with `--check` say whether it is up to date."""
    old = README.read_text()
    new = readme_with_table(old)
    if "--check" in sys.argv:
        return int(old != new)
    README.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
