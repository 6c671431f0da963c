"""In which order the units of a block go: at every step the one without which the outputs change least.

With the Hessian ``H`` of a block's output error (the covariance of its inputs, damped) and its inverse ``G``, a unit of
columns ``S`` costs ``tr(W_S (G_SS)^-1 W_S')``, if the other columns make up for it as well as they can. They do so by
``W -= W_S (G_SS)^-1 G_S:``, and ``G -= G_:S (G_SS)^-1 G_S:`` is the inverse without them. So a score is what a removal
adds to the error of the repaired block (in which damping counts, too), and scores add up.

Source: arXiv 2302.04089 (ZipLM), section 3; for single columns Hassibi and Stork 1993, "Second order derivatives for
network pruning: Optimal Brain Surgeon".

Shape suffixes: ``C`` inputs of an out-projection, ``O`` outputs, ``U`` units,
``D`` columns of one, ``P`` pending steps.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from axformer_lightning.repair.least_squares import DAMPING, ridge, spread
from axformer_lightning.repair.moments import BlockMoments

PENDING = 64  # steps whose updates of the two matrices are made at once, as one product


@dataclass(frozen=True)
class RemovalOrder:
    """The units of one block in the order in which they go.

    Args:
        units: the first to go first.
        scores: by how much each adds to the output error, a mean over tokens, once those before it are gone.

    Example:
        >>> RemovalOrder(units=(2, 0, 1), scores=(0.0, 0.5, 4.0)).kept(2)
        [0, 1]
    """

    units: tuple[int, ...]
    scores: tuple[float, ...]

    def kept(self, count: int) -> list[int]:
        """Return the last ``count`` units, ascending."""
        return sorted(self.units[len(self.units) - count :])


def removal_order(
    weight_OC: Tensor, moments: BlockMoments, *, width: int = 1, has_bias: bool = True, damping: float = DAMPING
) -> RemovalOrder:
    """Return the order in which the units of an out-projection go.

    The same on every call; of units that are equally bad the first goes first. It takes ``O(C^3)`` operations, float64.

    Args:
        weight_OC: weight of the out-projection.
        moments: of its inputs.
        width: columns of a unit, side by side; 1 for neurons.
        has_bias: whether the out-projection has a bias, which makes up for means.
        damping: as a share of the mean variance of the inputs; more is taken where they depend on each other.

    Raises:
        ValueError: if units of that width do not make up the inputs, or the moments are not finite or of another number
            of inputs.

    Example:
        >>> x_NC = torch.tensor([[0.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 1.0, 1.0], [1.0, 2.0, 5.0]])
        >>> removal_order(torch.ones(1, 3), BlockMoments.of(x_NC)).units  # 0 and 1 differ by a constant
        (0, 1, 2)
    """
    columns = weight_OC.shape[1]
    if columns != moments.columns or columns % width:
        raise ValueError(
            f"Expected moments of the {columns} inputs of the weight, in units of {width}, got those of"
            f" {moments.columns}. Measure them on the model as it is; after a cut, anew."
        )
    with torch.inference_mode(False), torch.no_grad():
        weight = weight_OC.detach().to(moments.sums_MM)
        inverse_CC = _inverse(spread(moments, has_bias), damping)
        return _order_of_columns(weight, inverse_CC) if width == 1 else _order_of_groups(weight, inverse_CC, width)


def _inverse(spread_CC: Tensor, damping: float) -> Tensor:
    # Nothing to tell columns apart by is as good as columns that are alike and independent.
    damping_now = ridge(spread_CC, damping) if spread_CC.any() else 1.0
    least = ridge(spread_CC, len(spread_CC) * torch.finfo(spread_CC.dtype).eps)
    while math.isfinite(damping_now):
        damped_CC = spread_CC.clone()
        damped_CC.diagonal().add_(damping_now)
        factor_CC, failed = torch.linalg.cholesky_ex(damped_CC)
        if not failed:
            return torch.cholesky_inverse(factor_CC)
        damping_now = max(10 * damping_now, least)
    raise ValueError("Expected finite moments, got NaN or infinities. Measure them anew with `measure_moments`.")


def _order_of_columns(weight_OC: Tensor, inverse_CC: Tensor) -> RemovalOrder:
    """Remove single columns. The matrices shrink and are brought up to date every ``PENDING`` steps.

    In between step ``p`` is kept as two vectors: ``inverse -= u_p u_p'`` and ``weight -= v_p u_p'``. What a step reads,
    a column of either, the diagonal of the inverse and the squared norms of the weight's columns, follows from them.
    """
    left, units, scores = list(range(weight_OC.shape[1])), list[int](), list[float]()
    while left:
        pending = min(PENDING, len(left))
        u_CP, v_OP = weight_OC.new_zeros(len(left), pending), weight_OC.new_zeros(len(weight_OC), pending)
        norm_C, diagonal_C = weight_OC.square().sum(0), inverse_CC.diagonal().clone()
        gone = torch.zeros_like(norm_C, dtype=torch.bool)
        for p in range(pending):
            score_C = (norm_C.clamp(min=0) / diagonal_C).masked_fill(gone, torch.inf)
            q = int(score_C.argmin())
            units.append(left[q])
            scores.append(float(score_C[q]))
            root = diagonal_C[q].sqrt()
            u_C = (inverse_CC[q] - u_CP[:, :p] @ u_CP[q, :p]) / root
            v_O = (weight_OC[:, q] - v_OP[:, :p] @ u_CP[q, :p]) / root
            along_C = v_O @ weight_OC - u_CP[:, :p] @ (v_O @ v_OP[:, :p])
            norm_C += u_C * (u_C * v_O.square().sum() - 2 * along_C)
            diagonal_C -= u_C.square()
            u_CP[:, p], v_OP[:, p], gone[q] = u_C, v_O, True
        stay = (~gone).nonzero().flatten()
        left, u_CP = [left[i] for i in stay.tolist()], u_CP[stay]
        inverse_CC = torch.addmm(inverse_CC[stay][:, stay], u_CP, u_CP.T, alpha=-1)
        weight_OC = torch.addmm(weight_OC[:, stay], v_OP, u_CP.T, alpha=-1)
    return RemovalOrder(tuple(units), tuple(scores))


def _order_of_groups(weight_OC: Tensor, inverse_CC: Tensor, width: int) -> RemovalOrder:
    left, units, scores = list(range(weight_OC.shape[1] // width)), list[int](), list[float]()
    while left:
        own_UDD = torch.stack([inverse_CC[at, at] for at in _spans(len(left), width)])
        weight_UDO = weight_OC.T.reshape(len(left), width, -1)
        solved_UDO = torch.linalg.solve(own_UDD, weight_UDO)
        score_U = (weight_UDO * solved_UDO).sum((1, 2)).clamp(min=0)
        q = int(score_U.argmin())
        units.append(left.pop(q))
        scores.append(float(score_U[q]))
        at = slice(q * width, (q + 1) * width)
        weight_OC = weight_OC - solved_UDO[q].T @ inverse_CC[at]
        inverse_CC = inverse_CC - inverse_CC[:, at] @ torch.linalg.solve(own_UDD[q], inverse_CC[at])
        stay = [i for i in range(len(inverse_CC)) if not at.start <= i < at.stop]
        weight_OC, inverse_CC = weight_OC[:, stay], inverse_CC[stay][:, stay]
    return RemovalOrder(tuple(units), tuple(scores))


def _spans(count: int, width: int) -> list[slice]:
    return [slice(unit * width, (unit + 1) * width) for unit in range(count)]
