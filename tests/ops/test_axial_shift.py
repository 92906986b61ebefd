import pytest
import torch
from error_budget import assert_within_budget
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpzoo.ops import axial_shift
from mlpzoo.ops.axial_shift import axial_shift_reference

ALONG_WIDTH = [(13, 0, 2), (13, 0, 1), (13, 0, 0), (13, 0, -1), (11, 0, -2)]
BOTH_WAYS = [(5, 0, 1), (5, 0, -1), (5, 1, 0), (5, -1, 0), (43, 0, 0)]
# PyTorch's own forward mode scripts its formulas.
DEPRECATED = pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:Warning")
RUNS = pytest.mark.parametrize("runs", [ALONG_WIDTH, BOTH_WAYS, [(60, -3, 2), (3, 0, 0)]], ids=str)
IMPLS = pytest.mark.parametrize("impl", ["auto", "copy", "select"])
SHAPES = pytest.mark.parametrize("shape", [(2, 13, 17, 63), (1, 7, 9, 63), (3, 1, 2, 63)], ids=str)


def drawn(shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


@RUNS
@IMPLS
@SHAPES
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_within_error_budget(runs, impl, shape, dtype, poisoned_empty):
    assert_within_budget(
        lambda x: axial_shift(x, runs, impl), lambda x: axial_shift_reference(x, runs), [drawn(shape)], dtype
    )


@IMPLS
@pytest.mark.parametrize(
    "view",
    [
        pytest.param(lambda x: x[:, ::2, 1::2], id="every-second-position"),
        pytest.param(lambda x: x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1), id="channels-first"),
    ],
)
def test_input_that_is_not_contiguous(impl, view):
    x = drawn((2, 14, 18, 63))
    assert not view(x).is_contiguous()
    assert_within_budget(
        lambda x: axial_shift(view(x), BOTH_WAYS, impl),
        lambda x: axial_shift_reference(view(x), BOTH_WAYS),
        [x],
        torch.float32,
    )


@given(
    grid=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    runs=st.lists(st.tuples(st.integers(1, 4), st.integers(-3, 3), st.integers(-3, 3)), min_size=1, max_size=4),
    impl=st.sampled_from(["copy", "select", "reference"]),
)
@settings(deadline=None, max_examples=80)
def test_every_value_is_read_where_the_run_says(grid, runs, impl):
    height, width = grid
    x = drawn((2, height, width, sum(run[0] for run in runs)))
    expected, channel = torch.zeros_like(x), 0
    for channels, down, right in runs:
        for _ in range(channels):
            for i in range(height):
                for j in range(width):
                    if 0 <= i + down < height and 0 <= j + right < width:
                        expected[:, i, j, channel] = x[:, i + down, j + right, channel]
            channel += 1
    assert torch.equal(axial_shift(x, runs, impl), expected)


@DEPRECATED
@IMPLS
def test_gradients_by_finite_differences(impl):
    x, runs = drawn((1, 3, 4, 5)).requires_grad_(), [(2, 1, 0), (2, 0, -2), (1, 0, 0)]
    assert torch.autograd.gradcheck(lambda x: axial_shift(x, runs, impl), x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda x: axial_shift(x, runs, impl), x)


def test_vmap():
    x = drawn((3, 2, 4, 5, 63))
    found = torch.vmap(lambda x: axial_shift(x, BOTH_WAYS))(x)
    assert torch.equal(found, torch.stack([axial_shift_reference(y, BOTH_WAYS) for y in x]))


def test_the_reference_keeps_channels_first():
    x = drawn((2, 63, 4, 5)).permute(0, 2, 3, 1)
    assert axial_shift_reference(x, BOTH_WAYS).stride() == x.stride()
    assert axial_shift(x, BOTH_WAYS).is_contiguous()


def test_mistakes():
    with pytest.raises(ValueError, match="unknown impl 'cuda'.*'auto'"):
        axial_shift(drawn((1, 2, 2, 63)), BOTH_WAYS, "cuda")
    with pytest.raises(ValueError, match="cover 63 channels, and the map has 64"):
        axial_shift(drawn((1, 2, 2, 64)), BOTH_WAYS)
