"""The smallest images that networks bound to no size take; smaller ones are refused in words."""

import pytest
import torch
from families import CASES, names

FREE = [name for name in names() if CASES[name].create(device="meta").config.image_size is None]


@pytest.mark.parametrize("family", FREE)
def test_the_smallest_image(family):
    network = CASES[family].create().eval()
    height, width = (-(-network.least_side // multiple) * multiple for multiple in network.size_multiple)
    assert network(torch.randn(1, 3, height, width)).shape == (1, 7)
    if network.least_side > 1:
        with pytest.raises(ValueError, match="too small for this network|must be multiples of"):
            network(torch.randn(1, 3, network.least_side - 1, 64))


@pytest.mark.parametrize("family", ["repmlpnet", "swin_mlp", "posmlp"])
def test_windows_that_reach_beyond_the_image(family):
    network = CASES[family].create(dynamic_img_size=True).eval()
    least = network.least_side
    assert network(torch.randn(1, 3, least, least + 3)).shape == (1, 7)
    if least > 1:
        with pytest.raises(ValueError, match=f"too small for this network: height and width must be {least} or more"):
            network(torch.randn(1, 3, least - 1, 64))
