"""What the authors' files of every variant hold: names and shapes, written down from the sizes of the network alone.

Nothing here reads the package's key maps: these lists are what the key maps are held against.
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


def conv(name, dim_in, dim_out, side):
    return {f"{name}.weight": (dim_out, dim_in, side, side), f"{name}.bias": (dim_out,)}


def tokens_of(config):
    size, patch = to_2tuple(config.img_size), to_2tuple(config.patch_size)
    return math.prod(side // p for side, p in zip(size, patch, strict=True))


def mixer(config):
    dim, tokens = config.embed_dim, tokens_of(config)
    names = {"stem/kernel": (config.patch_size, config.patch_size, 3, dim), "stem/bias": (dim,)}
    for i in range(config.depth):
        block = f"MixerBlock_{i}"
        names |= flax_norm(f"{block}/LayerNorm_0", dim) | flax_norm(f"{block}/LayerNorm_1", dim)
        for mixing, width, hidden in (
            ("token", tokens, config.tokens_mlp_dim),
            ("channel", dim, config.channels_mlp_dim),
        ):
            names |= dense(f"{block}/{mixing}_mixing/Dense_0", width, hidden)
            names |= dense(f"{block}/{mixing}_mixing/Dense_1", hidden, width)
    return names | flax_norm("pre_head_layer_norm", dim) | dense("head", dim, config.num_classes)


def old_mixer(config):
    """As big_vision still reads them: kernels with an axis of length one, modules of a block counted all together."""
    names = {}
    for name, shape in mixer(config).items():
        name = name.replace("MixerBlock_", "Mixer/encoderblock_").replace("pre_head_layer_norm", "Mixer/encoder_norm")
        name = name.replace("stem/", "embedding/").replace("LayerNorm_1", "LayerNorm_2")
        name = name.replace("token_mixing", "token_mixing_phase_1").replace("channel_mixing", "channel_mixing_phase_3")
        if "phase" in name:
            name = name.replace("/Dense_0/kernel", "/kernel1").replace("/Dense_0/bias", "/bias1")
            name = name.replace("/Dense_1/kernel", "/kernel2").replace("/Dense_1/bias", "/bias2")
            shape = (1, *shape)
        names[name] = shape
    return names


def resmlp(config):
    dim, tokens = config.embed_dim, tokens_of(config)
    hidden = int(dim * config.mlp_ratio)
    names = conv("patch_embed.proj", 3, dim, config.patch_size)
    for i in range(config.depth):
        block = f"blocks.{i}"
        names |= {f"{block}.norm{n}.{leaf}": (dim,) for n in (1, 2) for leaf in ("alpha", "beta")}
        names |= {f"{block}.gamma_{n}": (dim,) for n in (1, 2)}
        names |= linear(f"{block}.attn", tokens, tokens)
        names |= linear(f"{block}.mlp.fc1", dim, hidden) | linear(f"{block}.mlp.fc2", hidden, dim)
    return names | {"norm.alpha": (dim,), "norm.beta": (dim,)} | linear("head", dim, config.num_classes)


def pyramid_block(block, dim, ratio, branches):
    hidden = int(dim * ratio)
    names = norm(f"{block}.norm1", dim) | norm(f"{block}.norm2", dim) | branches
    names |= linear(f"{block}.attn.reweight.fc1", dim, dim // 4) | linear(
        f"{block}.attn.reweight.fc2", dim // 4, 3 * dim
    )
    names |= linear(f"{block}.attn.proj", dim, dim)
    return names | linear(f"{block}.mlp.fc1", dim, hidden) | linear(f"{block}.mlp.fc2", hidden, dim)


def cyclemlp(config):
    dims = config.embed_dims
    names = conv("patch_embed.proj", 3, dims[0], 7)
    for stage, (dim, depth, ratio) in enumerate(zip(dims, config.depths, config.mlp_ratios, strict=True)):
        if stage:
            names |= conv(f"network.{2 * stage - 1}.proj", dims[stage - 1], dim, 3)
        for i in range(depth):
            block = f"network.{2 * stage}.{i}"
            branches = linear(f"{block}.attn.mlp_c", dim, dim, bias=False)
            for axis in "hw":
                branches |= conv(f"{block}.attn.sfc_{axis}", dim, dim, 1)
                branches |= {f"{block}.attn.sfc_{axis}.offset": (1, 2 * dim, 1, 1)}
            names |= pyramid_block(block, dim, ratio, branches)
    return names | norm("norm", dims[-1]) | linear("head", dims[-1], config.num_classes)


def vip(config):
    dims = config.embed_dims
    names = conv("patch_embed.proj", 3, dims[0], config.patch_size)
    place = 0
    for stage, (dim, depth) in enumerate(zip(dims, config.depths, strict=True)):
        if stage and config.strides[stage] > 1:
            names |= conv(f"network.{place}.proj", dims[stage - 1], dim, 2)
            place += 1
        for i in range(depth):
            block = f"network.{place}.{i}"
            branches = {f"{block}.attn.mlp_{axis}.weight": (dim, dim) for axis in "chw"}
            names |= pyramid_block(block, dim, 3, branches)
        place += 1
    return names | norm("norm", dims[-1]) | linear("head", dims[-1], config.num_classes)


def resnet(depths):
    """The ResNet in front of a hybrid, width 64."""
    names = {"conv_root/kernel": (7, 7, 3, 64), **flax_norm("gn_root", 64)}
    dim = 64
    for stage, depth in enumerate(depths):
        width = 64 * 2**stage
        for unit in range(depth):
            name = f"block{stage + 1}/unit{unit + 1}"
            sides = (("1", dim, width, 1), ("2", width, width, 3), ("3", width, 4 * width, 1))
            sides += (("_proj", dim, 4 * width, 1),) if unit == 0 else ()
            for which, dim_in, dim_out, side in sides:
                names[f"{name}/conv{which}/kernel"] = (side, side, dim_in, dim_out)
                names |= {f"{name}/gn{which}/{leaf}": (1, 1, 1, dim_out) for leaf in ("scale", "bias")}
            dim = 4 * width
    return names, dim, 4 * 2 ** max(len(depths) - 1, 0)


def vit(config, attention="MultiHeadDotProductAttention_1", norm2="LayerNorm_2", mlp="MlpBlock_3"):
    dim, heads = config.embed_dim, config.num_heads
    names, channels, stride = ({}, 3, 1) if config.resnet_depths is None else resnet(config.resnet_depths)
    patch = config.patch_size // stride
    names |= {"embedding/kernel": (patch, patch, channels, dim), "embedding/bias": (dim,)}
    names |= {"cls": (1, 1, dim)} if config.class_token else {}
    names["Transformer/posembed_input/pos_embedding"] = (1, tokens_of(config) + config.class_token, dim)
    for i in range(config.depth):
        block = f"Transformer/encoderblock_{i}"
        names |= flax_norm(f"{block}/LayerNorm_0", dim) | flax_norm(f"{block}/{norm2}", dim)
        for part in ("query", "key", "value"):
            names[f"{block}/{attention}/{part}/kernel"] = (dim, heads, dim // heads)
            names[f"{block}/{attention}/{part}/bias"] = (heads, dim // heads)
        names[f"{block}/{attention}/out/kernel"] = (heads, dim // heads, dim)
        names[f"{block}/{attention}/out/bias"] = (dim,)
        names |= dense(f"{block}/{mlp}/Dense_0", dim, config.mlp_dim)
        names |= dense(f"{block}/{mlp}/Dense_1", config.mlp_dim, dim)
    names |= flax_norm("Transformer/encoder_norm", dim)
    width = config.representation_size or dim
    if config.representation_size:
        names |= dense("pre_logits", dim, width)
    return names | dense("head", width, config.num_classes)


def vit_today(config):
    """As today's flax counts the modules of a block."""
    return vit(config, "MultiHeadDotProductAttention_0", "LayerNorm_1", "MlpBlock_0")


def vit_big_vision(config):
    """Positions at the top, none for the class token."""
    names = vit_today(config)
    _, _, dim = names.pop("Transformer/posembed_input/pos_embedding")
    return names | {"pos_embedding": (1, tokens_of(config), dim)}


FORMATS = {
    "mixer": (mixer, old_mixer),
    "resmlp": (resmlp,),
    "cyclemlp": (cyclemlp,),
    "vip": (vip,),
    "vit": (vit, vit_today, vit_big_vision),
}
