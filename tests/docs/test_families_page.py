"""docs/families.md: its example runs, its program is the one in the page, its check passes, its table is complete."""

import dataclasses
import runpy
from pathlib import Path

import pytest
import torch

from axformer_lightning import apply_plan_, load_pretrained, save_pretrained
from axformer_lightning.anatomy import FAMILIES

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "families.md").read_text(encoding="utf-8")
BLOCKS = [block.split("```")[0] for block in PAGE.split("```python\n")[1:]]


@pytest.fixture
def example():
    """What the example defines; the table is as it was afterwards."""
    before = dict(FAMILIES)
    yield runpy.run_path(str(DOCS / "examples/new_family.py"))
    FAMILIES.clear()
    FAMILIES.update(before)


def test_the_page_shows_the_program():
    program = (DOCS / "examples/new_family.py").read_text(encoding="utf-8")
    assert BLOCKS[0].split("\n\n")[1] in program


def test_the_program_cuts_a_model_that_comes_back(example, tmp_path):
    model = example["main"]()
    ids = torch.randint(4, 24, (2, 9))
    save_pretrained(model, tmp_path)
    with torch.no_grad():
        assert torch.equal(load_pretrained(tmp_path)(ids).logits, model(ids).logits)
    assert model.axformer_plan.model_type == "esm"
    assert not model.axformer_plan.removes_nothing


def test_the_check_of_a_row_passes_and_fails_with_a_wrong_row(example, tiny, batch):
    known = {"torch": torch, "apply_plan_": apply_plan_, "batch": batch}
    exec(BLOCKS[1], known | {"model": tiny.model("bert")})
    wrong = dataclasses.replace(FAMILIES["bert"], head_in_projections=FAMILIES["bert"].head_in_projections[::2])
    FAMILIES["bert"] = wrong
    with pytest.raises((AssertionError, RuntimeError)):
        exec(BLOCKS[1], known | {"model": tiny.model("bert")})


def test_every_family_of_the_table_is_on_the_page():
    assert [name for name in FAMILIES if f"`{name}`" not in PAGE] == []


@pytest.fixture
def family():
    return "bert"
