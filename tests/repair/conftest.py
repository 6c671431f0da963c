"""Models in float64, so that equalities are tight, and enough tokens to tell 48 neurons apart."""

import pytest

from axformer_lightning.plan import Plan
from axformer_lightning.repair import measure_moments

LENGTHS = (12, 3, 7, 12, 5, 9, 11, 4, 10, 6, 12, 8)


@pytest.fixture
def batch(tiny, family):
    if family == "vit":
        return tiny.images(count=12)
    return tiny.batch(LENGTHS, pad_token_id=tiny.pads[family] or 0)


@pytest.fixture
def measured(batch):
    """Returns the moments of a model on the batch."""
    return lambda model, **options: measure_moments(model, model, [batch], **options)


@pytest.fixture
def plan_of():
    """Makes a plan of what is left of each layer of a tiny model."""
    return lambda model, layers: Plan(model.config.model_type, len(layers), 4, 48, tuple(layers))
