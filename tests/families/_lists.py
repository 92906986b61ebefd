"""Parts that lists of names and shapes are made of.

Nothing here reads the package's key maps: the lists are what the key maps are held against.
"""

import math

from timm.layers import to_2tuple


def dense(name, dim_in, dim_out, bias=True):
    """A linear layer of flax."""
    return {f"{name}/kernel": (dim_in, dim_out), **({f"{name}/bias": (dim_out,)} if bias else {})}


def flax_norm(name, dim):
    return {f"{name}/scale": (dim,), f"{name}/bias": (dim,)}


def linear(name, dim_in, dim_out, bias=True):
    """A linear layer of PyTorch."""
    return {f"{name}.weight": (dim_out, dim_in), **({f"{name}.bias": (dim_out,)} if bias else {})}


def norm(name, dim):
    return {f"{name}.weight": (dim,), f"{name}.bias": (dim,)}


def batch_norm(name, dim):
    return (
        norm(name, dim)
        | {f"{name}.running_{kind}": (dim,) for kind in ("mean", "var")}
        | {f"{name}.num_batches_tracked": ()}
    )


def conv(name, dim_in, dim_out, side):
    return {f"{name}.weight": (dim_out, dim_in, side, side), f"{name}.bias": (dim_out,)}


def tokens_of(config):
    size, patch = to_2tuple(config.img_size), to_2tuple(config.patch_size)
    return math.prod(side // p for side, p in zip(size, patch, strict=True))


def pyramid_block(block, dim, ratio, branches):
    hidden = int(dim * ratio)
    names = norm(f"{block}.norm1", dim) | norm(f"{block}.norm2", dim) | branches
    names |= linear(f"{block}.attn.reweight.fc1", dim, dim // 4) | linear(
        f"{block}.attn.reweight.fc2", dim // 4, 3 * dim
    )
    names |= linear(f"{block}.attn.proj", dim, dim)
    return names | linear(f"{block}.mlp.fc1", dim, hidden) | linear(f"{block}.mlp.fc2", hidden, dim)
