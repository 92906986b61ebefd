"""Activations by name."""

from timm.layers import get_act_layer
from torch import nn

KNOWN = ("gelu", "gelu_tanh", "relu", "silu", "quick_gelu", "leaky_relu", "elu", "mish", "tanh", "sigmoid")


def create_activation(name: str) -> nn.Module:
    """Build an activation layer from its name.

    `"gelu"` is the exact form, x·Φ(x), which PyTorch-trained weights want; `"gelu_tanh"` is the approximation that
    flax and JAX call GELU, which weights trained there want. The two differ by up to 5e-4, enough to move a
    network's logits.

    Args:
        name: any name timm knows; the usual ones are in `mlpzoo.layers.activation.KNOWN`.

    Returns:
        The layer.

    Raises:
        TypeError: when `name` is not a string.
        ValueError: when nothing goes by that name.
    """
    if not isinstance(name, str):
        raise TypeError(f"act_layer is the name of an activation, a string such as 'gelu'; got {name!r}")
    try:
        layer = get_act_layer(name)
    except KeyError:
        layer = None
    if layer is None:
        raise ValueError(f"unknown activation '{name}': choose one of {', '.join(KNOWN)}")
    return layer()
