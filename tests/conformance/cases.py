"""A conformance case: which authors' checkpoint is which of our models, and how it is laid out when released."""

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

    `model` and `options` go to `create_model`, or to `create_restorer` if it is a restoration network; `release` writes
    the parameters as the authors release them.

    `truth_eps` is the rounding of the truth itself, where the authors' code computes in less than float64 whatever
    its parameters are. `has_kinks` tells of ReLUs: one whose input is within rounding of zero switches between
    float32 and float64, and the gradients of everything before it move by as much as it weighs.

    `slow_in_float64` leaves that precision to `make test-all`, `slow` the whole case. `folded` compares the output of
    the network that `mlpzoo.deploy.fold` makes of ours, where the authors' code converts theirs; it has no gradients.
    `wrapper` is the family's, see `families.FamilyCase`.
    """

    name: str
    model: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    truth_eps: float = 0.0
    has_kinks: bool = False
    slow_in_float64: bool = False
    slow: bool = False
    folded: bool = False
    wrapper: str = ""

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
            if self.model.startswith("maxim"):
                tensors = {f"opt/target/{name}": value for name, value in tensors.items()}
                # What the optimizer remembers stands beside the parameters, in the same names.
                tensors["opt/state/step"] = np.array(7)
                tensors["opt/state/param_states/stage_0_input_conv_0/bias/grad_ema"] = np.zeros(32, np.float32)
            np.savez(path, **tensors)
            return path
        path = folder / f"{self.name}.pth"
        state = {name: torch.from_numpy(value) for name, value in tensors.items()}
        torch.save({self.wrapper: state} if self.wrapper else state, path)
        return path
