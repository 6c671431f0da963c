"""The vote of every sample: is it worse than with the fine-tuned model?"""

from torch import Tensor


def not_worse(loss_N: Tensor, base_N: Tensor, tolerance: float = 0.0) -> Tensor:
    """Tell which samples are not worse than with the fine-tuned model; ties count as not worse.

    Args:
        loss_N: loss of the candidate on each sample.
        base_N: loss of the fine-tuned model on the same samples.
        tolerance: share of its own loss by which a sample may get worse and still count as not worse.

    Returns:
        Booleans, shape ``(N,)``.

    Example:
        >>> from torch import tensor
        >>> not_worse(tensor([0.5, 1.0, 1.1]), tensor([1.0, 1.0, 1.0]))
        tensor([ True,  True, False])
    """
    return loss_N <= base_N + tolerance * base_N.abs()


def correct(preds: Tensor, target: Tensor, num_samples: int) -> Tensor:
    """Tell which samples are predicted right; of several labels, or the two ends of a span, all have to be right.

    Args:
        preds: predicted labels: ``(N,)``, or ``(N, L)`` for several labels or the ends of a span.
        target: the true ones, in the same shape.
        num_samples: how many samples the batch has.

    Returns:
        Booleans, shape ``(N,)``.

    Raises:
        ValueError: if that is undefined: predictions are not labels (regression), or there is not one per sample (token
            classification, windows of long samples).

    Example:
        >>> from torch import tensor
        >>> correct(tensor([[1, 0], [1, 1]]), tensor([[1, 1], [1, 1]]), 2)
        tensor([False,  True])
    """
    if not isinstance(preds, Tensor) or not isinstance(target, Tensor):
        raise ValueError(
            f"Expected tensors of predicted labels for vote='prediction', got {type(preds).__name__} and"
            f" {type(target).__name__}. Use vote='loss'."
        )
    if preds.is_floating_point() or target.is_floating_point():
        raise ValueError(
            "Expected predicted labels for vote='prediction', got floating-point numbers, which are not simply right"
            " or wrong. Use vote='loss', or return labels from `axformer_step` (`logits.argmax(-1)`)."
        )
    if preds.shape != target.shape or preds.shape[:1] != (num_samples,):
        raise ValueError(
            f"Expected one prediction for each of the {num_samples} samples of a batch for vote='prediction', got shape"
            f" {tuple(preds.shape)} and targets of shape {tuple(target.shape)}. Use vote='loss', which is defined for"
            " labelled tokens and for windows of long samples too."
        )
    return (preds == target).reshape(num_samples, -1).all(1)


def not_turned_wrong(correct_N: Tensor, base_correct_N: Tensor) -> Tensor:
    """Tell which samples are not worse by prediction: right, or already wrong with the fine-tuned model.

    Example:
        >>> from torch import tensor
        >>> not_turned_wrong(tensor([True, False, False]), tensor([True, True, False]))
        tensor([ True, False,  True])
    """
    return correct_N | ~base_correct_N
