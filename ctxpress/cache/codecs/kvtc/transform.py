"""The transform of a unit: Karhunen-Loève in a space where all errors cost the same.

With ``cost = R @ R.T``, ``R.T @ (x - mean)`` turns costly errors into long ones; the eigenvectors
of its covariance decorrelate it (KLT, optimal for Gaussian sources: Goyal 2001), and one step for
all components then is the best there is: components whose variance is below it vanish by
themselves, which is reverse water-filling (Cover and Thomas, section 10.3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ctxpress.cache.codecs.kvtc.units import MAX_COMPONENTS

__all__ = ["UnitTransform", "fit_transform"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class UnitTransform:
    """``components = forward @ (values - mean)``; ``values = mean + inverse @ components``.

    ``forward``: ``(n_components, n_values)``. ``inverse``: ``(n_values, n_components)``.
    ``deviations``: the standard deviation of each component, falling. All float64.
    """

    mean: torch.Tensor
    forward: torch.Tensor
    inverse: torch.Tensor
    deviations: torch.Tensor

    def components(self, rows: torch.Tensor) -> np.ndarray:
        """Float32 ``(n_components, n_tokens)`` of ``rows`` ``(n_tokens, n_values)``."""
        found: np.ndarray = (self.forward.float() @ (rows - self.mean.float()).T).numpy()
        return found


def fit_transform(
    mean: torch.Tensor, covariance: torch.Tensor, cost: torch.Tensor, *, n_tokens: int
) -> UnitTransform:
    """The transform for values of this mean and covariance whose errors cost ``cost``.

    ``n_tokens``: how many the covariance was measured on; the fewer, the less it is believed.
    """
    n_values = len(mean)
    root = torch.linalg.cholesky(cost)
    spectrum, vectors = torch.linalg.eigh(_shrunk(root.T @ covariance @ root, n_tokens))
    order = torch.arange(n_values - 1, -1, -1)[:MAX_COMPONENTS]
    vectors = vectors[:, order]
    inverse = torch.linalg.solve_triangular(root.T, vectors, upper=True)
    return UnitTransform(
        mean=mean,
        forward=(root @ vectors).T.contiguous(),
        inverse=inverse,
        deviations=spectrum[order].clamp_min(0).sqrt(),
    )


def _shrunk(covariance: torch.Tensor, n_tokens: int) -> torch.Tensor:
    """Moved towards a multiple of the identity, by the estimate OAS (Chen et al. 2010, eq. 23)."""
    n_values = len(covariance)
    trace, square = float(covariance.trace()), float(covariance.square().sum())
    above = (1 - 2 / n_values) * square + trace**2
    below = (n_tokens + 1 - 2 / n_values) * (square - trace**2 / n_values)
    weight = min(1.0, above / below) if below > 0 else 1.0
    mean = max(trace / n_values, 1e-30)
    return (1 - weight) * covariance + weight * mean * torch.eye(n_values, dtype=torch.float64)
