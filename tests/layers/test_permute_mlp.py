import pytest
import torch
from timm.layers import to_2tuple

from mlpzoo.layers import AxisLinear, WeightedPermuteMLP


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_as_the_snippets_call_it():
    mlp = WeightedPermuteMLP(512, seg_dim=8).eval()
    with torch.no_grad():
        assert mlp(draw(64, 8, 8, 512)).shape == (64, 8, 8, 512)


def test_as_the_authors_call_it():
    mlp = WeightedPermuteMLP(32, segment_dim=4, qkv_bias=False, qk_scale=None, attn_drop=0.0, proj_drop=0.0)
    assert mlp(draw(2, 4, 4, 32)).shape == (2, 4, 4, 32)
    assert [name for name, _ in mlp.named_parameters()] == [
        "mlp_c.weight",
        "mlp_h.weight",
        "mlp_w.weight",
        "reweight.fc1.weight",
        "reweight.fc1.bias",
        "reweight.fc2.weight",
        "reweight.fc2.bias",
        "proj.weight",
        "proj.bias",
    ]
    assert "mlp_h.bias" in WeightedPermuteMLP(32, 4, qkv_bias=True).state_dict()


@pytest.mark.parametrize("grid", [(8, 8), (4, 16), (1, 2)], ids=str)
def test_agrees_with_its_reference(grid):
    fast = WeightedPermuteMLP(32, grid, qkv_bias=True)
    reference = WeightedPermuteMLP(32, grid, qkv_bias=True, impl="reference")
    reference.load_state_dict(fast.state_dict())
    x = draw(3, *grid, 32)
    torch.testing.assert_close(fast(x), reference(x))
    with torch.no_grad():
        torch.testing.assert_close(fast(x), reference(x))


def test_each_branch_keeps_to_its_axis():
    """A change at one place is seen, before the branches mix, along its row or its column alone."""
    x = draw(1, 4, 4, 16)
    changed = x.clone()
    changed[0, 1, 2] += 1
    for axis, touched in ((1, (slice(None), 2)), (2, (1, slice(None)))):
        layer = AxisLinear(16, axis)
        seen = (layer(changed) - layer(x))[0].abs().amax(-1) > 1e-6
        expected = torch.zeros(4, 4, dtype=torch.bool)
        expected[touched] = True
        assert torch.equal(seen, expected)


def test_a_map_of_another_size():
    mlp = WeightedPermuteMLP(32, (4, 8))
    with pytest.raises(ValueError, match=r"got a map of 8×4 positions.*4 and 8 segments.*divisors of its 32 channels"):
        mlp(draw(1, 8, 4, 32))
    mlp.resize_grid((8, 4))
    assert mlp(draw(1, 8, 4, 32)).shape == (1, 8, 4, 32)


@pytest.mark.parametrize("segments", [5, (4, 7), 0, 64], ids=str)
def test_segments_that_do_not_divide(segments):
    with pytest.raises(ValueError, match="32 channels cannot be cut into .*: choose among 1, 2, 4, 8, 16, 32"):
        WeightedPermuteMLP(32, segments)
    mlp = WeightedPermuteMLP(32, 4)
    with pytest.raises(ValueError, match="cannot be cut"):
        mlp.resize_grid(to_2tuple(segments))
    assert mlp.grid == (4, 4)


def test_it_says_what_it_is():
    mlp = WeightedPermuteMLP(32, (4, 8))
    assert "segment_dim=(4, 8)" in repr(mlp)
    assert "32, axis=2, bias=False" in repr(mlp)
