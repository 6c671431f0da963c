import pytest

from axformer_lightning.report import page


@pytest.fixture
def undrawn(monkeypatch):
    """Leave pictures undrawn, which take most of the time of a page."""
    monkeypatch.setattr(page, "_draw", lambda folder, images: None)
    monkeypatch.setattr(page, "_inline", lambda image: "")
