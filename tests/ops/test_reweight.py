import pytest
import torch
from error_budget import assert_within_budget

from mlpzoo.ops import mean_of_sum, reweighted_sum
from mlpzoo.ops.reweight import mean_of_sum_reference, reweighted_sum_reference


def branches(*shape):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, dtype=torch.float64, generator=generator) for _ in range(3)]


def logits(batch, channels):
    return torch.randn(batch, 3 * channels, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("shape", [(2, 13, 17, 63), (1, 1, 1, 5), (3, 4, 2, 64)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_within_error_budget(shape, dtype, poisoned_empty):
    inputs = [*branches(*shape), logits(shape[0], shape[3])]
    assert_within_budget(reweighted_sum, reweighted_sum_reference, inputs, dtype)
    assert_within_budget(mean_of_sum, mean_of_sum_reference, branches(*shape), dtype)


def test_a_channels_logits_stand_side_by_side():
    h, w, c = branches(2, 3, 4, 5)
    certain = torch.full((2, 15), -1e9, dtype=torch.float64)
    for i, branch in ((3 * 2, h), (3 * 3 + 1, w), (3 * 4 + 2, c)):
        certain[:, i] = 1e9
        channel = i // 3
        for impl in ("auto", "reference"):
            y = reweighted_sum(h, w, c, certain, impl)
            torch.testing.assert_close(y[..., channel], branch[..., channel])


def test_inputs_are_left_alone():
    inputs = [*branches(2, 3, 4, 5), logits(2, 5)]
    before = [value.clone() for value in inputs]
    reweighted_sum(*inputs)
    assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True))


def test_gradients_by_finite_differences():
    inputs = [value.requires_grad_() for value in (*branches(2, 2, 3, 4), logits(2, 4))]
    assert torch.autograd.gradcheck(reweighted_sum, inputs)


def test_unknown_impl():
    with pytest.raises(ValueError, match="unknown impl 'cuda'.*'auto'"):
        reweighted_sum(*branches(1, 2, 2, 2), logits(1, 2), impl="cuda")
