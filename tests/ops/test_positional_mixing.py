import gc

import pytest
import torch
from error_budget import assert_within_budget

from mlpzoo.models.posmlp import PositionalMixing
from mlpzoo.ops import positional_mixing as ops
from mlpzoo.ops.positional_mixing import positional_map, positional_map_reference, positional_mixing

IMPLS = pytest.mark.parametrize("impl", ["auto", "reference"])
SIZES = pytest.mark.parametrize(("groups", "window"), [(3, 4), (7, 5), (1, 1)])


def draw(*size, seed=0):
    return torch.randn(*size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def parameters(groups):
    return [draw(groups, 2), torch.eye(2, dtype=torch.float64) / 2 + 0.2 * draw(groups, 2, 2, seed=1)]


@pytest.mark.parametrize(("groups", "window"), [(3, 4), (7, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_map_within_error_budget(groups, window, dtype, poisoned_empty):
    assert_within_budget(
        lambda *values: positional_map(*values, window),
        lambda *values: positional_map_reference(*values, window),
        parameters(groups),
        dtype,
    )


@SIZES
@IMPLS
def test_map_is_the_definition(groups, window, impl):
    centers, spreads = parameters(groups)
    expected = torch.empty(groups, window**2, window**2, dtype=torch.float64)
    for group in range(groups):
        precision = spreads[group] @ spreads[group].T
        for m in range(window**2):
            for n in range(window**2):
                d = torch.tensor([n % window - m % window, m // window - n // window], dtype=torch.float64)
                apart = d - centers[group]
                expected[group, m, n] = -0.5 * apart @ precision @ apart
    torch.testing.assert_close(positional_map(centers, spreads, window, impl), expected.softmax(2))


def test_a_map_is_kept_while_its_parameters_are_what_they_are(monkeypatch):
    centers, spreads = parameters(3)
    made = []
    original = ops._positional_map
    monkeypatch.setattr(ops, "_positional_map", lambda *args: made.append(args) or original(*args))
    with torch.no_grad():
        first = positional_map(centers, spreads, 4)
        assert positional_map(centers, spreads, 4) is first
        assert len(made) == 1
        for change in (centers, spreads):
            # No counter of changes sees this.
            change.data.numpy()[:] *= 2
            found = positional_map(centers, spreads, 4)
            assert torch.equal(found, original(centers, spreads, 4))
        assert len(made) == 3
        assert positional_map(centers, spreads, 3).shape == (3, 9, 9)
    assert positional_map(centers.requires_grad_(), spreads, 4).requires_grad
    kept = len(ops._maps)
    del centers, change
    made.clear()
    gc.collect()
    assert len(ops._maps) < kept


@IMPLS
@pytest.mark.parametrize("shape", [(2, 8, 4, 6), (1, 9, 7, 12), (2, 3, 2, 3)], ids=str)
def test_mixing_is_a_mean_over_what_is_there(shape, impl):
    """Where windows reach beyond the border, the rest counts for more: constant maps stay what they are."""
    groups, window = 3, 4
    x, bias = draw(*shape), draw(window**2, seed=2)
    positions = positional_map(*parameters(groups), window)
    _, height, width, channels = shape
    expected = torch.empty_like(x)
    for channel in range(channels):
        for top in range(0, height, window):
            for left in range(0, width, window):
                places = [(top + r, left + s) for r in range(window) for s in range(window)]
                inside = [i for i, (r, s) in enumerate(places) if r < height and s < width]
                rows, columns = zip(*(places[i] for i in inside), strict=True)
                weights = positions[channel % groups][inside][:, inside]
                mean = x[:, rows, columns, channel] @ (weights / weights.sum(1, keepdim=True)).T
                expected[:, rows, columns, channel] = mean + bias[inside]
    torch.testing.assert_close(positional_mixing(x, positions, bias, window, impl), expected)
    alike = positional_mixing(torch.ones_like(x), positions, 0 * bias, window, impl)
    torch.testing.assert_close(alike, torch.ones_like(x))


def test_folded_layer():
    layer = PositionalMixing(3, 4, "auto", dtype=torch.float64).requires_grad_(False)
    layer.centers.copy_(parameters(3)[0])
    folded = layer.folded()
    for shape in ((2, 8, 4, 6), (1, 9, 7, 12)):
        x = draw(*shape)
        torch.testing.assert_close(folded(x), layer(x))


def test_errors():
    centers, spreads = parameters(1)
    with pytest.raises(ValueError, match="choose 'auto' or 'reference'"):
        positional_map(centers, spreads, 2, "fast")
    with pytest.raises(ValueError, match="choose 'auto' or 'reference'"):
        positional_mixing(draw(1, 2, 2, 1), positional_map(centers, spreads, 2), draw(4), 2, "fast")
