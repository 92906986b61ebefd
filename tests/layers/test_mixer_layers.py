import pytest
import torch
from torch import nn

from mlpzoo.layers import ChannelMixing, MixerBlock, MlpBlock, PatchEmbed, TokenLinear, TokenMixing, create_activation


def tokens(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_mlp_block_is_two_linears_around_an_activation():
    mlp = MlpBlock(6, 10, 4)
    x = tokens(2, 3, 6)
    hidden = nn.functional.gelu(x @ mlp.fc1.weight.T + mlp.fc1.bias)
    torch.testing.assert_close(mlp(x), hidden @ mlp.fc2.weight.T + mlp.fc2.bias)


def test_mlp_block_defaults():
    mlp = MlpBlock(6)
    assert (mlp.fc1.out_features, mlp.fc2.out_features) == (24, 6)
    assert MlpBlock(6, bias=False).fc1.bias is None


def test_token_mixing_is_the_papers_equation():
    mixing = TokenMixing(5, 9)
    x = tokens(2, 5, 7)
    columns = x.transpose(1, 2)
    hidden = nn.functional.gelu(columns @ mixing.fc1.weight.T + mixing.fc1.bias, approximate="tanh")
    expected = (hidden @ mixing.fc2.weight.T + mixing.fc2.bias).transpose(1, 2)
    torch.testing.assert_close(mixing(x), expected)


def test_mixer_block_is_the_papers_equation():
    block = MixerBlock(8, 5, 9, 12).eval()
    x = tokens(2, 5, 8)
    x1 = x + block.mlp_tokens(nn.functional.layer_norm(x, (8,), eps=1e-6))
    expected = x1 + block.mlp_channels(nn.functional.layer_norm(x1, (8,), eps=1e-6))
    torch.testing.assert_close(block(x), expected)


def test_channel_mixing_is_an_mlp_block_over_channels():
    assert isinstance(ChannelMixing(4, 8), MlpBlock)


@pytest.mark.parametrize("strided", [False, True])
def test_patch_embed_is_dense_and_in_row_major_order(strided):
    embed = PatchEmbed((8, 12), 4, 3, 5)
    x = tokens(2, 3, 8, 12)
    if strided:
        x = x.contiguous(memory_format=torch.channels_last)
    y = embed(x)
    assert y.is_contiguous()
    second_row_first_patch = x[:, :, 4:8, 0:4]
    expected = torch.einsum("bihw,cihw->bc", second_row_first_patch, embed.proj.weight) + embed.proj.bias
    torch.testing.assert_close(y[:, 3], expected)


def test_patch_embed_refuses_another_size():
    with pytest.raises(ValueError, match=r"got an image of 12×8 pixels.*8×12.*img_size=\(12, 8\).*set_input_size"):
        PatchEmbed((8, 12), 4, 3, 5)(tokens(1, 3, 12, 8))


@pytest.mark.parametrize(
    ("img_size", "patch_size", "nearest"),
    [(225, 16, r"\(224, 224\) or \(240, 240\)"), ((224, 230), 16, r"\(224, 224\) or \(224, 240\)"), (8, 16, "16, 16")],
    ids=str,
)
def test_patch_embed_names_the_nearest_sizes(img_size, patch_size, nearest):
    with pytest.raises(ValueError, match=f"does not divide into patches.*{nearest}"):
        PatchEmbed(img_size, patch_size)


def test_patch_embed_stays_as_it_was_when_a_size_is_refused():
    embed = PatchEmbed(16, 4, 3, 5)
    with pytest.raises(ValueError, match="does not divide"):
        embed.set_input_size(17)
    assert (embed.img_size, embed.grid_size, embed.num_patches) == ((16, 16), (4, 4), 16)


def test_patch_embed_takes_another_patch_size():
    embed = PatchEmbed(16, 4, 3, 5)
    embed.set_input_size((24, 32), 8)
    assert embed(tokens(1, 3, 24, 32)).shape == (1, 12, 5)


def test_token_linear_can_lack_a_bias_and_shows_what_it_is():
    layer = TokenLinear(4, 6, bias=False)
    assert layer.bias is None
    assert "in_tokens=4, out_tokens=6, bias=False" in repr(layer)
    assert layer(tokens(2, 4, 3)).shape == (2, 6, 3)


def test_tools_that_swap_linears_leave_token_linears_alone():
    assert not isinstance(TokenLinear(2, 2), nn.Linear)


def test_resizing_keeps_frozen_parameters_frozen():
    mixing = TokenMixing((4, 4), 8).requires_grad_(False)
    mixing.resize_grid((2, 6))
    assert mixing.fc1.weight.shape == (8, 12)
    assert mixing.fc2.weight.shape == (12, 8)
    assert mixing.fc2.bias.shape == (12,)
    assert not any(parameter.requires_grad for parameter in mixing.parameters())


@pytest.mark.parametrize("make", [MlpBlock, lambda dim, **dd: MixerBlock(dim, 4, 4, 4, **dd)])
def test_device_and_dtype_reach_every_parameter(make):
    layer = make(4, device="meta", dtype=torch.bfloat16)
    assert {(p.device.type, p.dtype) for p in layer.parameters()} == {("meta", torch.bfloat16)}


def test_activations_by_name():
    x = tokens(9)
    torch.testing.assert_close(create_activation("gelu")(x), nn.functional.gelu(x))
    torch.testing.assert_close(create_activation("gelu_tanh")(x), nn.functional.gelu(x, approximate="tanh"))
    with pytest.raises(ValueError, match="unknown activation 'glue'.*gelu_tanh"):
        create_activation("glue")
    with pytest.raises(TypeError, match="name of an activation"):
        create_activation(nn.GELU)
