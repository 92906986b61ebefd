import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn

from mlpzoo.restoration import create_restorer, psnr, restore, ssim
from mlpzoo.restoration._restore import _padding, _windows

SIZES = st.integers(1, 150)


class Local(nn.Module):
    """A network of a receptive field that reaches `radius` pixels, and wants multiples of `size_multiple`."""

    def __init__(self, radius, size_multiple):
        super().__init__()
        self.size_multiple = size_multiple
        self.conv = nn.Conv2d(3, 3, 2 * radius + 1, padding=radius, dtype=torch.float64)
        self.largest = 0

    def forward(self, x):
        assert x.shape[2] % self.size_multiple == x.shape[3] % self.size_multiple == 0
        self.largest = max(self.largest, x.shape[2] * x.shape[3])
        return [[x[:, :, ::2, ::2], x * 0], [x[:, :, ::2, ::2], self.conv(x).tanh()]]


def authors_padding(image, factor=64):
    """`make_shape_even` and `mod_padding_symmetric` of the authors' run_eval.py, on an array (height, width)."""
    image = np.pad(image, [(0, side % 2) for side in image.shape], mode="reflect")
    more = [(factor - side % factor) % factor // 2 for side in image.shape]
    return np.pad(image, [(side, side) for side in more], mode="reflect")


@settings(deadline=None)
@given(height=SIZES, width=SIZES)
@example(height=1, width=1)
@example(height=64, width=63)
def test_padding_is_the_authors(height, width):
    image = np.arange(height * width).reshape(height, width)
    (rows, top), (columns, left) = _padding(height, 64), _padding(width, 64)
    padded = image[rows.numpy()][:, columns.numpy()]
    assert np.array_equal(padded, authors_padding(image))
    assert np.array_equal(padded[top : top + height, left : left + width], image)


@given(
    size=st.integers(1, 40), tile=st.integers(1, 12), overlap=st.integers(0, 6), multiple=st.sampled_from([1, 8, 64])
)
def test_tiles_cover_a_line_and_weigh_one(size, tile, overlap, multiple):
    overlap = min(overlap, tile // 2)
    size, tile, overlap = size * multiple, tile * multiple, overlap * multiple
    total = torch.zeros(size, dtype=torch.float64)
    windows = _windows(size, tile, overlap, multiple)
    for (part, weights), (following, _) in zip(windows, [*windows[1:], (None, None)], strict=True):
        assert part.start % multiple == 0
        assert part.stop - part.start == len(weights) == min(tile, size)
        assert (weights >= 0).all()
        total[part] += weights
        if following is not None:
            shared = part.stop - following.start
            assert shared >= overlap
            # What lies within a quarter of the overlap of a border inside the image does not count.
            assert (weights[len(weights) - shared // 4 :] == 0).all() or shared < 4
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(height=SIZES, width=SIZES, tile=st.sampled_from([16, 32, 48]), ensemble=st.booleans())
def test_tiles_are_seamless_where_the_receptive_field_allows(height, width, tile, ensemble):
    torch.manual_seed(1)
    model = Local(radius=2, size_multiple=8)
    image = torch.rand(3, height, width, dtype=torch.float64)
    whole = restore(model, image, self_ensemble=ensemble)
    assert whole.shape == image.shape
    model.largest = 0
    tiled = restore(model, image, tile=tile, overlap=8, self_ensemble=ensemble)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-6)
    assert model.largest <= tile**2


def test_too_small_an_overlap_shows():
    torch.manual_seed(1)
    model = Local(radius=3, size_multiple=1)
    image = torch.rand(3, 38, 38, dtype=torch.float64)
    assert not torch.allclose(restore(model, image, tile=20, overlap=2), restore(model, image), atol=1e-4)


@pytest.fixture(scope="module")
def maxim():
    torch.manual_seed(2)
    return create_restorer(
        "maxim_s1",
        embed_dim=4,
        depth=2,
        num_groups=1,
        num_supervision_scales=2,
        block_size_hr=4,
        grid_size_hr=4,
        block_size_lr=2,
    ).eval()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 30), (16, 16), (33, 48)])
def test_any_size_and_a_whole_multiple_as_the_network_itself(maxim, height, width):
    image = torch.rand(2, 3, height, width)
    restored = restore(maxim, image)
    assert restored.shape == image.shape
    assert torch.isfinite(restored).all()
    if height % maxim.size_multiple == width % maxim.size_multiple == 0:
        with torch.no_grad():
            torch.testing.assert_close(restored, maxim(image)[-1][-1])


def test_maxims_local_half_is_seamless_and_its_global_half_is_not(maxim):
    """Tiles keep blocks in place; grids and channel attention see the tile alone. What they do is told apart here."""
    image = torch.rand(3, 96, 96)
    difference = (restore(maxim, image, tile=64, overlap=32) - restore(maxim, image)).abs()
    assert difference.max() > 1e-3
    local = create_restorer("maxim_s1", **vars(maxim.config)).eval()
    local.load_state_dict(maxim.state_dict())
    with torch.no_grad():
        for name, parameter in local.named_parameters():
            # No grid mixes, and every channel's attention is sigmoid(0).
            if ".grid.gate.weight" in name or name.endswith(
                ("gate_x.grid.weight", "gate_y.grid.weight", "attn.fc2.weight")
            ):
                parameter.zero_()
    image = torch.rand(3, 256, 256)
    whole, tiled = restore(local, image), restore(local, image, tile=192, overlap=96)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-4)


def test_the_ensemble_averages_over_the_eight_symmetries(maxim):
    image = torch.rand(3, 16, 32)
    expected = torch.zeros_like(image)
    for mirrored in (False, True):
        for quarter in range(4):
            turned = torch.rot90(image.flip(2) if mirrored else image, quarter, (1, 2))
            restored = torch.rot90(restore(maxim, turned), -quarter, (1, 2))
            expected += (restored.flip(2) if mirrored else restored) / 8
    found = restore(maxim, image, self_ensemble=True)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        restore(maxim, image.transpose(1, 2), self_ensemble=True), found.transpose(1, 2), rtol=1e-4, atol=1e-4
    )
    assert not torch.allclose(found, restore(maxim, image), atol=1e-4)


def test_dtype_mode_and_progress(maxim):
    image = torch.rand(3, 40, 20, dtype=torch.float64)
    maxim.train()
    calls = []
    restored = restore(maxim, image, tile=16, overlap=0, progress=lambda *state: calls.append(state))
    assert restored.dtype == torch.float64
    assert not restored.requires_grad
    assert not maxim.training
    assert calls == [(i, 6) for i in range(1, 7)]
    assert restore(maxim, image.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("image", "options", "error", "message"),
    [
        (torch.zeros(3, 8, 8, dtype=torch.uint8), {}, TypeError, "floating-point tensor .* got torch.uint8"),
        (np.zeros((3, 8, 8)), {}, TypeError, "got ndarray"),
        (torch.zeros(8, 8), {}, ValueError, r"got \(8, 8\)"),
        (torch.zeros(3, 0, 8), {}, ValueError, r"got \(3, 0, 8\)"),
        (
            torch.zeros(3, 8, 8),
            {"tile": 44},
            ValueError,
            "a multiple of 8 pixels for this network, such as 48; got 44",
        ),
        (torch.zeros(3, 8, 8), {"tile": 0}, ValueError, "such as 8; got 0"),
        (torch.zeros(3, 8, 8), {"tile": 64, "overlap": 48}, ValueError, "from 0 to half the tile of 64; got 48"),
        (torch.zeros(3, 8, 8), {"overlap": 8}, ValueError, "overlap is between tiles: give tile as well"),
        (torch.zeros(1, 8, 8), {}, ValueError, r"expected images \(batch, 3"),
    ],
)
def test_mistakes(maxim, image, options, error, message):
    assert maxim.size_multiple == 8
    with pytest.raises(error, match=message):
        restore(maxim, image, **options)


def test_metrics_are_scikit_images():
    generator = np.random.default_rng(0)
    clean = generator.random((3, 30, 41))
    noisy = np.clip(clean + 0.1 * generator.standard_normal(clean.shape), 0, 1)
    a, b = torch.from_numpy(noisy), torch.from_numpy(clean)
    assert psnr(a, b) == pytest.approx(peak_signal_noise_ratio(clean, noisy, data_range=1))
    expected = structural_similarity(
        clean, noisy, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1, channel_axis=0
    )
    assert ssim(a, b) == pytest.approx(expected)
    assert psnr(a, a) == float("inf")
    assert ssim(a, a) == pytest.approx(1)
    with pytest.raises(ValueError, match="11 pixels or more on each side, got 10×41"):
        ssim(a[:, :10], b[:, :10])
    with pytest.raises(ValueError, match="of one size"):
        psnr(a, b[:, 1:])
