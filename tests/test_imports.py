"""The house as a test: data flows one way, and every host stays behind its wall."""

import ast
import re
from pathlib import Path

import pytest

from axformer_lightning.basics import MARKS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "axformer_lightning"
ORDER = (
    "basics", "anatomy", "gates", "kernels", "hard_attention", "int8", "first_token", "scoring", "costs", "criteria",
    "plan", "surgery", "replay", "repair", "search", "timing", "evidence", "budgets", "rounds", "vocabulary", "report",
    "artifacts", "exporting", "training", "distillation", "callbacks", "tasks", "runs", "multirun", "sweeps",
)  # fmt: skip
ROOF = {"__init__", "benchmark", "export", "predict", "train"}  # the public names and the commands
LIGHTNING = {"training", "callbacks", "tasks", "runs"}
HOSTS = {
    "transformers": {*ORDER} - {"basics", "criteria", "plan", "evidence", "report"},
    "lightning": LIGHTNING,
    "hydra": {"runs", "multirun", "sweeps"},
    "optuna": {"multirun"},
    "torch_pruning": {"sweeps"},
    "scipy": {"evidence", "sweeps"},
    "jinja2": {"report"},
    "triton": {"kernels"},
    "torch": {*ORDER, *ROOF} - {"plan", "evidence"},
}
FILES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
FILES["train.py"] = ROOT / "train.py"


def room_of(name):
    return name.removesuffix(".py").split("/")[0]


def imported(source):
    """Yield the dotted names that a source text imports, also inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            inside = node.module == "axformer_lightning"
            yield from (f"{node.module}.{alias.name}" for alias in node.names) if inside else [node.module]


def offences(here, source):
    """Name the imports of ``source`` that its room may not have."""
    for module in imported(source):
        package, _, rest = module.partition(".")
        there = rest.split(".")[0]
        above = there not in ORDER or (here in ORDER and ORDER.index(there) > ORDER.index(here))
        if package == "axformer_lightning" and here not in ROOF and above:
            yield module
        if here not in HOSTS.get(package, {here}) | {"train"}:
            yield module


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_in_a_known_room(name):
    assert room_of(name) in {*ORDER, *ROOF}


@pytest.mark.parametrize("name", FILES)
def test_imports_point_upwards_and_hosts_stay_behind_their_walls(name):
    assert list(offences(room_of(name), FILES[name].read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("anatomy", "from axformer_lightning.gates import closed"),
        ("plan", "from axformer_lightning import surgery"),
        ("callbacks", "from axformer_lightning import Plan"),
        ("basics", "from axformer_lightning.plan import Plan"),
        ("plan", "def late():\n    import torch.nn"),
        ("criteria", "from transformers import PreTrainedModel"),
        ("surgery", "from lightning.pytorch import Trainer"),
        ("tasks", "import hydra"),
    ],
)
def test_an_import_against_the_flow_is_noticed(room, line):
    assert len(list(offences(room, line))) == 1


@pytest.mark.parametrize("name", ["search/greedy.py", "search/steps.py"])
def test_what_is_tried_and_in_which_order_knows_no_tensor(name):
    hosts = {module.split(".")[0] for module in imported(FILES[name].read_text(encoding="utf-8"))}
    assert hosts.isdisjoint({"torch", "transformers", "lightning"})


@pytest.mark.parametrize("name", FILES)
def test_no_file_is_longer_than_260_lines(name):
    assert len(FILES[name].read_text(encoding="utf-8").splitlines()) <= 260


def test_the_rooms_were_found():
    assert {"gates.py", "anatomy/models.py", "search/find.py", "artifacts/loading.py"} <= set(FILES)


MARKED = re.compile(
    r"""(?:\.|setattr\(\w+, |getattr\(\w+, |register_\w+\(|")"""
    r"""(axformer_(?!lightning|step|losses|samples|plans|starts|cut\b)\w+)"""
)


def test_the_list_of_marks_names_every_attribute_that_is_hung_on_an_object_of_others():
    keys = {
        "axformer_top_k",
        "axformer_first_query",
        "axformer_search_",
        "axformer_start_",
    }  # of other tables, of files
    found = {name for path in FILES.values() for name in MARKED.findall(path.read_text(encoding="utf-8"))}
    assert found - keys == {*MARKS}
