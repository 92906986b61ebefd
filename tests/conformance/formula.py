"""The numbers behind the conformance vectors: parameters, inputs and loss weights from names alone.

Every tensor is drawn from NumPy's frozen legacy generator (`numpy.random.RandomState`, MT19937), seeded with
the CRC-32 of a name, so that anybody can rebuild the very same parameters without a checkpoint file.
"""

from __future__ import annotations

import zlib

import numpy as np


def normal(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal float64 array of `shape`, fixed by `name`."""
    return np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)


def parameter(name: str, shape: tuple[int, ...], kind: str, fan_in: int = 1) -> np.ndarray:
    """One float32 tensor of a reference checkpoint.

    kind: 'matrix' N(0, 1/fan_in) · 'scale' 1 + 0.1 N · 'gate' (layer scale) 0.1 + 0.01 N · 'shift' 0.1 N
    · 'variance' 1 + 0.1 |N| · 'count' zeros
    """
    z = normal(name, shape)
    value = {
        "matrix": lambda: z / np.sqrt(fan_in),
        "scale": lambda: 1 + 0.1 * z,
        "gate": lambda: 0.1 + 0.01 * z,
        "shift": lambda: 0.1 * z,
        "variance": lambda: 1 + 0.1 * np.abs(z),
        "count": lambda: np.zeros(shape),
    }[kind]()
    return value.astype(np.float32)


def image(shape_nchw: tuple[int, int, int, int]) -> np.ndarray:
    """The float32 input batch, NCHW, standard normal."""
    return normal("input:" + "x".join(map(str, shape_nchw)), shape_nchw).astype(np.float32)


def loss_weights(shape: tuple[int, ...]) -> np.ndarray:
    """Weights W of the scalar loss mean(W * output) whose gradients the vectors record, float32."""
    return normal("loss:" + "x".join(map(str, shape)), shape).astype(np.float32)
