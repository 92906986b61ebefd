"""RaftMLP: maps interpolated to the trained grid, or weights resized."""

import pytest
import torch
from families import CASES

from mlpzoo.models.raftmlp import RaftMixing


def create(**options):
    return CASES["raftmlp"].create(**options).double().eval()


def test_both_ways_are_equal_at_the_trained_size():
    maps, weights = create(), create(token_resize="weights", token_size=(64, 96))
    weights.load_state_dict(maps.state_dict())
    x = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    assert torch.equal(maps(x), weights(x))
    y = torch.randn(2, 3, 96, 64, dtype=torch.float64)
    assert maps(y).shape == (2, 7)
    with pytest.raises(ValueError, match="64"):
        weights(y)
    weights.set_input_size((96, 64))
    assert not torch.allclose(maps(y), weights(y))


@pytest.mark.parametrize("axis", [1, 2])
def test_resized_mixing_keeps_sums_and_constants(axis):
    config = create(token_resize="weights").config
    layer = RaftMixing(8, (6, 4), (6, 4), axis, config, drop_path=0.0, dtype=torch.float64)
    before = layer.fc1.weight.detach().unflatten(1, (2, -1)).sum(2)
    x = torch.randn(2, 1, 1, 8, dtype=torch.float64)
    with torch.no_grad():
        # What is written alike everywhere stays so.
        layer.fc2.weight.copy_(
            layer.fc2.weight.unflatten(0, (2, -1))[:, :1].expand(2, layer.grid[axis - 1], -1).flatten(0, 1)
        )
        layer.fc2.bias.zero_()
    answer = layer(x.expand(2, 6, 4, 8))[:, 0, 0]
    weight = layer.fc1.weight.detach().clone()
    layer.resize_grid((6, 4))
    assert torch.equal(layer.fc1.weight, weight)
    layer.resize_grid((9, 7))
    torch.testing.assert_close(layer.fc1.weight.unflatten(1, (2, -1)).sum(2), before)
    torch.testing.assert_close(layer(x.expand(2, 9, 7, 8))[:, 0, 0], answer)


def test_maps_of_the_authors_dense_code():
    plain, dense = create(), create(feature_norms=True)
    dense.load_state_dict(plain.state_dict())
    x = torch.randn(1, 3, 50, 70, dtype=torch.float64)
    last, maps = dense.forward_intermediates(x)
    expected_last, expected = plain.forward_intermediates(x)
    torch.testing.assert_close(maps[0], plain.stem(x).permute(0, 3, 1, 2))
    assert maps[0].shape == expected[0].shape
    assert not torch.allclose(maps[0], expected[0])
    for found, other in zip([last, *maps[1:]], [expected_last, *expected[1:]], strict=True):
        assert torch.equal(found, other)
