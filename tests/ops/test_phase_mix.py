import math

import pytest
import torch
from error_budget import assert_within_budget

from mlpzoo.ops.phase_mix import phase_mix, phase_mix_reference

# PyTorch's own forward mode scripts its formulas.
DEPRECATED = pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:Warning")
AXES = pytest.mark.parametrize("axis", [1, 2], ids=["height", "width"])


def inputs(*shape, axis, window=7):
    generator = torch.Generator().manual_seed(0)
    z, theta = torch.randn(2, *shape, dtype=torch.float64, generator=generator)
    sides = (window, 1) if axis == 1 else (1, window)
    return [z, 2 * theta, torch.randn(shape[3], 2, *sides, dtype=torch.float64, generator=generator)]


@AXES
@pytest.mark.parametrize("shape", [(2, 13, 17, 63), (1, 2, 3, 64), (3, 1, 1, 5)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_within_error_budget(axis, shape, dtype, poisoned_empty):
    assert_within_budget(phase_mix, phase_mix_reference, inputs(*shape, axis=axis), dtype)


@AXES
def test_input_that_is_not_contiguous(axis):
    z, theta, w = inputs(2, 14, 18, 21, axis=axis)

    def through(op):
        return lambda z, theta, w: op(z[:, ::2].transpose(1, 2), theta[:, ::2].transpose(1, 2), w)

    assert_within_budget(through(phase_mix), through(phase_mix_reference), [z, theta, w], torch.float32)


@pytest.mark.parametrize("op", [phase_mix, phase_mix_reference])
def test_every_channel_sees_the_waves_that_the_formula_says(op):
    z, theta, w = inputs(1, 1, 4, 4, axis=2, window=3)
    waves = [*(z * theta.cos())[0, 0].T, *(z * theta.sin())[0, 0].T]
    y = op(z, theta, w)
    for channel in range(4):
        for place in range(4):
            expected = sum(
                w[channel, i, 0, tap] * waves[2 * channel + i][place + tap - 1]
                for i in range(2)
                for tap in range(3)
                if 0 <= place + tap - 1 < 4
            )
            assert math.isclose(y[0, 0, place, channel], expected, rel_tol=1e-12)


@DEPRECATED
def test_gradients_of_every_order():
    tensors = [x.requires_grad_() for x in inputs(1, 3, 2, 3, axis=1, window=3)]
    assert torch.autograd.gradcheck(phase_mix, tensors, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(phase_mix, tensors)


def test_nothing_but_the_inputs_is_saved():
    tensors = [x.requires_grad_() for x in inputs(2, 5, 6, 4, axis=2)]
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        phase_mix(*tensors)
    assert {x.data_ptr() for x in saved} == {x.data_ptr() for x in tensors}


def test_vmap():
    z, theta, w = inputs(3, 4, 5, 6, axis=1)
    found = torch.vmap(lambda z, theta: phase_mix(z[None], theta[None], w)[0])(z, theta)
    torch.testing.assert_close(found, phase_mix_reference(z, theta, w))


def test_unknown_impl():
    with pytest.raises(ValueError, match="unknown impl 'cuda'.*'auto'"):
        phase_mix(*inputs(1, 2, 2, 2, axis=1), "cuda")
