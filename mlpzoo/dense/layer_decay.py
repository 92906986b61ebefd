"""Learning rates that fall layer by layer towards the image."""

from typing import Any

from timm.models import group_parameters
from torch import nn

from mlpzoo.dense.backbone import DenseBackbone


def layer_decay_groups(model: nn.Module, *, lr: float, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
    """Parameter groups for an optimizer, in which the layers of each `DenseBackbone` learn the slower the earlier.

    Layers are those of the network's `group_matcher`: the embedding, each block, the norms. Its last layer, and all
    that is outside of it, has the full rate; each layer before has that of the next times `layer_decay`. Parameters of
    one dimension and those of `no_weight_decay` have no weight decay.

    Args:
        model: whatever contains the backbones, a detector for instance.
        lr: full learning rate.
        weight_decay: weight decay where there is any.
        layer_decay: factor from a layer to the one before it, in (0, 1].

    Returns:
        Groups with `params`, `lr` and `weight_decay`, of the parameters that are trained.

    Raises:
        ValueError: when the factor is out of range or there is no backbone of this zoo in the model.
    """
    if not 0 < layer_decay <= 1:
        raise ValueError(f"layer_decay must be in (0, 1], got {layer_decay}")
    scales: dict[nn.Parameter, float] = {}
    undecayed: set[nn.Parameter] = set()
    backbones = [module for module in model.modules() if isinstance(module, DenseBackbone)]
    if not backbones:
        raise ValueError(f"{type(model).__name__} has no backbone of mlpzoo.dense, whose layers could be told apart")
    for backbone in backbones:
        network = backbone.network
        layers = group_parameters(network, network.group_matcher(), reverse=True)
        last = max(layers.values())
        skipped = network.no_weight_decay()
        for name, parameter in network.named_parameters():
            scales[parameter] = layer_decay ** (last - layers[name])
            if name in skipped:
                undecayed.add(parameter)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            decay = 0.0 if parameter.ndim <= 1 or parameter in undecayed else weight_decay
            key = (lr * scales.get(parameter, 1.0), decay)
            group = groups.setdefault(key, {"params": [], "lr": key[0], "weight_decay": decay})
            group["params"].append(parameter)
    return list(groups.values())
