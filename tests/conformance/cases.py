"""The conformance cases: which authors' checkpoint is which of our models, and how it is laid out when released."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import formula
import numpy as np
import torch

VECTORS = Path(__file__).parent / "vectors"


@dataclasses.dataclass(frozen=True)
class Case:
    """One pair of files in `vectors/`.

    `model` and `options` go to `create_model`; `release` writes the parameters as the authors release them.
    """

    name: str
    model: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def description(self) -> dict[str, Any]:
        return json.loads((VECTORS / f"{self.name}.json").read_text())

    @property
    def truth(self) -> dict[str, np.ndarray]:
        with np.load(VECTORS / f"{self.name}.npz") as archive:
            return dict(archive)

    def parameters(self) -> dict[str, np.ndarray]:
        """The authors' parameters, in their names and layout."""
        return {
            tensor["name"]: formula.parameter(
                tensor["name"], tuple(tensor["shape"]), tensor["kind"], tensor.get("fan_in", 1)
            )
            for tensor in self.description["tensors"]
            if tensor["kind"] != "constant"
        }

    def constants(self) -> dict[str, np.ndarray]:
        """What a released file carries besides: buffers whose values the architecture fixes."""
        return {
            tensor["name"]: np.zeros(tensor["shape"], np.float32)
            for tensor in self.description["tensors"]
            if tensor["kind"] == "constant"
        }

    def release(self, folder: Path) -> Path:
        """Write the checkpoint as the authors do: `.npz` for flax, `.pth` for PyTorch."""
        tensors = {**self.parameters(), **self.constants()}
        if self.description["layout"].startswith("flax"):
            path = folder / f"{self.name}.npz"
            np.savez(path, **tensors)
            return path
        path = folder / f"{self.name}.pth"
        state = {name: torch.from_numpy(value) for name, value in tensors.items()}
        torch.save({"model": state} if self.name.startswith("cyclemlp") else state, path)
        return path


CASES = (
    Case("Mixer-B_16", "mixer_b16"),
    Case("Mixer-S_32", "mixer_s32"),
)
