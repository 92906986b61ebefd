"""What the files of MetaFormers share: the first paper's frame, and that of the baselines."""

from torch import Tensor

from mlpzoo.models._keymap import Pair, Rule, pointwise_kernel


def first_rules(*mixing: Rule) -> tuple[Rule, ...]:
    """Rules for files of the first paper's frame, named as `number_stages` leaves them; `mixing` are the mixer's."""
    block = r"network\.(\d+)\.(\d+)"
    return (
        Rule(r"patch_embed\.proj\.(weight|bias)", r"stem.proj.\1"),
        Rule(r"network\.(\d+)\.proj\.(weight|bias)", r"stages.\1.downsample.proj.\2"),
        Rule(rf"{block}\.layer_scale_([12])", r"stages.\1.blocks.\2.ls\3"),
        Rule(rf"{block}\.(norm[12])\.(weight|bias)", r"stages.\1.blocks.\2.\3.\4"),
        *mixing,
        Rule(rf"{block}\.mlp\.(fc[12])\.weight", r"stages.\1.blocks.\2.mlp.\3.weight", pointwise_kernel),
        Rule(rf"{block}\.mlp\.(fc[12])\.bias", r"stages.\1.blocks.\2.mlp.\3.bias"),
        Rule(r"feature_norms\.(\d+)\.(weight|bias)", r"feature_norms.\1.\2"),
        Rule(r"norm\.(weight|bias)", r"norm.\1"),
        Rule(r"head\.(weight|bias)", r"head.\1"),
    )


def baseline_rules(*own: Rule) -> tuple[Rule, ...]:
    """Rules for files of the baselines' frame; `own` are those of the mixer and the head."""
    block = r"stages\.(\d+)\.(\d+)"
    return (
        Rule(r"downsample_layers\.0\.conv\.(weight|bias)", r"stem.proj.\1"),
        Rule(r"downsample_layers\.0\.post_norm\.weight", r"stem.norm.weight"),
        Rule(r"downsample_layers\.(\d+)\.conv\.(weight|bias)", r"stages.\1.downsample.proj.\2"),
        Rule(r"downsample_layers\.(\d+)\.pre_norm\.weight", r"stages.\1.downsample.pre_norm.weight"),
        Rule(rf"{block}\.(norm[12])\.weight", r"stages.\1.blocks.\2.\3.weight"),
        Rule(rf"{block}\.mlp\.(fc[12]\.weight|act\.scale|act\.bias)", r"stages.\1.blocks.\2.mlp.\3"),
        Rule(rf"{block}\.(res_scale[12])\.scale", r"stages.\1.blocks.\2.\3"),
        *own,
        Rule(r"norm\.(weight|bias)", r"norm.\1"),
    )


def as_convolution(value: Tensor) -> Tensor:
    """The weight of a linear layer to the kernel of a 1×1 convolution; a bias stays."""
    return value[:, :, None, None] if value.ndim == 2 else value


def timm_mlp(*leaves: str) -> tuple[Pair, ...]:
    """The linears of the blocks' MLPs, which timm has as 1×1 convolutions; `leaves` are their parameters."""
    names = [f"stages.*.blocks.*.mlp.{fc}.{leaf}" for fc in ("fc1", "fc2") for leaf in leaves]
    return tuple(Pair(name, name, pointwise_kernel, as_convolution) for name in names)
