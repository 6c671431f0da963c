"""The temperature of a model's logits, which calibrates its confidence.

Shape suffixes: ``N`` samples, ``C`` classes. Calibration itself is measured by torchmetrics' `CalibrationError`.
"""

from torch import Tensor

from axformer_lightning.scoring.batches import IGNORED_LABEL

COLDEST, HOTTEST = 1e-2, 1e2


def fit_temperature(logits_NC: Tensor, labels_N: Tensor) -> float:
    """Return the temperature that minimizes the mean cross-entropy of ``logits / temperature``.

    The cross-entropy is convex in ``1 / temperature``, so its slope has one root, which bisection finds to the last
    digit, without randomness.

    Source: Guo, Pleiss, Sun, Weinberger (2017), "On calibration of modern neural networks", arXiv 1706.04599.

    Args:
        logits_NC: of samples that the model was not trained on.
        labels_N: their classes; samples of which it is -100 do not count.

    Returns:
        A number between 0.01 (about there if every sample is right, so that more confidence is always better) and 100
        (if the logits mislead); 1 if all logits of each sample are equal, so that no temperature is better.

    Raises:
        ValueError: if there are no samples, there is not one label per sample, a label is no class, or a logit is not
            finite.

    Example:
        >>> from torch import tensor
        >>> logits = tensor([[2.0, 0.0]]).expand(4, 2)
        >>> round(fit_temperature(logits, tensor([0, 0, 0, 1])), 4)  # right 3 times in 4: 2 / log(3)
        1.8205
    """
    if (
        logits_NC.dim() != 2
        or labels_N.shape != logits_NC.shape[:1]
        or labels_N.is_floating_point()
        or not (real_N := labels_N != IGNORED_LABEL).any()
    ):
        raise ValueError(
            f"Expected logits of shape (N, C) and N integer labels, got {tuple(logits_NC.shape)} and {labels_N.dtype}"
            f" of shape {tuple(labels_N.shape)}. Pass those of one classification task, without padding."
        )
    logits_NC, labels_N = logits_NC[real_N], labels_N[real_N]
    classes = logits_NC.shape[1]
    if ((labels_N < 0) | (labels_N >= classes)).any():
        wrong = next(label for label in labels_N.tolist() if not 0 <= label < classes)
        raise ValueError(
            f"Expected labels of 0 to {classes - 1}, or {IGNORED_LABEL} for none, got {wrong}. Give the model as many"
            " labels as there are classes (`num_labels`), or the samples without one -100."
        )
    if not logits_NC.isfinite().all():
        raise ValueError("Expected finite logits, got some that are not. Leave out masked classes.")
    if (logits_NC == logits_NC[:, :1]).all():
        return 1.0
    logits_NC = logits_NC.double()
    ahead_NC = logits_NC - logits_NC.gather(1, labels_N[:, None])  # of the true class

    def slope(sharpness: float) -> float:
        """Derivative of the mean cross-entropy by ``1 / temperature``."""
        return float(((ahead_NC * sharpness).softmax(1) * ahead_NC).sum(1).mean())

    low, high = 1 / HOTTEST, 1 / COLDEST
    while low < (middle := (low * high) ** 0.5) < high:
        low, high = (middle, high) if slope(middle) <= 0 else (low, middle)
    return min(max(1 / low, COLDEST), HOTTEST)
