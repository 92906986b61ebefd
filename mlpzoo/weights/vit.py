"""Released formats of ViT and its hybrids."""

from torch import Tensor

from mlpzoo.weights._keymap import KeyMap, Layout, Rule, as_is, conv_kernel, dense_kernel


def into_heads(kernel: Tensor) -> Tensor:
    """flax's `(channels, heads, channels of a head)` to PyTorch's `(out, in)`."""
    return kernel.flatten(1).T


def out_of_heads(kernel: Tensor) -> Tensor:
    """flax's `(heads, channels of a head, channels)` to PyTorch's `(out, in)`."""
    return kernel.flatten(0, 1).T


def flat(value: Tensor) -> Tensor:
    """A vector, from heads by channels or, as older files keep GroupNorms, from 1×1×1×channels."""
    return value.flatten()


def _linear(name: str, target: str, kernel: Layout = dense_kernel, bias: Layout = as_is, part: int = 0) -> list[Rule]:
    """The kernel and the bias of a dense layer or a convolution."""
    return [
        Rule(rf"{name}/kernel", rf"{target}.weight", kernel, part),
        Rule(rf"{name}/bias", rf"{target}.bias", bias, part),
    ]


def _norm(name: str, target: str) -> list[Rule]:
    """The scale and the bias of a norm."""
    return [Rule(rf"{name}/scale", rf"{target}.weight", flat), Rule(rf"{name}/bias", rf"{target}.bias", flat)]


def _flax(title: str, attention: str, norm2: str, mlp: str) -> KeyMap:
    """flax numbers a block's modules either by class or, as it did at first, all together."""
    block = r"Transformer/encoderblock_(\d+)"
    unit = r"(block\d+)/(unit\d+)"
    return KeyMap(
        title,
        (
            Rule(r"conv_root/kernel", r"stem.backbone.conv_root.weight", conv_kernel),
            *_norm(r"gn_root", r"stem.backbone.gn_root"),
            Rule(rf"{unit}/(conv\w+)/kernel", r"stem.backbone.\1.\2.\3.weight", conv_kernel),
            *_norm(rf"{unit}/(gn\w+)", r"stem.backbone.\1.\2.\3"),
            *_linear(r"embedding", r"stem.proj", conv_kernel),
            Rule(r"cls", r"cls_token"),
            # big_vision keeps the position embeddings at the top.
            Rule(r"(?:Transformer/posembed_input/)?pos_embedding", r"pos_embed"),
            *_norm(rf"{block}/LayerNorm_0", r"blocks.\1.norm1"),
            *_linear(rf"{block}/{attention}/query", r"blocks.\1.attn.qkv", into_heads, flat, 0),
            *_linear(rf"{block}/{attention}/key", r"blocks.\1.attn.qkv", into_heads, flat, 1),
            *_linear(rf"{block}/{attention}/value", r"blocks.\1.attn.qkv", into_heads, flat, 2),
            *_linear(rf"{block}/{attention}/out", r"blocks.\1.attn.proj", out_of_heads),
            *_norm(rf"{block}/{norm2}", r"blocks.\1.norm2"),
            *_linear(rf"{block}/{mlp}/Dense_0", r"blocks.\1.mlp.fc1"),
            *_linear(rf"{block}/{mlp}/Dense_1", r"blocks.\1.mlp.fc2"),
            *_norm(r"Transformer/encoder_norm", r"norm"),
            *_linear(r"pre_logits", r"pre_logits.fc"),
            *_linear(r"head", r"head"),
        ),
    )


KEY_MAPS = (
    _flax(
        "the authors' flax .npz as released", "MultiHeadDotProductAttention_1", norm2="LayerNorm_2", mlp="MlpBlock_3"
    ),
    _flax(
        "the authors' flax .npz as today's flax names it",
        "MultiHeadDotProductAttention_0",
        norm2="LayerNorm_1",
        mlp="MlpBlock_0",
    ),
)
