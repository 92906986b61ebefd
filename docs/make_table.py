"""Write the tables of models from the registry: `python -m docs.make_table`.

Three files hold them: `mlpzoo/_model_table.csv` (sizes, which `mlpzoo.model_info` reads), `docs/models.md` (a row a
variant) and the README (a row a family). Only models that are new or whose config changed are measured; `--all`
measures each. `--check` writes nothing and exits with 1 if a file is out of date.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import mlpzoo
from mlpzoo import _model_table
from mlpzoo._model_table import ModelSize
from mlpzoo._names import family_of
from mlpzoo.registry import measure_size, size_digest

README = Path(__file__).parents[1] / "README.md"
MODELS = Path(__file__).parent / "models.md"
BEGIN, END = "<!-- models: begin -->\n", "<!-- models: end -->"
MODELS_HEAD = """# Models

Written by `make table` from the registry. Parameters include the head. GMACs are 10⁹ multiply-accumulates of a forward
pass of one image of the input size. Top-1 is the published ImageNet-1k accuracy, in percent, of the first weights
named; `mlpzoo info NAME` says who measured it. `mlpzoo.create_model("NAME.TAG", pretrained=True)` chooses among the
weights.

"""


def measured(names: list[str], *, everything: bool) -> dict[tuple[str, str], ModelSize]:
    """The size of each model by name and digest, from the present file where it holds it."""
    known = {} if everything else _model_table.read_table()
    keys = [(name, size_digest(name)) for name in names]
    return {key: known.get(key) or measure_size(key[0]) for key in keys}


def table_of_models(names: list[str], sizes: Mapping[str, ModelSize]) -> str:
    """Markdown, a row a variant."""
    lines = [
        "| model | family | parameters | GMACs | input | top-1 | released weights |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    for name in names:
        info, size = mlpzoo.model_info(name), sizes[name]
        top1 = f"{info.top1:.2f}" if info.top1 is not None else ""
        weights = ", ".join(f"`{tag}`" for tag in info.weights)
        lines.append(
            f"| `{name}` | [{info.family}]({info.paper}) | {_millions(size)} M | {size.macs / 1e9:.1f} "
            f"| {'×'.join(map(str, info.input_size[1:]))} | {top1} | {weights} |"
        )
    return "\n".join(lines) + "\n"


def table_of_families(names: list[str], sizes: Mapping[str, ModelSize]) -> str:
    """Markdown, a row a family."""
    lines = [
        "| family | variants | parameters | best top-1 | released files | licence |",
        "|---|---|--:|--:|--:|---|",
    ]
    members: dict[str, list[str]] = {}
    for name in names:
        members.setdefault(family_of(name).name, []).append(name)
    for variants in members.values():
        family = family_of(variants[0])
        released = family.weights.values()
        smallest, largest = (_millions(pick(sizes[name] for name in variants)) for pick in (min, max))
        span = smallest if smallest == largest else f"{smallest}–{largest}"
        top1 = max((weights.top1 for weights in released if weights.top1 is not None), default=None)
        licences = dict.fromkeys(weights.license for weights in released) or {family.license: None}
        lines.append(
            f"| [{family.title}]({family.paper}) | {_listed(variants)} | {span} M "
            f"| {'' if top1 is None else f'{top1:.2f}'} | {len(released) or ''} | {', '.join(sorted(licences))} |"
        )
    return "\n".join(lines) + "\n"


def _listed(variants: list[str]) -> str:
    """How many they are, and the names of the first and the last."""
    ends = f"`{variants[0]}`" if len(variants) == 1 else f"`{variants[0]}` … `{variants[-1]}`"
    return f"{len(variants)}: {ends}"


def _millions(size: ModelSize) -> str:
    return f"{size.parameters / 1e6:.1f}"


def files(*, everything: bool = False) -> dict[Path, str]:
    """What each file should hold."""
    names = mlpzoo.list_models()
    sizes = measured(names, everything=everything)
    by_name = {name: size for (name, _), size in sizes.items()}
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    return {
        _model_table.PATH: _model_table.table_text(sizes),
        MODELS: MODELS_HEAD + table_of_models(names, by_name),
        README: before + BEGIN + table_of_families(names, by_name) + END + after,
    }


def main() -> int:
    """Write the files, or with `--check` name those that are out of date."""
    parser = argparse.ArgumentParser(description="Write the tables of models from the registry.")
    parser.add_argument("--all", action="store_true", help="measure every model, not only what changed")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is out of date")
    arguments = parser.parse_args()
    stale = 0
    for path, text in files(everything=arguments.all).items():
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        if arguments.check:
            print(f"{path.name} is out of date: run `make table`", file=sys.stderr)
        else:
            path.write_text(text, encoding="utf-8")
    return int(arguments.check and stale > 0)


if __name__ == "__main__":
    sys.exit(main())
