"""Muon: momentum whose matrix updates are orthogonalised by a Newton-Schulz iteration.

After Keller Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024):
quintic iteration with coefficients (3.4445, -4.7750, 2.0315), five rounds, Nesterov momentum.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5


class Muon:
    """Updates matrices in place; those of one shape are orthogonalised together."""

    def __init__(
        self, matrices: Sequence[torch.nn.Parameter], *, momentum: float, weight_decay: float
    ) -> None:
        self._matrices = tuple(matrices)
        self._momentum = momentum
        self._weight_decay = weight_decay
        self.state = [torch.zeros_like(matrix) for matrix in self._matrices]
        """Momentum, in the order of the matrices; saved and restored by the trainer."""
        self._by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, matrix in enumerate(self._matrices):
            self._by_shape[tuple(matrix.shape)].append(index)

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Apply the gradients; an update has the spectral norm sqrt(max(1, rows / columns))."""
        for (rows, columns), members in self._by_shape.items():
            updates = []
            for index in members:
                gradient = self._matrices[index].grad
                if gradient is None:
                    raise ValueError("a matrix has no gradient")
                self.state[index].lerp_(gradient, 1 - self._momentum)
                updates.append(gradient.lerp(self.state[index], self._momentum))
            scale = max(1.0, rows / columns) ** 0.5
            for index, update in zip(members, orthogonalised(torch.stack(updates)), strict=True):
                matrix = self._matrices[index]
                matrix.mul_(1 - learning_rate * self._weight_decay)
                matrix.add_(update, alpha=-learning_rate * scale)


def orthogonalised(matrices: torch.Tensor) -> torch.Tensor:
    """Singular values brought near 1: (n, rows, columns) in, the same shape in float32 out."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if tall else matrices).bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_ROUNDS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).float()
