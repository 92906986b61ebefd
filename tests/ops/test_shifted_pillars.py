import pytest
import torch
from error_budget import assert_within_budget

from mlpzoo.ops.shifted_pillars import shifted_pillars, shifted_pillars_reference

SHAPES = [pytest.param(shape, id="x".join(map(str, shape))) for shape in [(2, 8, 6, 6), (1, 63, 13, 17), (3, 4, 1, 2)]]
IMPLS = pytest.mark.parametrize("impl", ["auto", "reference"])


def inputs(shape):
    generator = torch.Generator().manual_seed(0)

    def draw(*size):
        return torch.randn(*size, dtype=torch.float64, generator=generator)

    return [draw(*shape), draw(12, shape[1], 1, 1) / shape[1] ** 0.5, draw(12)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_within_error_budget(shape, dtype, poisoned_empty):
    assert_within_budget(shifted_pillars, shifted_pillars_reference, inputs(shape), dtype)


@pytest.mark.parametrize("shape", SHAPES)
@IMPLS
def test_is_the_definition(shape, impl):
    x, w, b = inputs(shape)
    height, width = shape[2:]
    expected = b[:, None, None].expand(shape[0], 12, height, width).clone()
    for quarter, (down, right) in enumerate([(1, 0), (-1, 0), (0, -1), (0, 1)]):
        outputs = slice(3 * quarter, 3 * quarter + 3)
        for i in range(height):
            for j in range(width):
                if 0 <= i + down < height and 0 <= j + right < width:
                    expected[:, outputs, i, j] += x[:, :, i + down, j + right] @ w[outputs, :, 0, 0].T
    torch.testing.assert_close(shifted_pillars(x, w, b, impl), expected)
    torch.testing.assert_close(shifted_pillars(x, w, None, impl), expected - b[:, None, None])


def test_takes_any_memory_format():
    x, w, b = inputs((2, 6, 4, 5))
    expected = shifted_pillars(x, w, b)
    last = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(shifted_pillars(last, w, b), expected)
    assert shifted_pillars(last, w, b).is_contiguous(memory_format=torch.channels_last)


def test_errors():
    with pytest.raises(ValueError, match="choose 'auto' or 'reference'"):
        shifted_pillars(*inputs((1, 2, 3, 3)), "fast")
