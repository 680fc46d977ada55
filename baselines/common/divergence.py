"""Training that has diverged ends with an error, not with a policy whose actions mean nothing."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def check_finite(tensors: Iterable[Tensor], reached: str) -> None:
    """Refuse parameters that are not finite: what follows from them would be a score of chance.

    Args:
        tensors: parameters, and what else follows from them, such as Adam's moments.
        reached: how far training is, in words.

    Raises:
        FloatingPointError: a number is NaN or infinite.
    """
    # A sum is finite only if all of its terms are, and takes no memory.
    sums = [tensor.detach().sum(dtype=torch.float64) for tensor in tensors]
    if not bool(torch.stack(sums).isfinite().all()):
        raise FloatingPointError(
            f"training has diverged: after {reached} a parameter is NaN or infinite; a smaller "
            f"learning rate may help"
        )
