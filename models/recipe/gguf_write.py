"""A minimal GGUF v3 writer: metadata, F32 and Q8_0 tensors, alignment 32."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

ALIGNMENT = 32
F32, Q8_0 = 0, 8
UINT32, INT32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9


def quantise(matrix: np.ndarray) -> np.ndarray:
    """Rows of Q8_0 blocks: an f16 scale, then 32 signed bytes.

    As in ggml the integers come from the f32 scale, rounded half away from
    zero, and only the stored scale is narrowed to f16.
    """
    blocks = matrix.astype(np.float32).reshape(-1, 32)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale > 0)
    scaled = blocks * inverse
    q = (np.sign(scaled) * np.floor(np.abs(scaled) + np.float32(0.5))).astype(np.int8)
    out = np.empty((len(blocks), 34), dtype=np.uint8)
    out[:, :2] = scale.astype(np.float16).view(np.uint8)
    out[:, 2:] = q.view(np.uint8)
    return out


def dequantise(data: np.ndarray, shape) -> np.ndarray:
    scale = data[:, :2].copy().view(np.float16).astype(np.float32)
    return (data[:, 2:].copy().view(np.int8).astype(np.float32) * scale).reshape(shape)


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _scalar(kind: int, value) -> bytes:
    if kind == STRING:
        return _string(value)
    return struct.pack({UINT32: "<I", INT32: "<i", FLOAT32: "<f", BOOL: "<?"}[kind], value)


def _value(kind, value) -> bytes:
    if isinstance(kind, tuple):  # (ARRAY, element kind)
        body = b"".join(_scalar(kind[1], v) for v in value)
        return struct.pack("<IIQ", ARRAY, kind[1], len(value)) + body
    return struct.pack("<I", kind) + _scalar(kind, value)


def write(path: Path, metadata: list[tuple], tensors: list[tuple[str, np.ndarray]]):
    """``metadata`` holds (key, kind, value); 2-D tensors become Q8_0."""
    infos, blobs, offset = b"", [], 0
    for name, array in tensors:
        kind = Q8_0 if array.ndim == 2 else F32
        blob = (quantise(array) if kind == Q8_0 else array.astype("<f4")).tobytes()
        infos += _string(name) + struct.pack("<I", array.ndim)
        infos += b"".join(struct.pack("<Q", n) for n in reversed(array.shape))
        infos += struct.pack("<IQ", kind, offset)
        blob += bytes(-len(blob) % ALIGNMENT)
        blobs.append(blob)
        offset += len(blob)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(_string(key) + _value(kind, value) for key, kind, value in metadata)
    head += infos
    head += bytes(-len(head) % ALIGNMENT)
    path.write_bytes(head + b"".join(blobs))
