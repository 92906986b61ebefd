"""What the files of MetaFormers hold, in the layouts of their two repositories."""

from families._lists import conv, linear, norm


def first_paper(config, mixing=lambda block, dim: {}):
    """As sail-sg/poolformer builds them: one list of stages and convolutions; `mixing` adds a mixer's tensors."""
    dims = config.embed_dims
    names = conv("patch_embed.proj", config.in_chans, dims[0], 7)
    for stage, (dim, depth) in enumerate(zip(dims, config.depths, strict=True)):
        if stage:
            names |= conv(f"network.{2 * stage - 1}.proj", dims[stage - 1], dim, 3)
        for i in range(depth):
            block = f"network.{2 * stage}.{i}"
            names |= {f"{block}.layer_scale_1": (dim,), f"{block}.layer_scale_2": (dim,)}
            names |= norm(f"{block}.norm1", dim) | norm(f"{block}.norm2", dim) | mixing(block, dim)
            names |= conv(f"{block}.mlp.fc1", dim, 4 * dim, 1) | conv(f"{block}.mlp.fc2", 4 * dim, dim, 1)
    return names | norm("norm", dims[-1]) | linear("head", dims[-1], config.num_classes)


def baselines(config, mixing=lambda block, stage, dim: {}):
    """As sail-sg/metaformer builds them, without the head."""
    dims = config.embed_dims
    names = conv("downsample_layers.0.conv", config.in_chans, dims[0], 7)
    names |= {"downsample_layers.0.post_norm.weight": (dims[0],)}
    for stage, (dim, depth) in enumerate(zip(dims, config.depths, strict=True)):
        if stage:
            names |= conv(f"downsample_layers.{stage}.conv", dims[stage - 1], dim, 3)
            names |= {f"downsample_layers.{stage}.pre_norm.weight": (dims[stage - 1],)}
        for i in range(depth):
            block = f"stages.{stage}.{i}"
            names |= {f"{block}.norm1.weight": (dim,), f"{block}.norm2.weight": (dim,)}
            names |= linear(f"{block}.mlp.fc1", dim, 4 * dim, bias=False) | star_relu(f"{block}.mlp.act")
            names |= linear(f"{block}.mlp.fc2", 4 * dim, dim, bias=False) | mixing(block, stage, dim)
            if stage >= 2:
                names |= {f"{block}.res_scale{k}.scale": (dim,) for k in (1, 2)}
    return names | norm("norm", dims[-1])


def star_relu(name):
    return {f"{name}.scale": (1,), f"{name}.bias": (1,)}
