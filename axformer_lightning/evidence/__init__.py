"""WEIGH UP: what samples and seeds can tell of a difference between models."""

from axformer_lightning.evidence.calibration import Calibration, calibration_of
from axformer_lightning.evidence.comparing import NEITHER, Comparison, compare, compared, corrected
from axformer_lightning.evidence.metrics import METRICS
from axformer_lightning.evidence.paired import McNemar, gains_resampled, mcnemar
from axformer_lightning.evidence.predictions import Predictions
from axformer_lightning.evidence.seeds import Mean, holm, least_p, mean_of

__all__ = [
    "METRICS",
    "NEITHER",
    "Calibration",
    "Comparison",
    "McNemar",
    "Mean",
    "Predictions",
    "calibration_of",
    "compare",
    "compared",
    "corrected",
    "gains_resampled",
    "holm",
    "least_p",
    "mcnemar",
    "mean_of",
]
