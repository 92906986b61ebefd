import pytest
import torch
from error_budget import assert_within_budget

from mlpzoo.models.dynamixer import GeneratedMixing
from mlpzoo.ops.generated_mixing import generated_mixing, generated_mixing_reference

CASES = [
    pytest.param(shape, heads, id=f"{'x'.join(map(str, shape))}-{heads}")
    for shape, heads in [((2, 4, 6, 8), 4), ((1, 13, 17, 63), 7), ((3, 5, 2, 4), 1)]
]
AXES = pytest.mark.parametrize("axis", [1, 2])
IMPLS = pytest.mark.parametrize("impl", ["auto", "reference"])


def inputs(shape, heads, axis):
    generator = torch.Generator().manual_seed(0)
    length, lines = shape[axis], shape[3 - axis]
    logits = torch.randn(shape[0], lines, heads, length, length, dtype=torch.float64, generator=generator)
    return [torch.randn(*shape, dtype=torch.float64, generator=generator), logits]


@pytest.mark.parametrize(("shape", "heads"), CASES)
@AXES
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_within_error_budget(shape, heads, axis, dtype, poisoned_empty):
    assert_within_budget(
        lambda x, logits: generated_mixing(x, logits, axis),
        lambda x, logits: generated_mixing_reference(x, logits, axis),
        inputs(shape, heads, axis),
        dtype,
    )


@pytest.mark.parametrize(("shape", "heads"), CASES)
@AXES
@IMPLS
def test_is_the_definition(shape, heads, axis, impl):
    x, logits = inputs(shape, heads, axis)
    x_BOLC = x if axis == 2 else x.transpose(1, 2)
    expected = torch.empty_like(x_BOLC)
    weights = logits.exp() / logits.exp().sum(3, keepdim=True)
    for channel in range(shape[3]):
        head = channel * heads // shape[3]
        expected[..., channel] = torch.einsum("bos,bost->bot", x_BOLC[..., channel], weights[:, :, head])
    y = generated_mixing(x, logits, axis, impl)
    torch.testing.assert_close(y, expected if axis == 2 else expected.transpose(1, 2))


@AXES
@IMPLS
def test_takes_any_memory_format(axis, impl):
    x, logits = inputs((2, 4, 6, 8), 4, axis)
    expected = generated_mixing(x, logits, axis, impl)
    first = x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    strided = torch.empty(2, 8, 6, 8, dtype=x.dtype)[:, ::2].copy_(x)
    for same in (first, strided):
        torch.testing.assert_close(generated_mixing(same, logits, axis, impl), expected)
    assert expected.is_contiguous()


@AXES
@pytest.mark.parametrize("new_grid", [(4, 6), (8, 9), (2, 3)])
def test_what_generates_the_mixing_is_resized(axis, new_grid):
    """Positions that are all alike are answered alike at every length, and told the same; the same length is equal."""
    layer = GeneratedMixing(8, (4, 6), axis, 2, 3, "auto", dtype=torch.float64)
    grid, x = (4, 6), torch.randn(2, 1, 1, 8, dtype=torch.float64)
    before = layer(x.expand(2, *grid, 8))
    told = layer.generate.weight.unflatten(1, (grid[axis - 1], 3)).sum(1).mean(0)
    weight = layer.generate.weight.detach().clone()
    layer.resize_grid(new_grid)
    torch.testing.assert_close(layer(x.expand(2, *new_grid, 8))[:, 0, 0], before[:, 0, 0])
    assert torch.equal(layer.generate.weight, weight) == (new_grid == grid)
    if new_grid[axis - 1] == 2 * grid[axis - 1]:
        found = layer.generate.weight.unflatten(1, (new_grid[axis - 1], 3)).sum(1).mean(0)
        torch.testing.assert_close(found, told, atol=0.02, rtol=0.2)


def test_errors():
    x, logits = inputs((1, 3, 3, 2), 1, 1)
    with pytest.raises(ValueError, match="1 is the height, 2 the width"):
        generated_mixing(x, logits, 3)
    with pytest.raises(ValueError, match="choose 'auto' or 'reference'"):
        generated_mixing(x, logits, 2, "fast")
