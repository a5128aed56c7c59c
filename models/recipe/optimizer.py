"""Muon for the hidden matrices, AdamW for the embedding and the gains.

Muon replaces a matrix's momentum by the nearest orthogonal matrix, which
spends a small training budget better than coordinate-wise scaling
(Jordan et al., 2024). Matrices of equal shape are stacked so that the
Newton-Schulz iteration is a few batched products.
"""

from __future__ import annotations

import torch


def orthogonalise(g: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Quintic Newton-Schulz iteration on a stack of matrices."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return (x.mT if tall else x).float()


class Muon(torch.optim.Optimizer):
    def __init__(self, matrices, lr=0.02, momentum=0.95, decay=0.01):
        super().__init__(list(matrices), {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape: dict = {}
            for p in group["params"]:
                by_shape.setdefault(p.shape, []).append(p)
            for shape, members in by_shape.items():
                updates = []
                for p in members:
                    state = self.state[p]
                    if "momentum" not in state:
                        state["momentum"] = torch.zeros_like(p)
                    state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                    updates.append(p.grad.lerp(state["momentum"], group["momentum"]))
                scale = max(1.0, shape[0] / shape[1]) ** 0.5
                for p, u in zip(members, orthogonalise(torch.stack(updates))):
                    p.mul_(1 - group["lr"] * group["decay"])
                    p.add_(u, alpha=-group["lr"] * scale)


def build(model):
    """Both optimisers, with the base rate noted for the schedule."""
    matrices = [p for p in model.blocks.parameters() if p.ndim == 2]
    gains = [p for p in model.parameters() if p.ndim == 1]
    muon = Muon(matrices)
    adam = torch.optim.AdamW([
        {"params": [model.embedding.weight], "lr": 4e-3},
        {"params": gains, "lr": 4e-3},
    ], betas=(0.9, 0.98), eps=1e-10, weight_decay=0.0)
    for optimiser in (muon, adam):
        for group in optimiser.param_groups:
            group["base"] = group["lr"]
    return [muon, adam]
