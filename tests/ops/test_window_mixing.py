import pytest
import torch
from error_budget import assert_within_budget

from mlpzoo.layers.windows import WindowMixing
from mlpzoo.ops.window_mixing import window_mixing, window_mixing_reference

# Shape, groups, window, shift: whole windows; odd sides of many channels; a map smaller than a window.
CASES = [
    pytest.param(*case, id="-".join(map(str, case)))
    for case in [
        ((2, 8, 12, 6), 3, 4, 0),
        ((2, 8, 12, 6), 3, 4, 2),
        ((1, 13, 17, 63), 7, 7, 3),
        ((3, 4, 5, 4), 1, 4, 2),
        ((1, 3, 9, 2), 2, 5, 2),
    ]
]
ORDER = pytest.mark.parametrize("interleaved", [False, True])
IMPLS = pytest.mark.parametrize("impl", ["auto", "reference"])


def inputs(shape, groups, window):
    generator = torch.Generator().manual_seed(0)

    def draw(*size):
        return torch.randn(*size, dtype=torch.float64, generator=generator)

    return [draw(*shape), draw(groups, window**2, window**2) / window, draw(groups, window**2)]


@pytest.mark.parametrize(("shape", "groups", "window", "shift"), CASES)
@ORDER
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_within_error_budget(shape, groups, window, shift, interleaved, dtype, poisoned_empty):
    assert_within_budget(
        lambda x, w, b: window_mixing(x, w, b, window, shift, interleaved),
        lambda x, w, b: window_mixing_reference(x, w, b, window, shift, interleaved),
        inputs(shape, groups, window),
        dtype,
    )


@pytest.mark.parametrize(("shape", "groups", "window", "shift"), CASES)
@ORDER
@IMPLS
def test_is_the_definition(shape, groups, window, shift, interleaved, impl):
    x, w, b = inputs(shape, groups, window)
    _, height, width, channels = shape
    start = shift - window if shift and min(height, width) > window else 0
    expected = torch.empty_like(x)
    for channel in range(channels):
        group = channel % groups if interleaved else channel * groups // channels
        for top in range(start, height, window):
            for left in range(start, width, window):
                places = [(top + r, left + s) for r in range(window) for s in range(window)]
                inside = [i for i, (r, s) in enumerate(places) if 0 <= r < height and 0 <= s < width]
                rows, columns = zip(*(places[i] for i in inside), strict=True)
                read = x[:, rows, columns, channel]
                expected[:, rows, columns, channel] = read @ w[group][inside][:, inside].T + b[group][inside]
    torch.testing.assert_close(window_mixing(x, w, b, window, shift, interleaved, impl), expected)


@IMPLS
def test_takes_any_memory_format(impl):
    x, w, b = inputs((2, 8, 8, 6), 3, 4)
    expected = window_mixing(x, w, b, 4, 2, False, impl)
    first = x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    strided = torch.empty(2, 16, 8, 6, dtype=x.dtype)[:, ::2].copy_(x)
    for same in (first, strided):
        torch.testing.assert_close(window_mixing(same, w, b, 4, 2, False, impl), expected)


def test_the_layer_applies_the_op():
    x, w, b = inputs((2, 8, 8, 6), 3, 4)
    layer = WindowMixing(3, 4, 2, dtype=torch.float64)
    layer.load_state_dict({"weight": w, "bias": b.flatten()})
    assert torch.equal(layer(x), window_mixing(x, w, b, 4, 2))


def test_errors():
    x, w, b = inputs((1, 4, 4, 2), 1, 2)
    with pytest.raises(ValueError, match="choose 'auto' or 'reference'"):
        window_mixing(x, w, b, 2, impl="fast")
