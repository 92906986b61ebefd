"""What the authors' files of RepMLPNets hold, in training and in deploy form."""

from torch import Tensor

from mlpzoo.models._keymap import KeyMap, Rule, pointwise_kernel


def as_matrices(kernel: Tensor) -> Tensor:
    """The kernel of a grouped 1×1 convolution to a matrix for each group."""
    return kernel.flatten(1).unflatten(0, (-1, kernel.shape[1]))


NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
BLOCK, OURS = r"stages\.(\d+)\.(\d+)", r"stages.\1.blocks.\2"


def _local(side: int, place: int) -> tuple[Rule, ...]:
    conv = rf"{BLOCK}\.repmlp_block\.repconv{side}"
    ours = rf"{OURS}.mixing.partitions"
    return (
        Rule(rf"{conv}\.conv\.weight", rf"{ours}.convs.{place}.weight"),
        Rule(rf"{conv}\.bn\.{NORM}", rf"{ours}.conv_norms.{place}.\3"),
    )


FORMAT = KeyMap(
    "the authors' .pth",
    (
        Rule(r"conv_embedding\.conv\.weight", r"stem.proj.weight"),
        Rule(rf"conv_embedding\.bn\.{NORM}", r"stem.norm.\1"),
        Rule(rf"{BLOCK}\.repmlp_block\.gp\.(fc[12])\.(weight|bias)", rf"{OURS}.mixing.\3.\4", pointwise_kernel),
        Rule(rf"{BLOCK}\.repmlp_block\.fc3\.weight", rf"{OURS}.mixing.partitions.weight", as_matrices),
        Rule(rf"{BLOCK}\.repmlp_block\.fc3\.bias", rf"{OURS}.mixing.partitions.bias"),
        Rule(rf"{BLOCK}\.repmlp_block\.fc3_bn\.{NORM}", rf"{OURS}.mixing.partitions.norm.\3"),
        *_local(1, 0),
        *_local(3, 1),
        Rule(rf"{BLOCK}\.ffn_block\.ffn_fc([12])\.conv\.weight", rf"{OURS}.mlp.fc\3.weight", pointwise_kernel),
        Rule(rf"{BLOCK}\.ffn_block\.ffn_fc([12])\.bn\.{NORM}", rf"{OURS}.mlp.norm\3.bn.\4"),
        Rule(rf"{BLOCK}\.prebn([12])\.{NORM}", rf"{OURS}.norm\3.bn.\4"),
        *(
            Rule(rf"embeds\.{i}\.{theirs}", rf"stages.{i + 1}.downsample.{ours}")
            for i in range(3)
            for theirs, ours in ((r"conv\.weight", "proj.weight"), (rf"bn\.{NORM}", r"norm.\1"))
        ),
        Rule(rf"head_norm\.{NORM}", r"norm.bn.\1"),
        Rule(r"head\.(weight|bias)", r"head.\1"),
    ),
)
