"""Files of named tensors, told apart by content and read without running anything they hold.

Every reader first learns the names and shapes alone. What they describe is compared with the model before the
tensors themselves are read, so a file cannot make us take more memory than the model it is meant for.
"""

import argparse
import math
import pickle
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mlpzoo.weights._nesting import weights_in


class CheckpointError(ValueError):
    """A checkpoint cannot be used: says what was found, what was expected, and what to do."""


class TensorFile(Protocol):
    """Names and shapes at once, tensors one by one; and what the file says of itself, where its format has a place."""

    shapes: dict[str, tuple[int, ...]]
    metadata: Mapping[str, str]
    notes: Sequence[str]
    """What was chosen to read, where there was a choice; sentences for people."""

    def read(self, name: str) -> Tensor:
        """One tensor, on the CPU."""
        ...


@contextmanager
def _decoding() -> Iterator[None]:
    """Around what takes a file's bytes apart: fed a damaged file, decoders stumble over whatever they find."""
    try:
        yield
    except (CheckpointError, pickle.UnpicklingError, MemoryError):
        raise
    except Exception as error:
        raise CheckpointError(f"it is damaged or cut short ({' '.join(str(error).split())})") from None


def plain(name: str, value: Tensor) -> Tensor:
    """Refuse what cannot be copied into a parameter: after a model's first copy there is no way back."""
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized or value.is_complex():
        raise CheckpointError(f"'{name}' is no plain tensor of real numbers, but {value.layout}, {value.dtype}")
    # Types of 8 bits and less have few operations of their own.
    return value.float() if value.is_floating_point() and value.itemsize == 1 else value


class NpzFile:
    """A NumPy archive, as flax models are released."""

    notes: Sequence[str] = ()

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.metadata: Mapping[str, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name in self.shapes:
                raise CheckpointError(f"it holds '{name}' twice")
            with _decoding(), archive.open(info) as stream:
                shape, dtype = self._header(name, stream)
                expected = math.prod(shape) * dtype.itemsize + stream.tell()
            if info.file_size != expected:
                raise CheckpointError(f"'{name}' takes {info.file_size} bytes where its header says {expected}")
            self.shapes[name] = shape

    @staticmethod
    def _header(name: str, stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise CheckpointError(f"'{name}' is in version {version} of NumPy's format, which holds no plain arrays")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        if dtype.hasobject:
            raise CheckpointError(f"'{name}' holds pickled Python objects, which could run code; refused")
        if dtype.kind not in "fiu" and dtype != np.dtype("V2"):
            raise CheckpointError(f"'{name}' holds {dtype}, not numbers")
        return shape, dtype

    def read(self, name: str) -> Tensor:
        """One array. Two raw bytes an entry are bfloat16, which NumPy has no name for."""
        with _decoding(), self.archive.open(f"{name}.npy") as stream:
            array = np.lib.format.read_array(stream, allow_pickle=False)
        if array.dtype == np.dtype("V2"):
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(np.ascontiguousarray(array))


class SafetensorsFile:
    """A safetensors file, as timm and we write."""

    notes: Sequence[str] = ()

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.metadata: Mapping[str, str] = handle.metadata() or {}
        self.shapes = {name: tuple(handle.get_slice(name).get_shape()) for name in handle.keys()}  # noqa: SIM118

    def read(self, name: str) -> Tensor:
        """One tensor."""
        return plain(name, self.handle.get_tensor(name))


class StateDictFile:
    """What `torch.save` wrote: a state dict, perhaps nested, see `weights_in`."""

    def __init__(self, content: Any, *, prefer_ema: bool = True) -> None:
        self.metadata: Mapping[str, str] = {}
        self.notes: Sequence[str]
        content, self.notes = weights_in(content, prefer_ema=prefer_ema)
        if not isinstance(content, Mapping):
            raise CheckpointError(f"it holds a {type(content).__name__}, not a state dict")
        wrong = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
        if wrong:
            raise CheckpointError(f"it holds entries that are no tensors: {shorten(wrong)}")
        self.tensors: dict[str, Tensor] = {str(name): value for name, value in content.items()}
        self.shapes = {name: tuple(value.shape) for name, value in self.tensors.items()}

    def read(self, name: str) -> Tensor:
        """One tensor."""
        return plain(name, self.tensors[name])


@contextmanager
def open_tensors(path: Path, *, prefer_ema: bool = True) -> Iterator[TensorFile]:
    """Open a file of tensors, whatever its name says it is.

    Args:
        path: the file.
        prefer_ema: whether to read a moving average, where there are also the weights it is of.

    Raises:
        CheckpointError: when the file is missing, damaged, of an unknown format, or would run code.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(9)
        if start[:4] == b"PK\x03\x04":
            with _decoding():
                archive = zipfile.ZipFile(path)
            with archive:
                if any(name.endswith("data.pkl") for name in archive.namelist()):
                    yield StateDictFile(_load_torch_zip(path, archive), prefer_ema=prefer_ema)
                else:
                    yield NpzFile(archive)
        elif start[8:9] == b"{":
            with safe_open(path, framework="pt") as handle:
                yield SafetensorsFile(handle)
        elif start[:1] == b"\x80":
            yield StateDictFile(_load_torch(path), prefer_ema=prefer_ema)
        else:
            raise CheckpointError("it is neither a NumPy archive (.npz), a PyTorch file (.pth) nor a safetensors file")
    except CheckpointError as error:
        raise CheckpointError(f"cannot load {path}: {error}") from None
    except FileNotFoundError:
        raise CheckpointError(f"cannot load {path}: there is no such file") from None
    except IsADirectoryError:
        raise CheckpointError(f"cannot load {path}: it is a folder; give the file in it") from None
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"cannot load {path}: it holds pickled Python objects besides tensors, or is damaged. Such a file could "
            "run code and is refused; ask for one that holds only the weights"
        ) from None
    except SafetensorError as error:
        raise CheckpointError(f"cannot load {path}: it is damaged or cut short ({error})") from None
    except OSError as error:
        raise CheckpointError(f"cannot load {path}: {error.strerror or error}") from None
    except MemoryError:
        raise CheckpointError(f"cannot load {path}: it asks for more memory than there is") from None


def _load_torch_zip(path: Path, archive: zipfile.ZipFile) -> Any:
    unpacked = sum(info.file_size for info in archive.infolist())
    if unpacked > path.stat().st_size:
        raise CheckpointError("it unpacks to more than its size; PyTorch never writes such a file")
    return _load_torch(path, mmap=True)


def _load_torch(path: Path, **options: Any) -> Any:
    """Unpickle tensors and plain containers only. PyTorch warns of odd pickles and refuses them: once is enough.

    Besides, the settings that training scripts save next to the weights: timm's and DeiT's a Namespace, which runs
    nothing, and Swin's a node of yacs, which is read as the dictionary that it is.
    """
    settings: list[Any] = [argparse.Namespace, (OrderedDict, "yacs.config.CfgNode")]
    with _decoding(), warnings.catch_warnings(), torch.serialization.safe_globals(settings):
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True, **options)


def shorten(names: list[str], limit: int = 6) -> str:
    """A list for an error message: the first few names and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
