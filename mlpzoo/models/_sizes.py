"""Images of any size: which grid each layer gets, resizing for good or for one image, and the size a file is bound to.

Written once for every shape of network. What differs by network is asked: `size_multiple`, `grids_at`, and of the
config `image_size` and `working_sides`.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import torch
import torch.fx
import torch.nn.functional as F
from timm.layers import to_2tuple
from torch import Tensor

from mlpzoo.layers import GridBound
from mlpzoo.layers.grid_bound import GridFound
from mlpzoo.layers.patch_embed import check_image_size
from mlpzoo.models._network import Network
from mlpzoo.models._views import put_weights, resized_view, view_of
from mlpzoo.ops._torch import is_tracing, surely_equal
from mlpzoo.ops.resize import Grid

# A traced graph keeps it as one call: symbolic sizes cannot be compared while tracing.
torch.fx.wrap("check_image_size")


Sized = TypeVar("Sized", bound="SizedNetwork")


def times(grid: Grid) -> str:
    return f"{grid[0]}×{grid[1]}"


def check_multiple(img_size: Grid, multiple: Grid, hint: str = "") -> None:
    """Raise a ValueError that names the nearest sizes, unless both sides are multiples.

    Args:
        img_size: image height and width in pixels.
        multiple: what they must be multiples of.
        hint: what else the error says, for people.
    """
    if all(side >= m and side % m == 0 for side, m in zip(img_size, multiple, strict=True)):
        return
    below = tuple(max(side // m, 1) * m for side, m in zip(img_size, multiple, strict=True))
    above = tuple(-(-side // m) * m for side, m in zip(img_size, multiple, strict=True))
    nearest = f"{below} or {above}" if above != below else f"{below}"
    raise ValueError(
        f"an image of {times(img_size)} pixels does not fit this network: height and width must be multiples of "
        f"{times(multiple)}, such as {nearest}{hint}"
    )


torch.fx.wrap("check_multiple")


def check_images(x_BIHW: Tensor, in_chans: int | None) -> None:
    """Raise a ValueError that says what was given and what to do, unless it is a batch of images of that many channels.

    Args:
        x_BIHW: what a network was called with.
        in_chans: channels that it takes; any if None.
    """
    if is_tracing():
        # Its sizes are tensors.
        return
    shape = tuple(x_BIHW.shape)
    expected = f"a batch of images, (batch, {in_chans or 'channels'}, height, width)"
    if len(shape) == 3:
        raise ValueError(f"got one image, {shape}, where {expected}, is expected: call model(image[None])")
    if len(shape) != 4:
        raise ValueError(f"got a tensor of {len(shape)} dimensions, {shape}, where {expected}, is expected")
    if shape[2] < 1 or shape[3] < 1:
        raise ValueError(f"got images of {shape[2]}×{shape[3]} pixels, which hold nothing")
    if in_chans is not None and shape[1] != in_chans:
        advice = f"build it with in_chans={shape[1]}, or change the images"
        if shape[3] == in_chans:
            advice = "if these are (batch, height, width, channels), permute(0, 3, 1, 2)"
        raise ValueError(f"got images of {shape[1]} channels, but this model takes {in_chans}: {advice}")
    if not x_BIHW.is_floating_point():
        raise ValueError(
            f"got images of {x_BIHW.dtype}, where normalized floating point is expected: see create_transform"
        )


torch.fx.wrap("check_images")


def check_least(img_size: Grid, least: int) -> None:
    """Raise a ValueError unless both sides have as many pixels as they must have at least.

    Args:
        img_size: image height and width in pixels.
        least: how many.
    """
    if min(img_size) < least:
        raise ValueError(
            f"an image of {times(img_size)} pixels is too small for this network: height and width must be {least} or "
            "more"
        )


torch.fx.wrap("check_least")


class SizedNetwork(Network):
    """A network that knows which of its layers are bound to a grid, and can be bound to another image size.

    A config whose `image_size` is None means a network bound to none.
    """

    config: Any
    _traits: dict[str, Any]
    _model_args: dict[str, Any]
    size_hint: ClassVar[str] = ""
    """How else images of other sizes go in; the end of the error for a size that is no multiple."""
    dynamic_img_size: bool
    """Whether images of any size go in, met by weights resized to each."""

    @property
    def size_multiple(self) -> Grid:
        """What height and width of an image, in pixels, must be multiples of."""
        return 1, 1

    @property
    def least_side(self) -> int:
        """Pixels that height and width of an image must have at least, in a network bound to no size."""
        return 1

    def grids_at(self, img_size: Grid) -> Mapping[str, Grid]:
        """The grid that each `GridBound` module inside gets at an image size.

        Args:
            img_size: image height and width in pixels.

        Returns:
            The module's name (empty for the network itself) to height and width in positions.
        """
        return {}

    def bound_modules(self) -> dict[str, GridBound]:
        """Every layer whose weights are bound to a grid, by name; the network itself, if it has such, under no name."""
        return {name: module for name, module in self.named_modules() if isinstance(module, GridBound)}

    def check_size(self, img_size: Grid) -> None:
        """Raise a ValueError that names sizes that work, unless the network can be bound to this one.

        Args:
            img_size: image height and width in pixels.
        """
        sides = None if self.config.image_size is None else self.config.working_sides()
        if sides is not None and not set(img_size) <= set(sides):
            raise ValueError(
                f"this network cannot be built for images of {times(img_size)}: {self.config.sizes_that_work}"
            )
        check_multiple(img_size, self.size_multiple, self.size_hint)

    def padded_size(self, img_size: Grid) -> Grid:
        """The smallest size the network can take that an image fits in.

        Args:
            img_size: image height and width in pixels, integers or symbols that stand for them.

        Raises:
            ValueError: when the image is larger than any size that works, naming those.
        """
        sides = self.config.working_sides()
        if sides is None:
            height, width = ((side + m - 1) // m * m for side, m in zip(img_size, self.size_multiple, strict=True))
            return height, width
        if max(img_size) > max(sides):
            raise ValueError(f"got an image of {times(img_size)} pixels, but {self.config.sizes_that_work}")
        height, width = (min(side for side in sides if side >= wanted) for wanted in img_size)
        return height, width

    def set_input_size(self, img_size: int | Grid | None = None) -> None:
        """Take images of another size: weights bound to the old grids are resized to the new ones, in place.

        Args:
            img_size: image height and width in pixels, an int if square; unchanged if None.

        Raises:
            ValueError: when the network cannot take the size, naming sizes that work; nothing has changed then.
        """
        size: Grid | None = self.config.data_size if img_size is None else to_2tuple(img_size)
        if size is None:
            return
        if self.config.image_size is None:
            self.check_size(size)
        else:
            self.check_size(size)
            config = dataclasses.replace(self.config, img_size=size)
            modules, grids = self.bound_modules(), self.grids_at(size)
            for name, grid in grids.items():
                modules[name].check_grid(grid)
            for name, grid in grids.items():
                modules[name].resize_grid(grid)
            self.config = config
            self._traits = {**getattr(self, "_traits", {}), "img_size": size}
            self.remember_options(img_size=size)
        self._remember_input_size(size)

    def _remember_input_size(self, img_size: Grid) -> None:
        """Keep timm's data config true, from which transforms are made."""
        cfg = getattr(self, "pretrained_cfg", None)
        if cfg:
            self.pretrained_cfg = {**cfg, "input_size": (self.config.in_chans, *img_size)}
            self.default_cfg = self.pretrained_cfg

    def remember_options(self, **options: Any) -> None:
        """Keep timm's record of the options that build this network, which it writes beside exported weights."""
        self._model_args = {**getattr(self, "_model_args", {}), **options}

    def view_at(self: Sized, img_size: Grid) -> Sized:
        """This network as `set_input_size` would leave it, as another object that shares all weights bound to no grid.

        The resized weights are functions of this network's, so gradients reach those. Layers whose grid stays, and all
        that hold no bound layer, are this network's own.

        Args:
            img_size: image height and width in pixels, a size the network can take.
        """
        modules, grids = self.bound_modules(), self.grids_at(img_size)
        changed = {name: grid for name, grid in grids.items() if not surely_equal(grid, modules[name].grid)}
        view = view_of(self, {name: resized_view(modules[name], grid) for name, grid in changed.items() if name})
        if "" in changed:
            # Its hooks have run by now.
            assert isinstance(self, GridBound)
            assert isinstance(view, GridBound)
            view.__dict__.update(_parameters=dict(self._parameters), _buffers=dict(self._buffers))
            view.grid = changed[""]
            put_weights(view, self, view.grid)
        return view

    def fitting(self: Sized, x_BIHW: Tensor) -> tuple[Sized, Tensor]:
        """What takes these images, and the images as it takes them.

        That is the network itself, unless `dynamic_img_size` says that it follows the images: then a view of it, and
        the images padded with zeros on the right and below.

        Raises:
            ValueError: for what is no batch of images, and for images of a size or of channels that the network cannot
                take.
        """
        # A compiler does not follow the way to the convolution, which refuses other channels by itself.
        check_images(x_BIHW, None if torch.compiler.is_compiling() else self._channels_taken())
        height, width = x_BIHW.shape[2:]
        bound: Grid | None = self.config.image_size
        if bound is None:
            if self.size_multiple != (1, 1):
                check_multiple((height, width), self.size_multiple, self.size_hint)
            # A compiler would make every size it compiles for answer to it.
            if self.least_side > 1 and not torch.compiler.is_compiling():
                check_least((height, width), self.least_side)
            return self, x_BIHW
        if not self.dynamic_img_size:
            check_image_size(height, width, bound[0], bound[1], self.config.sizes_that_work)
            return self, x_BIHW
        padded = self.padded_size((height, width))
        if not surely_equal(padded, (height, width)):
            x_BIHW = F.pad(x_BIHW, (0, padded[1] - width, 0, padded[0] - height))
        return (self if surely_equal(padded, bound) else self.view_at(padded)), x_BIHW

    def _channels_taken(self) -> int | None:
        """Channels that the first convolution takes, which somebody may have replaced; None where none stands there."""
        module: Any = self
        for name in self.config.first_conv.split("."):
            module = getattr(module, name, None)
        return getattr(module, "in_channels", None)

    def size_in(
        self, shapes: Mapping[str, tuple[int, ...]], stated: Grid | None = None, *, trust_count: bool = False
    ) -> Grid | None:
        """The image size that a file was trained at, from the shapes in it.

        Height and width are told apart where a weight spans one of them alone. Where only their product is known, a
        file that does not state its size has a square grid, as all released files do; unless it has as many tokens as
        this network and either that number is no square or `trust_count`: such a file was most likely saved from a
        network like this one.

        Args:
            shapes: names, in our layout, to shapes.
            stated: image height and width in pixels, where the file or the user says so.
            trust_count: whether a fitting number of tokens is enough.

        Returns:
            Height and width in pixels; None where no shape depends on them.

        Raises:
            ValueError: when no size fits, or several may.
        """
        own: Grid | None = self.config.image_size
        modules = self.bound_modules()
        told = {name: module.grid_in(shapes, f"{name}." if name else "") for name, module in modules.items()}
        told = {name: found for name, found in told.items() if any(found)}
        if own is None or not told:
            return None

        def misfit(size: Grid) -> str:
            grids = self.grids_at(size)
            return next((name for name, found in told.items() if not found.fits(grids[name])), "none")

        if stated:
            name = misfit(stated)
            if name != "none":
                found, given = told[name], times(self.grids_at(stated)[name])
                raise ValueError(
                    f"it is bound to {found}, but images of {times(stated)} pixels have {given}{_in(name)}"
                )
            return stated
        exact: list[Grid] = []
        squares: list[Grid] = []
        for name, found in told.items():
            whole = _completed(found)
            grid = modules[name].grid
            if whole:
                size = whole[0] * own[0] // grid[0], whole[1] * own[1] // grid[1]
                (squares if found.height is None and found.width is None else exact).append(size)
        squares = [size for size in dict.fromkeys(squares) if misfit(size) == "none"]
        fits_own = misfit(own) == "none"
        if fits_own and (trust_count or exact or not squares):
            return own
        for size in (*exact, *squares):
            if misfit(size) == "none":
                return size
        name = misfit(own)
        grid = modules[name].grid
        problem = f"it is bound to {told[name]} and the model to {math.prod(grid)} ({times(grid)}){_in(name)}"
        if exact:
            raise ValueError(f"{problem}, and there is no image size at which all its weights fit")
        raise ValueError(
            f"{problem}. Only square grids can be told from a file: say at which size it was trained with "
            "load_checkpoint(model, path, img_size=(height, width))"
        )


def _completed(found: GridFound) -> Grid | None:
    """Height and width, the one from the other and the tokens, or as a square; of two likely widths the even one."""
    height, width, tokens, frequencies = found
    if height and frequencies:
        return height, height if height // 2 + 1 == frequencies else 2 * (frequencies - 1)
    if tokens and (height or width):
        height, width = height or tokens // (width or 1), width or tokens // (height or 1)
    elif tokens:
        side = math.isqrt(tokens)
        return (side, side) if side * side == tokens else None
    side = height or width or 0
    return height or side, width or side


def _in(name: str) -> str:
    return f" in {name}" if name else ""
