import pytest
import torch
from error_budget import assert_within_budget, run
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from mlpzoo.ops import cycle_fc
from mlpzoo.ops.cycle_fc import (
    _kept_taps,
    channel_offsets,
    cycle_fc_reference,
    shift_by_convolution,
    shift_by_selection,
    taps_of,
)

SHAPES = [
    pytest.param((2, 13, 17, 63), 63, id="odd"),
    pytest.param((1, 7, 9, 32), 48, id="one-image"),
    pytest.param((3, 2, 5, 8), 5, id="shorter-than-the-step"),
]
STEPS = pytest.mark.parametrize("step", [3, 5, 7])
AXES = pytest.mark.parametrize("axis", [1, 2])
IMPLS = pytest.mark.parametrize("impl", ["conv", "one_conv", "select"])


def inputs(shape, out_channels, groups=1):
    """A map, a weight and a bias, in float64."""
    generator = torch.Generator().manual_seed(0)

    def draw(*size):
        return torch.randn(*size, dtype=torch.float64, generator=generator)

    channels = shape[-1] // groups
    return [draw(*shape), draw(out_channels, channels) / channels**0.5, draw(out_channels)]


def both(step, axis, impl, **options):
    """The fast op and its twin, as functions of tensors alone."""

    def fast(x, w, b):
        return cycle_fc(x, w, b, step, axis, impl=impl, **options)

    def reference(x, w, b):
        return cycle_fc_reference(x, w, b, step, axis, **options)

    return fast, reference


@pytest.mark.parametrize(("shape", "out_channels"), SHAPES)
@STEPS
@AXES
@IMPLS
def test_within_error_budget(shape, out_channels, step, axis, impl, poisoned_empty):
    assert_within_budget(*both(step, axis, impl), inputs(shape, out_channels), torch.float32)


@AXES
@IMPLS
def test_within_error_budget_in_a_dtype_that_deformable_convolutions_lack(axis, impl):
    assert_within_budget(*both(3, axis, impl), inputs((2, 13, 17, 63), 63), torch.bfloat16)


@pytest.mark.parametrize(("shape", "out_channels"), SHAPES)
@STEPS
@AXES
@IMPLS
def test_float64_output_and_gradients(shape, out_channels, step, axis, impl):
    tensors = inputs(shape, out_channels)
    cotangent = torch.randn(*shape[:3], out_channels, dtype=torch.float64)
    fast, reference = both(step, axis, impl)
    found, expected = run(fast, tensors, torch.float64, cotangent), run(reference, tensors, torch.float64, cotangent)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@AXES
@IMPLS
@pytest.mark.parametrize(
    "view",
    [
        pytest.param(lambda x: x[:, ::2, 1::2], id="every-second-position"),
        pytest.param(lambda x: x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1), id="channels-first"),
    ],
)
def test_input_that_is_not_contiguous(axis, impl, view):
    tensors = inputs((2, 14, 18, 21), 6)
    assert not view(tensors[0]).is_contiguous()
    fast, reference = both(3, axis, impl)
    assert_within_budget(
        lambda x, w, b: fast(view(x), w, b), lambda x, w, b: reference(view(x), w, b), tensors, torch.float32
    )


@AXES
@IMPLS
def test_groups_follow_from_the_weight(axis, impl):
    assert_within_budget(*both(3, axis, impl), inputs((2, 6, 5, 12), 8, groups=4), torch.float32)


@IMPLS
@pytest.mark.parametrize("options", [{"dilation": 2}, {"offsets": [0, 2, -2, 1, -1, 2, 2, 0, 1, -1]}], ids=str)
def test_other_offsets(impl, options):
    assert_within_budget(*both(5, 2, impl, **options), inputs((2, 6, 9, 10), 7), torch.float32)


@pytest.mark.parametrize("impl", ["auto", "reference"])
def test_without_bias(impl):
    x, w, b = inputs((2, 6, 5, 9), 4)
    expected = cycle_fc(x, w, b, 3, 1, impl="select") - b
    torch.testing.assert_close(cycle_fc(x, w, None, 3, 1, impl=impl), expected)


def test_the_cycle_is_the_authors():
    assert channel_offsets(7, 3).tolist() == [0, 1, -1, 0, 1, -1, 0]
    assert channel_offsets(8, 7).tolist() == [0, 1, 2, 3, -3, -2, -1, 0]
    assert channel_offsets(4, 3, dilation=2).tolist() == [0, 2, -2, 0]
    assert channel_offsets(3, 1).tolist() == [0, 0, 0]


@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.integers(1, 9)),
    step=st.sampled_from([1, 3, 5, 7]),
    axis=st.sampled_from([1, 2]),
    shift=st.sampled_from([shift_by_convolution, shift_by_selection]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
)
@settings(deadline=None, max_examples=60)
def test_shift_moves_every_value_unchanged(shape, step, axis, shift, dtype):
    x = torch.randn(shape).to(dtype)
    offsets = channel_offsets(shape[3], step)
    expected = torch.zeros_like(x)
    for channel, offset in enumerate(offsets.tolist()):
        for position in range(shape[axis]):
            if 0 <= position + offset < shape[axis]:
                value = x[..., channel].select(axis, position + offset)
                expected[..., channel].select(axis, position).copy_(value)
    assert torch.equal(shift(x, taps_of(shape[3], step), axis), expected)


def test_gradients_by_finite_differences():
    leaves = [value.requires_grad_() for value in inputs((1, 3, 4, 5), 3)]
    assert torch.autograd.gradcheck(lambda *leaves: cycle_fc(*leaves, 3, 2), leaves)


def test_unknown_impl():
    with pytest.raises(ValueError, match="unknown impl 'cuda'.*'auto'"):
        cycle_fc(*inputs((1, 2, 2, 2), 2), 3, 1, impl="cuda")


@IMPLS
def test_what_inference_keeps_serves_training(impl):
    _kept_taps.cache_clear()
    inputs_ = inputs((2, 4, 5, 6), 3)
    with torch.inference_mode():
        expected = cycle_fc(*inputs_, 3, 1, impl=impl)
    leaves = [value.requires_grad_() for value in inputs_]
    y = cycle_fc(*leaves, 3, 1, impl=impl)
    y.sum().backward()
    torch.testing.assert_close(y, expected)
    assert _kept_taps.cache_info()[:2] == (1, 1), "hits and misses"


def test_nothing_is_kept_of_tensors_without_values():
    _kept_taps.cache_clear()
    x, w, b = inputs((2, 4, 5, 6), 3)
    with FakeTensorMode() as mode:
        assert cycle_fc(*map(mode.from_tensor, (x, w, b)), 3, 1).shape == (2, 4, 5, 3)
        cycle_fc(torch.empty(1, 4, 5, 6), torch.empty(3, 6), None, 3, 1)
    torch.testing.assert_close(cycle_fc(x, w, b, 3, 1), cycle_fc_reference(x, w, b, 3, 1))


class Operators(TorchDispatchMode):
    """Takes down the names of what runs."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("dtype", "one"), [(torch.bfloat16, True), (torch.float16, True), (torch.float32, False)], ids=str
)
def test_on_a_gpu_one_convolution_runs_in_half_precision(dtype, one):
    with FakeTensorMode(), Operators() as ran:
        x, w, b = (torch.empty(*size, dtype=dtype, device="cuda") for size in ((2, 4, 5, 6), (8, 6), (8,)))
        assert cycle_fc(x, w, b, 3, 1).shape == (2, 4, 5, 8)
    assert ("convolution" in ran.names, "constant_pad_nd" in ran.names) == (one, not one)


@pytest.mark.gpu
@AXES
@pytest.mark.parametrize(("shape", "out_channels"), SHAPES)
def test_within_error_budget_on_a_gpu(shape, out_channels, axis):
    tensors = [value.cuda() for value in inputs(shape, out_channels)]
    assert_within_budget(*both(3, axis, "auto"), tensors, torch.bfloat16)


@pytest.mark.gpu
@AXES
def test_autocast_on_a_gpu(axis):
    x, w, b = (value.cuda().float() for value in inputs((2, 13, 17, 63), 63))
    with torch.autocast("cuda", dtype=torch.bfloat16), Operators() as ran:
        y = cycle_fc(x, w, b, 3, axis)
    assert "convolution" in ran.names
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), cycle_fc_reference(x, w, b, 3, axis), rtol=0.02, atol=0.05)
