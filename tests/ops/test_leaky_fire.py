import pytest
import torch
from error_budget import assert_within_budget
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpzoo.ops.leaky_fire import leaky_fire, leaky_fire_reference

# PyTorch's own forward mode scripts its formulas.
DEPRECATED = pytest.mark.filterwarnings("ignore:`torch.jit.*` is deprecated:Warning")
AXES = pytest.mark.parametrize("axis", [1, 2], ids=["height", "width"])


def inputs(*shape, tau=0.5, threshold=0.25):
    """A map whose numbers are multiples of 1/8, so that a potential is told from the threshold in every precision."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-12, 13, shape, generator=generator).double() / 8 + 1 / 16
    return [x, torch.tensor([tau], dtype=torch.float64), torch.tensor([threshold], dtype=torch.float64)]


def of_tensors(op, axis, run=4, view=lambda x: x):
    return lambda x, tau, threshold: op(view(x), tau, threshold, run, axis)


# Of a small map in bfloat16, the error of a gradient that is a single number is a matter of luck.
@AXES
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((2, 13, 17, 63), torch.float32), ((3, 8, 4, 5), torch.float32), ((2, 13, 17, 63), torch.bfloat16)],
    ids=str,
)
def test_within_error_budget(axis, shape, dtype, poisoned_empty):
    assert_within_budget(of_tensors(leaky_fire, axis), of_tensors(leaky_fire_reference, axis), inputs(*shape), dtype)


@AXES
@pytest.mark.parametrize("op", [leaky_fire_reference, leaky_fire])
def test_what_fills_no_run_passes(op, axis):
    x, tau, threshold = inputs(1, 3, 2, 64)
    assert torch.equal(op(x, tau, threshold, 4, axis), x)


@AXES
def test_input_that_is_not_contiguous(axis):
    def view(x):
        return x[:, ::2].transpose(1, 2)

    fast, reference = (of_tensors(op, axis, view=view) for op in (leaky_fire, leaky_fire_reference))
    assert_within_budget(fast, reference, inputs(2, 14, 18, 21), torch.float32)


@given(
    numbers=st.lists(st.integers(-8, 8), min_size=1, max_size=11),
    run=st.integers(1, 5),
    axis=st.sampled_from([1, 2]),
    tau=st.sampled_from([0.0, 0.25, -0.5, 2.0]),
    threshold=st.sampled_from([-1.0, 0.125, 0.5]),
)
@settings(deadline=None, max_examples=100)
def test_every_number_is_what_the_neuron_gives(numbers, run, axis, tau, threshold):
    expected, whole, left = [], len(numbers) // run * run, 0.0
    for place, number in enumerate(numbers):
        left = 0.0 if place % run == 0 else left
        potential = tau * left + number / 4
        if place >= whole:
            expected.append(number / 4)
        elif potential > threshold:
            expected.append(potential)
            left = 0.0
        else:
            expected.append(threshold)
            left = potential
    x = torch.tensor(numbers, dtype=torch.float64) / 4
    shape = (1, -1, 1, 1) if axis == 1 else (1, 1, -1, 1)
    values = [torch.tensor([value], dtype=torch.float64) for value in (tau, threshold)]
    for op in (leaky_fire, leaky_fire_reference):
        assert op(x.view(shape), *values, run, axis).flatten().tolist() == expected


@DEPRECATED
@AXES
def test_gradients_of_every_order(axis):
    tensors = [x.requires_grad_() for x in inputs(1, 9, 10, 2)]
    assert torch.autograd.gradcheck(of_tensors(leaky_fire, axis), tensors, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(of_tensors(leaky_fire, axis), tensors)


def test_nothing_but_the_inputs_is_saved():
    tensors = [x.requires_grad_() for x in inputs(2, 8, 6, 7)]
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        of_tensors(leaky_fire, 1)(*tensors)
    assert {x.data_ptr() for x in saved} == {x.data_ptr() for x in tensors}


def test_vmap():
    x, tau, threshold = inputs(3, 9, 5, 6)
    found = torch.vmap(lambda x: leaky_fire(x[None], tau, threshold, 4, 1)[0])(x)
    torch.testing.assert_close(found, leaky_fire_reference(x, tau, threshold, 4, 1))


@pytest.mark.parametrize("op", [leaky_fire_reference, leaky_fire])
def test_memory_layout(op):
    """The reference keeps channels in front, as the authors' networks have them."""
    x, tau, threshold = inputs(2, 9, 6, 5)
    first = x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    y = op(first, tau, threshold, 4, 1)
    assert y.stride() == (first.stride() if op is leaky_fire_reference else x.stride())


def test_unknown_impl():
    with pytest.raises(ValueError, match="unknown impl 'cuda'.*'auto'"):
        leaky_fire(*inputs(1, 2, 2, 2), 4, 1, "cuda")
