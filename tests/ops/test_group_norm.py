import pytest
import torch
from error_budget import assert_within_budget

from mlpzoo.ops import group_norm
from mlpzoo.ops.group_norm import group_norm_reference

IMPLS = pytest.mark.parametrize("impl", ["auto", "native", "vector"])


def inputs(*shape):
    generator = torch.Generator().manual_seed(0)
    x = 3 + 2 * torch.randn(shape, dtype=torch.float64, generator=generator)
    return [x, *torch.randn(2, shape[3], dtype=torch.float64, generator=generator)]


@IMPLS
@pytest.mark.parametrize("shape", [(2, 13, 17, 63), (1, 1, 2, 5), (3, 8, 4, 64)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_within_error_budget(shape, dtype, impl, poisoned_empty):
    assert_within_budget(lambda *xs: group_norm(*xs, impl=impl), group_norm_reference, inputs(*shape), dtype)


@IMPLS
def test_no_bias(impl):
    assert_within_budget(
        lambda x, w: group_norm(x, w, None, impl=impl),
        lambda x, w: group_norm_reference(x, w, None),
        inputs(2, 13, 17, 63)[:2],
        torch.float32,
    )


@IMPLS
def test_input_that_is_not_contiguous(impl):
    x, w, b = inputs(2, 14, 18, 21)

    def view(x):
        return x[:, ::2].transpose(1, 2)

    assert not view(x).is_contiguous()
    assert_within_budget(
        lambda x, w, b: group_norm(view(x), w, b, impl=impl),
        lambda x, w, b: group_norm_reference(view(x), w, b),
        [x, w, b],
        torch.float32,
    )
    assert group_norm(view(x), w, b, impl=impl).is_contiguous()


@IMPLS
def test_each_map_is_normalized_as_a_whole(impl):
    x, _, _ = inputs(2, 3, 4, 5)
    y = group_norm(x, x.new_ones(5), x.new_zeros(5), 0.0, impl)
    torch.testing.assert_close(y.mean((1, 2, 3)), x.new_zeros(2))
    torch.testing.assert_close(y.var((1, 2, 3), correction=0), x.new_ones(2))
    w, b = x.new_tensor([1, 2, 3, 4, 5]), x.new_tensor([5, 4, 3, 2, 1])
    torch.testing.assert_close(group_norm(x, w, b, 0.0, impl), y * w + b)


def test_the_reference_keeps_channels_first():
    x, w, b = inputs(2, 3, 4, 5)
    first = x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert group_norm_reference(first, w, b).stride() == first.stride()


def test_unknown_impl():
    with pytest.raises(ValueError, match="unknown impl 'cuda'.*'auto'"):
        group_norm(*inputs(1, 2, 2, 2), impl="cuda")
