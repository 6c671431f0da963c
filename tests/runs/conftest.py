"""The fixture that writes GLUE's official files; and runs draw no pictures, whose page is tested in tests/report."""

from pathlib import Path

import pytest

from tests.tasks.official import write_glue

__all__ = ["write_glue"]


@pytest.fixture(autouse=True)
def _undrawn(undrawn, monkeypatch):
    monkeypatch.setattr("axformer_lightning.runs.reporting.draw_plan", lambda plan, path, title: Path(path).touch())
