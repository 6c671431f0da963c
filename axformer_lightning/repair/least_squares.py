"""Least squares: what a block still has is made to give what the whole block gave.

A block puts out ``y = W x + b``. With the inputs ``K`` kept and the others ``R`` gone, write the new weights as
``W_K + D``. Whatever ``D`` is, the bias can meet the mean of ``y``, so only deviations from means count. With the
covariance ``C`` of ``x``, its mean ``m`` and a damping ``l`` the loss

    tr(W_R C_RR W_R') - 2 tr(D C_KR W_R') + tr(D (C_KK + l I) D')        is least at
    D = W_R C_RK (C_KK + l I)^-1,    and the bias is    b' = b + W_R m_R - D m_K

This is a ridge *towards the old weights*: damping shrinks the change, not the weights, and leaves the bias alone. So a
repair can do no harm on the tokens it was made from: its error is at most the least loss, that is at most the loss at
``D = 0``, which is the error of removing ``R`` with the bias corrected, and that is at most that of removing ``R``.
Without a bias the mean cannot be met. Then ``C`` is the matrix of second moments, and the rest of the argument holds.

Removing inputs one at a time by optimal brain surgeon updates (Hassibi and Stork 1993) ends in the same weights if the
Hessian is ``C + l I``. For this to hold exactly ``l`` is a share of the mean diagonal of all of ``C``, not of ``C_KK``.

Source: the least squares for given columns: arXiv 2302.04089 (ZipLM), section 3; damping and bias as derived above.

Shape suffixes: ``C`` inputs, ``K`` kept, ``R`` removed, ``O`` outputs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from axformer_lightning.repair.moments import BlockMoments

DAMPING = 1e-4  # of the mean diagonal: below the noise of 50,000 tokens, far above the rounding of float32


def repaired(
    weight_OC: Tensor, bias_O: Tensor | None, moments: BlockMoments, kept: Sequence[int], damping: float = DAMPING
) -> tuple[Tensor, Tensor | None]:
    """Return the weight and bias with which the ``kept`` inputs give best what all inputs gave.

    With damping 0 and inputs that depend on each other (dead or duplicate ones) it is the smallest change of the
    weights that does.

    Args:
        weight_OC: weight of the whole out-projection.
        bias_O: its bias. Where there is none, none can be added, and the weights alone are fitted.
        moments: of its inputs.
        kept: positions of the inputs that are kept, ascending.
        damping: of the change of the weights, as a share of the mean variance of the inputs.

    Returns:
        The weight, shape ``(O, K)``, and the bias, shape ``(O,)`` or None; of the dtype and device of the old ones.

    Raises:
        ValueError: if the moments are of another number of inputs, or the damping is negative.

    Example:
        >>> x_NC = torch.tensor([[0.0, 1.0], [2.0, 3.0], [1.0, 2.0]])  # the second input is the first and one
        >>> weight_OC, bias_O = torch.tensor([[1.0, 1.0]]), torch.tensor([0.5])
        >>> repaired(weight_OC, bias_O, BlockMoments.of(x_NC), kept=[0], damping=0.0)
        (tensor([[2.]]), tensor([1.5000]))
    """
    _check(weight_OC, moments, damping)
    weight, kept_C = weight_OC.detach().to(moments.sums_MM), _positions(kept, moments)
    gone_C = _positions(_others(kept, moments.columns), moments)
    spread_CC = spread(moments, bias_O is not None)
    from_gone_OK = weight[:, gone_C] @ spread_CC[gone_C][:, kept_C]
    damped_KK = spread_CC[kept_C][:, kept_C]
    damped_KK.diagonal().add_(ridge(spread_CC, damping))
    change_OK = _divided(from_gone_OK, damped_KK)
    new_OK = (weight[:, kept_C] + change_OK).to(weight_OC)
    if bias_O is None:
        return new_OK, None
    mean_C = moments.mean
    shift_O = weight[:, gone_C] @ mean_C[gone_C] - change_OK @ mean_C[kept_C]
    return new_OK, (bias_O.detach().to(shift_O) + shift_O).to(bias_O)


def output_error(
    weight_OC: Tensor,
    bias_O: Tensor | None,
    moments: BlockMoments,
    kept: Sequence[int],
    new_weight_OK: Tensor,
    new_bias_O: Tensor | None,
) -> float:
    """Return how far a cut block is from the whole one: squared distance of outputs, a mean over tokens.

    Args:
        weight_OC: weight of the whole out-projection.
        bias_O: its bias.
        moments: of its inputs.
        kept: positions of the inputs that are kept.
        new_weight_OK: weight of the cut one.
        new_bias_O: its bias.

    Example:
        >>> moments = BlockMoments.of(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        >>> output_error(torch.ones(1, 2), None, moments, [0], torch.ones(1, 1), None)  # the mean of 4 and 16
        10.0
    """
    lost_OC = weight_OC.detach().to(moments.sums_MM).clone()
    lost_OC[:, _positions(kept, moments)] -= new_weight_OK.detach().to(lost_OC)
    if bias_O is None or new_bias_O is None:
        return float(((lost_OC @ moments.second) * lost_OC).sum())
    shift_O = lost_OC @ moments.mean + bias_O.detach().to(lost_OC) - new_bias_O.detach().to(lost_OC)
    return float(((lost_OC @ moments.covariance) * lost_OC).sum() + shift_O @ shift_O)


def spread(moments: BlockMoments, has_bias: bool) -> Tensor:
    """Return the matrix that changes of the weights are judged by, shape ``(C, C)``: without a bias means count."""
    return moments.covariance if has_bias else moments.second


def ridge(spread_CC: Tensor, damping: float) -> float:
    """Return the damping in the units of the matrix, of which it is a share of the mean diagonal.

    Example:
        >>> ridge(torch.eye(2) * 4, damping=0.5)
        2.0
    """
    return damping * float(spread_CC.diagonal().mean()) if len(spread_CC) else 0.0


def _divided(a_OK: Tensor, b_KK: Tensor) -> Tensor:
    """Return ``a b^-1`` of a positive matrix by Cholesky, by its pseudo-inverse where that is singular to rounding."""
    factor_KK, failed = torch.linalg.cholesky_ex(b_KK)
    pivots_K = factor_KK.diagonal().square()
    noise = len(b_KK) * torch.finfo(b_KK.dtype).eps
    if not failed and bool((pivots_K > noise * b_KK.diagonal()).all()):
        solved_KO: Tensor = torch.cholesky_solve(a_OK.T, factor_KK)
        return solved_KO.T
    inverse_KK: Tensor = torch.linalg.pinv(b_KK, rtol=noise, hermitian=True)
    return a_OK @ inverse_KK


def _check(weight_OC: Tensor, moments: BlockMoments, damping: float) -> None:
    if weight_OC.shape[1] != moments.columns:
        raise ValueError(
            f"Expected moments of {weight_OC.shape[1]} inputs, as the weight has columns, got those of"
            f" {moments.columns}. Measure them on the model as it is; after a cut, anew."
        )
    if not damping >= 0:
        raise ValueError(f"Expected a damping of at least 0, got {damping}. {DAMPING} is the default.")


def _others(kept: Sequence[int], columns: int) -> list[int]:
    stay = set(kept)
    return [i for i in range(columns) if i not in stay]


def _positions(entries: Sequence[int], moments: BlockMoments) -> Tensor:
    return torch.tensor(entries, dtype=torch.long, device=moments.sums_MM.device)
