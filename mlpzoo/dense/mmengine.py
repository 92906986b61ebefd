"""The networks of the zoo in mmengine's registries, and so in mmdet and mmseg.

In a config: `custom_imports = dict(imports=["mlpzoo.dense.mmengine"], allow_failed_imports=False)`, then
`backbone=dict(type="MLPZooBackbone", name="cyclemlp_b1", …)`.
"""

from typing import Any

from torch import Tensor, nn

from mlpzoo.dense.backbone import DenseBackbone
from mlpzoo.dense.layer_decay import layer_decay_groups

try:
    from mmengine.optim import DefaultOptimWrapperConstructor
    from mmengine.registry import MODELS, OPTIM_WRAPPER_CONSTRUCTORS
except ImportError as error:
    raise ImportError(
        "mlpzoo.dense.mmengine registers backbones with mmengine, which is not installed or does not load "
        f"({error}): pip install mmengine, and mmdet or mmseg with it"
    ) from error


@MODELS.register_module()
class MLPZooBackbone(DenseBackbone):
    """A `DenseBackbone` under mmengine's registry, whose maps are a tuple; every option of it is a key of the config.

    It has no `init_weights`: mmengine calls that after construction, and so after weights were loaded. Weights come by
    `pretrained=True` or `checkpoint_path`.

    Shape:
        `(batch, in_chans, height, width)` to a tuple of maps, those of `out_indices`.
    """

    def forward(self, x_BIHW: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        """`(batch, in_chans, height, width)` to a tuple of maps."""
        return tuple(super().forward(x_BIHW))


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MLPZooLayerDecay(DefaultOptimWrapperConstructor):
    """Learning rates that fall layer by layer towards the image: `paramwise_cfg=dict(layer_decay=0.8)`.

    See `mlpzoo.dense.layer_decay_groups`, which this hands to mmengine.
    """

    def _validate_cfg(self) -> None:
        # mmengine calls this before anything is built.
        options = dict(self.paramwise_cfg)
        if set(options) != {"layer_decay"}:
            raise ValueError(f"MLPZooLayerDecay takes paramwise_cfg=dict(layer_decay=…) alone, got {options}")

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, **_: Any) -> None:
        """Append the groups of a whole model."""
        optimizer = self.optimizer_cfg
        params += layer_decay_groups(
            module,
            lr=optimizer["lr"],
            weight_decay=optimizer.get("weight_decay", 0.0),
            layer_decay=self.paramwise_cfg["layer_decay"],
        )
