"""The conformance cases: which authors' checkpoint is which of our models, and how it is laid out when released."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import formula
import numpy as np
import torch

VECTORS = Path(__file__).parent / "vectors"

WRAPPERS = {"cyclemlp": "model", "convmixer": "state_dict"}
"""Where families nest the weights they release; the others do not."""


@dataclasses.dataclass(frozen=True)
class Case:
    """One pair of files in `vectors/`.

    `model` and `options` go to `create_model`, or to `create_restorer` if it is a restoration network; `release` writes
    the parameters as the authors release them.

    `truth_eps` is the rounding of the truth itself, where the authors' code computes in less than float64 whatever
    its parameters are. `has_kinks` tells of ReLUs: one whose input is within rounding of zero switches between
    float32 and float64, and the gradients of everything before it move by as much as it weighs.

    `slow_in_float64` leaves that precision to `make test-all`.
    """

    name: str
    model: str
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    truth_eps: float = 0.0
    has_kinks: bool = False
    slow_in_float64: bool = False

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
        wrapper = next((key for family, key in WRAPPERS.items() if self.name.startswith(family)), None)
        torch.save({wrapper: state} if wrapper else state, path)
        return path


# The authors' `Encoder` hands no dtype to its blocks, whose own default is float32. With the blocks patched to
# float64, their code and ours agree to 3e-14 standard deviations on R26_S_32.
FLOAT32 = float(np.finfo(np.float32).eps)

CASES = (
    Case("Mixer-B_16", "mixer_b16"),
    Case("Mixer-S_32", "mixer_s32"),
    Case("resmlp_12", "resmlp_s12"),
    Case("resmlpB_24", "resmlp_b24_p8"),
    Case("cyclemlp_b1", "cyclemlp_b1"),
    Case("cyclemlp_b5", "cyclemlp_b5"),
    Case("cyclemlp_b1_384x288", "cyclemlp_b1"),
    Case("cyclemlp_b2_features", "cyclemlp_b2", {"features_only": True, "feature_norms": True}),
    Case("vip_s7", "vip_s7"),
    Case("vip_m7", "vip_m7"),
    Case("ViT-Ti_16", "vit_ti16", truth_eps=FLOAT32),
    Case("ViT-B_32", "vit_b32", truth_eps=FLOAT32),
    Case("ViT-S_16-gap", "vit_s16_gap", truth_eps=FLOAT32),
    Case("ViT-B_16-prelogits", "vit_b16", {"representation_size": 768}, truth_eps=FLOAT32),
    Case("R26_S_32", "vit_r26_s32", truth_eps=FLOAT32, has_kinks=True),
    Case("R_Ti_16", "vit_r_ti16", has_kinks=True),
    # PyTorch has no fast depthwise convolution for float64 with the channels last.
    Case("convmixer_768_32", "convmixer_d768_32", slow_in_float64=True),
    Case("convmixer_1024_20", "convmixer_d1024_20"),
    Case("MAXIM-S-1", "maxim_s1"),
    Case("MAXIM-S-2", "maxim_s2"),
)
