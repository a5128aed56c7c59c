"""The decoder both models share: llama architecture, small enough for one CPU.

RMSNorm, grouped-query attention with rotary positions on adjacent pairs
(2i, 2i+1), SwiGLU, tied embeddings, no biases. These are exactly the choices
that GGUF's ``llama`` architecture describes, so export is a renaming.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


FUSED_FROM = 192  # row length from which the fused attention kernel wins


@dataclass(frozen=True)
class Shape:
    """Sizes of one model; every matrix side is a multiple of 32 for Q8_0."""

    name: str
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    hidden: int
    vocab: int = 2048
    context: int = 1024
    rope_base: float = 10000.0
    epsilon: float = 1e-5

    def as_dict(self) -> dict:
        return asdict(self)


TARGET = Shape("obsidian-target", 256, 6, 4, 2, 64, 512)
DRAFT = Shape("obsidian-draft", 128, 4, 4, 2, 32, 320)
SHAPES = {"target": TARGET, "draft": DRAFT}


def rotary_tables(shape: Shape) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines, one row per position, one column per pair."""
    half = shape.head_width // 2
    frequency = shape.rope_base ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.outer(torch.arange(shape.context, dtype=torch.float64), frequency)
    return angle.cos().float(), angle.sin().float()


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotates adjacent pairs; ``x`` is (batch, heads, time, head_width)."""
    pairs = x.view(*x.shape[:-1], -1, 2)
    even, odd = pairs[..., 0], pairs[..., 1]
    turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return turned.view(x.shape)


class Norm(nn.Module):
    """Root-mean-square norm with a learned gain, computed in f32."""

    def __init__(self, width: int, epsilon: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.epsilon = epsilon

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.float()
        scale = torch.rsqrt(x.square().mean(-1, keepdim=True) + self.epsilon)
        return x * scale * self.weight


def plain_attention(q, k, v, past: int):
    """Attention as two batched products.

    On a CPU the fused kernel's backward pass is several times slower than
    this for short rows, and most documents are short.
    """
    batch, heads, time, width = q.shape
    kv_heads, length = k.shape[1], k.shape[2]
    grouped = q.reshape(batch * kv_heads, -1, width).to(v.dtype) * width ** -0.5
    scores = torch.bmm(grouped, k.flatten(0, 1).to(v.dtype).mT).float().view(batch * kv_heads, -1, time, length)
    future = torch.ones(time, length, dtype=torch.bool).triu(past + 1)
    shares = scores.masked_fill(future, float("-inf")).softmax(-1).to(v.dtype)
    mixed = torch.bmm(shares.view(batch * kv_heads, -1, length), v.flatten(0, 1))
    return mixed.view(batch, heads, time, width)


class Attention(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.q = nn.Linear(shape.width, shape.heads * shape.head_width, bias=False)
        self.k = nn.Linear(shape.width, shape.kv_heads * shape.head_width, bias=False)
        self.v = nn.Linear(shape.width, shape.kv_heads * shape.head_width, bias=False)
        self.o = nn.Linear(shape.heads * shape.head_width, shape.width, bias=False)

    def forward(self, x, cos, sin, cache=None):
        shape, (batch, time, _) = self.shape, x.shape

        def split(y, heads):
            return y.view(batch, time, heads, shape.head_width).transpose(1, 2)

        q = rotate(split(self.q(x), shape.heads), cos, sin)
        k = rotate(split(self.k(x), shape.kv_heads), cos, sin)
        v = split(self.v(x), shape.kv_heads)
        if cache is not None:
            k, v = cache.extend(k, v)
        past = k.shape[2] - time
        if time == k.shape[2] and time > FUSED_FROM:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        else:
            y = plain_attention(q, k, v, past)
        return self.o(y.transpose(1, 2).reshape(batch, time, -1))


class Block(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.attention_norm = Norm(shape.width, shape.epsilon)
        self.attention = Attention(shape)
        self.feed_norm = Norm(shape.width, shape.epsilon)
        self.gate = nn.Linear(shape.width, shape.hidden, bias=False)
        self.up = nn.Linear(shape.width, shape.hidden, bias=False)
        self.down = nn.Linear(shape.hidden, shape.width, bias=False)

    def forward(self, x, cos, sin, cache=None):
        x = x + self.attention(self.attention_norm(x), cos, sin, cache)
        y = self.feed_norm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class LayerCache:
    """Keys and values of one layer, for greedy decoding in the evaluation."""

    def __init__(self):
        self.k = self.v = None

    def extend(self, k, v):
        self.k = k if self.k is None else torch.cat((self.k, k), dim=2)
        self.v = v if self.v is None else torch.cat((self.v, v), dim=2)
        return self.k, self.v

    def truncate(self, length: int):
        self.k, self.v = self.k[:, :, :length], self.v[:, :, :length]


class Model(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocab, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.width, shape.epsilon)
        cos, sin = rotary_tables(shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.reset()

    def reset(self):
        """Small output projections keep the first steps calm."""
        nn.init.normal_(self.embedding.weight, std=0.02)
        for block in self.blocks:
            for linear in (m for m in block.modules() if isinstance(m, nn.Linear)):
                nn.init.normal_(linear.weight, std=linear.in_features ** -0.5)
            nn.init.zeros_(block.attention.o.weight)
            nn.init.zeros_(block.down.weight)

    def features(self, ids, caches=None, start: int = 0):
        """Final normed states; the caller chooses which rows to project."""
        end = start + ids.shape[1]
        cos, sin = self.cos[start:end], self.sin[start:end]
        x = self.embedding(ids)
        for index, block in enumerate(self.blocks):
            x = block(x, cos, sin, caches[index] if caches else None)
        return self.norm(x)

    def forward(self, ids, caches=None, start: int = 0):
        return F.linear(self.features(ids, caches, start), self.embedding.weight)

    def new_caches(self) -> list[LayerCache]:
        return [LayerCache() for _ in self.blocks]

    def parameter_count(self) -> int:
        return sum(p.numel() for p in self.parameters())
