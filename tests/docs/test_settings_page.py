"""The page of settings names what train.py takes."""

from pathlib import Path

import pytest

from axformer_lightning import AccuracyDrivenPruningCallback, HardAttentionCallback
from train import ELSEWHERE, WITH_PRUNING, _arguments

PAGE = (Path(__file__).parents[2] / "docs" / "settings.md").read_text(encoding="utf-8")
PRUNING = _arguments(AccuracyDrivenPruningCallback, ELSEWHERE)
HARD = _arguments(HardAttentionCallback, ELSEWHERE | WITH_PRUNING | set(PRUNING))


def shown(value):
    """As Hydra spells it."""
    if isinstance(value, float):
        return f"{value:g}"
    return "null" if value is None else str(value).lower()


@pytest.mark.parametrize("name", PRUNING)
def test_every_setting_of_pruning_is_on_the_page_with_its_default(name):
    assert f"pruning.{name}={shown(PRUNING[name])}" in PAGE


@pytest.mark.parametrize("name", HARD)
def test_every_setting_of_hard_attention_is_on_the_page_with_its_default(name):
    assert f"hard_attention.{name}={shown(HARD[name])}" in PAGE
