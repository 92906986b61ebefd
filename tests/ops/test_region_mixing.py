import pytest
import torch
from error_budget import assert_within_budget

from mlpzoo.ops.region_mixing import region_mixing, region_mixing_reference

CASES = [
    pytest.param(shape, bands, head, id=f"{'x'.join(map(str, shape))}-{bands}-{head}")
    for shape, bands, head in [
        ((2, 8, 16, 5), 8, 1),
        ((1, 12, 4, 12), 4, 4),
        ((3, 6, 2, 48), 2, 16),
        ((1, 13, 17, 128), 1, 64),
    ]
]
IMPLS = pytest.mark.parametrize("impl", ["auto", "reference"])


def inputs(shape, bands, head):
    generator = torch.Generator().manual_seed(0)
    size = bands**2 * head

    def draw(*size):
        return torch.randn(*size, dtype=torch.float64, generator=generator)

    return [draw(*shape), draw(size, size)]


@pytest.mark.parametrize(("shape", "bands", "head"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_within_error_budget(shape, bands, head, dtype, poisoned_empty):
    assert_within_budget(
        lambda x, w: region_mixing(x, w, bands),
        lambda x, w: region_mixing_reference(x, w, bands),
        inputs(shape, bands, head),
        dtype,
    )


@pytest.mark.parametrize(("shape", "bands", "head"), CASES)
@IMPLS
def test_is_the_definition(shape, bands, head, impl):
    """Written out position by position: a vector holds the same place of every band, as far apart as a band is wide."""
    x, w = inputs(shape, bands, head)
    _, height, width, channels = shape
    rows, columns = height // bands, width // bands
    expected = torch.zeros_like(x)
    for r in range(rows):
        for c in range(columns):
            for group in range(channels // head):
                places = [
                    (p * rows + r, q * columns + c, group * head + d)
                    for d in range(head)
                    for p in range(bands)
                    for q in range(bands)
                ]
                vector = torch.stack([x[:, i, j, k] for i, j, k in places], -1)
                mixed = vector / len(w) @ w.T
                for n, (i, j, k) in enumerate(places):
                    expected[:, i, j, k] = mixed[:, n]
    torch.testing.assert_close(region_mixing(x, w, bands, impl), expected)


def test_takes_any_memory_format():
    x, w = inputs((2, 4, 8, 8), 4, 4)
    strided = x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    torch.testing.assert_close(region_mixing(strided, w, 4), region_mixing(x, w, 4))
    assert region_mixing(strided, w, 4).is_contiguous()


def test_errors():
    x, w = inputs((1, 4, 4, 4), 4, 4)
    with pytest.raises(ValueError, match="choose 'auto' or 'reference'"):
        region_mixing(x, w, 4, "fast")
