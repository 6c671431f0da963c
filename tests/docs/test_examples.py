"""The worked examples of docs/lightning_modules.md run, and each excerpt on the page is part of its program."""

import importlib.util
import re
from pathlib import Path

import pytest

from axformer_lightning.anatomy import find_transformer

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = {
    name: DOCS / "examples" / f"{name}.py" for name in ("automodel", "own_head", "dataclass_batches", "two_towers")
}
PAGE = (DOCS / "lightning_modules.md").read_text(encoding="utf-8")


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES[name])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow_but_first
@pytest.mark.filterwarnings("ignore:Starting from v1.9.0")
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("automodel", ()),
        ("own_head", ()),
        ("dataclass_batches", ()),
        ("two_towers", ("Contrastive",)),
        ("two_towers", ("Similarity",)),
    ],
)
def test_an_example_makes_a_plan_and_cuts_its_model(name, settings, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = load(name)
    module = example.main(*(getattr(example, setting) for setting in settings))
    transformer = find_transformer(module)
    plan = transformer.axformer_plan
    whole = type(transformer)(example.TINY, **({"add_pooling_layer": False} if hasattr(module, "encoder") else {}))
    assert {decision.kind for decision in plan.decisions} >= {"hard_attention", "feed_forward", "attention"}
    assert not plan.removes_nothing
    assert transformer.num_parameters() < whole.num_parameters()


def test_each_excerpt_on_the_page_is_part_of_the_program_linked_above_it():
    common, *sections = re.split(r"\(examples/(\w+)\.py\)", PAGE)
    shown = dict(zip(sections[::2], map(excerpts, sections[1::2]), strict=True))
    assert shown.keys() == EXAMPLES.keys()
    assert all(shown.values())
    for name, path in EXAMPLES.items():
        program = plain(path.read_text(encoding="utf-8"))
        assert [lines for lines in excerpts(common) + shown[name] if lines not in program] == []


def excerpts(text):
    return [plain(excerpt) for excerpt in re.findall(r"```python\n(.*?)```", text, re.S)]


def plain(code):
    """Lines of code one below the other: a formatter moves methods of an excerpt to the margin and spaces them."""
    return "".join(f"{line.strip()}\n" for line in code.splitlines() if line.strip())
