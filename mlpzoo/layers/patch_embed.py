"""From an image to a dense sequence of patch tokens.

Shape suffixes: B batch, I image channels, H × W pixels, T tokens, C channels of a token.
"""

import torch
import torch.fx
from timm.layers import resample_patch_embed, to_2tuple
from torch import Tensor, nn

from mlpzoo.layers.grid_bound import GridBound
from mlpzoo.ops.resize import Grid


def check_image_size(
    height: int, width: int, expected_height: int, expected_width: int, sizes_that_work: str = ""
) -> None:
    """Raise a ValueError that says how to get a network for this size, unless the image has the size expected."""
    if height != expected_height or width != expected_width:
        raise ValueError(
            f"got an image of {height}×{width} pixels, but this model is bound to {expected_height}×{expected_width}. "
            f"Build it for that size with create_model(..., img_size=({height}, {width})), or change this one with "
            f"model.set_input_size(({height}, {width}))" + (f": {sizes_that_work}" if sizes_that_work else "")
        )


# A traced graph keeps the check as one call: symbolic sizes cannot be compared while tracing.
torch.fx.wrap("check_image_size")


def grid_of(img_size: Grid, patch_size: Grid) -> Grid:
    """Patches along height and width.

    Raises:
        ValueError: when an image side is not a multiple of the patch side; it names the two nearest sizes that are.
    """
    for side, patch in zip(img_size, patch_size, strict=True):
        if side < patch or side % patch:
            below = tuple(max(s // p, 1) * p for s, p in zip(img_size, patch_size, strict=True))
            above = tuple(-(-s // p) * p for s, p in zip(img_size, patch_size, strict=True))
            nearest = f"{below} or {above}" if above != below else f"{below}"
            raise ValueError(
                f"an image of {img_size[0]}×{img_size[1]} pixels does not divide into patches of "
                f"{patch_size[0]}×{patch_size[1]}: pass img_size={nearest}, to create_model(..., img_size=) or to "
                f"model.set_input_size(), or choose another patch_size"
            )
    return img_size[0] // patch_size[0], img_size[1] // patch_size[1]


class PatchEmbed(GridBound):
    """Cut the image into patches that do not overlap and project each one linearly.

    Args:
        img_size: image height and width in pixels, an int if square.
        patch_size: patch height and width in pixels, an int if square.
        in_chans: image channels.
        embed_dim: channels of a token.
        backbone: a network in front, whose map is cut instead of the image; it says its `stride`, in pixels for one
            position, and its `out_chans`. Patches are still measured in pixels, and are multiples of that stride.
        device: where the parameters live.
        dtype: their type.

    Raises:
        ValueError: when the image does not divide into patches, or a patch into strides of the backbone, at
            construction; when an image of another size comes in, at call.

    Shape:
        `(batch, in_chans, height, width)` to `(batch, tokens, embed_dim)`, contiguous: tokens in row-major order of
        the grid. The density matters: a convolution's output seen as tokens is a strided view, and every layer
        after it would inherit the stride.
    """

    def __init__(
        self,
        img_size: int | Grid = 224,
        patch_size: int | Grid = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        *,
        backbone: nn.Module | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.patch_size: Grid = to_2tuple(patch_size)
        self.grid = grid_of(to_2tuple(img_size), self.patch_size)
        self.backbone = nn.Identity() if backbone is None else backbone
        self.backbone_stride: int = getattr(backbone, "stride", 1)
        in_chans = getattr(backbone, "out_chans", in_chans)
        kernel_size = self._kernel_size(self.patch_size)
        self.proj = nn.Conv2d(in_chans, embed_dim, kernel_size, kernel_size, device=device, dtype=dtype)

    @property
    def grid_size(self) -> Grid:
        """Patches along height and width, by timm's name."""
        return self.grid

    @property
    def num_patches(self) -> int:
        """Patches of an image."""
        return self.grid[0] * self.grid[1]

    @property
    def img_size(self) -> Grid:
        """Height and width of an image in pixels."""
        return self.grid[0] * self.patch_size[0], self.grid[1] * self.patch_size[1]

    def forward(self, x_BIHW: Tensor) -> Tensor:
        """`(batch, in_chans, height, width)` to `(batch, tokens, embed_dim)`."""
        check_image_size(x_BIHW.shape[2], x_BIHW.shape[3], self.img_size[0], self.img_size[1])
        return self.proj(self.backbone(x_BIHW)).flatten(2).transpose(1, 2).contiguous()

    def set_input_size(self, img_size: int | Grid | None = None, patch_size: int | Grid | None = None) -> None:
        """Take another image size, or another patch size with the projection resampled, in place.

        Raises:
            ValueError: when the image does not divide into patches; nothing has changed then.
        """
        new_img_size: Grid = self.img_size if img_size is None else to_2tuple(img_size)
        new_patch_size: Grid = self.patch_size if patch_size is None else to_2tuple(patch_size)
        grid = grid_of(new_img_size, new_patch_size)
        kernel_size = self._kernel_size(new_patch_size)
        if new_patch_size != self.patch_size:
            weight = resample_patch_embed(self.proj.weight.detach(), list(kernel_size))
            self.proj.weight = nn.Parameter(weight, requires_grad=self.proj.weight.requires_grad)
            self.proj.kernel_size = self.proj.stride = kernel_size
        self.patch_size, self.grid = new_patch_size, grid

    def _kernel_size(self, patch_size: Grid) -> Grid:
        """The patch in positions of the map that is cut."""
        stride = self.backbone_stride
        if patch_size[0] % stride or patch_size[1] % stride:
            raise ValueError(
                f"a patch of {patch_size[0]}×{patch_size[1]} pixels does not divide into the {stride} pixels that one "
                f"position of the network in front of it stands for: choose a patch_size that is a multiple of {stride}"
            )
        return patch_size[0] // stride, patch_size[1] // stride
