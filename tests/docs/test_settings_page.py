"""The page of settings follows from the definitions: `python tests/docs/test_settings_page.py` writes its table."""

import re
from pathlib import Path

from axformer_lightning import (
    AccuracyDrivenPruningCallback,
    DistillationCallback,
    HardAttentionCallback,
    Int8Callback,
    ShrinkCallback,
)
from axformer_lightning.anatomy import HardAttention
from axformer_lightning.budgets import Effort, TargetOptions
from axformer_lightning.callbacks.agreement import CallbackOptions
from axformer_lightning.distillation import Distillation
from axformer_lightning.runs.groups import ELSEWHERE, WITH_PRUNING, arguments
from axformer_lightning.search import Int8, Pruning, meanings

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
HEAD = "| setting and default | meaning |\n|---|---|\n"
BEGIN, END = "<!-- from the definitions -->\n", "<!-- to here -->\n"


def shown(value):
    """As Hydra spells it."""
    if isinstance(value, float):
        return f"{value:g}"
    return "null" if value is None else str(value).lower()


def readable(meaning):
    """As Markdown, without the marks of docstrings."""
    meaning = re.sub(r":(?:class|func):`~?(?:\w+\.)*(\w+)`", r"`\1`", meaning).replace("``", "`")
    return meaning.replace('`"', "`").replace('"`', "`").replace("None for", "`null` for")


def rows():
    yield HEAD
    said = (
        meanings(Pruning)
        | meanings(HardAttention)
        | meanings(Int8)
        | meanings(CallbackOptions)
        | meanings(Distillation)
    )
    pruning = arguments(AccuracyDrivenPruningCallback, ELSEWHERE)
    hard = arguments(HardAttentionCallback, ELSEWHERE | WITH_PRUNING | set(pruning))
    distillation = arguments(DistillationCallback, ELSEWHERE | {"teacher"})
    int8 = arguments(Int8Callback, ELSEWHERE | WITH_PRUNING | (set(pruning) - {"tolerance"}))
    groups = {"pruning": pruning, "hard_attention": hard, "int8": int8, "distillation": distillation}
    for group, own in groups.items():
        for name, default in own.items():
            yield f"| `{group}.{name}={shown(default)}` | {readable(said[name])} |\n"
    yield f"\nWith `pruning=budget`, whose settings are those of `ShrinkCallback`:\n\n{HEAD}"
    said |= meanings(TargetOptions) | meanings(Effort)
    for name, default in arguments(ShrinkCallback, ELSEWHERE).items():
        yield f"| `pruning.{name}={shown(default)}` | {readable(said[name])} |\n"


def test_the_table_of_the_page_is_what_the_definitions_say():
    text = PAGE.read_text(encoding="utf-8")
    assert text.partition(BEGIN)[2].partition(END)[0] == "".join(rows()), "run this file to write it"


if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + BEGIN + "".join(rows()) + END + rest.partition(END)[2], encoding="utf-8")
