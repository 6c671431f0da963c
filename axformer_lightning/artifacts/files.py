"""What an artifact consists of beside the weights."""

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import transformers
from torch import distributed, nn
from transformers import PreTrainedConfig, PreTrainedModel

from axformer_lightning.artifacts.sums import write_sums
from axformer_lightning.basics import find_adapter
from axformer_lightning.basics.files import give_usual_rights
from axformer_lightning.costs import count_parameters
from axformer_lightning.plan import Plan, applied_plan, plan_of
from axformer_lightning.surgery import is_as_it_was_built

logger = logging.getLogger(__name__)
CONFIG_FILE, WEIGHTS_FILE, PLAN_FILE = FILES = ("config.json", "model.safetensors", "axformer_plan.json")
KEPT = "axformer_lightning"  # where config.json keeps the values of fields that the hint needs
HINT = "axformer-lightning artifact: load it with axformer_lightning.load_pretrained(directory)"
CARD = """---
library_name: axformer-lightning
---
# {name}, made smaller by AxFormer

A `{architecture}` from which attention blocks, feed-forward blocks, heads and neurons that did not help its task were
removed, and whose attention may be hard in some layers (arXiv 2010.03688). What was done is in `{plan_file}`.

```python
from axformer_lightning import load_pretrained
model = load_pretrained("this directory or its hub id"{more})
```
`transformers` alone refuses to load it, as it would fill what was removed with random weights.

To run it with nothing but `onnxruntime` and `tokenizers`, write it once as a file
(`pip install 'axformer-lightning[export]'`, then `python -m axformer_lightning.export DIRECTORY model.onnx`). The file
holds the tokenizer, too, if there is one here:

```python
import json, onnxruntime, tokenizers
options = onnxruntime.SessionOptions()
options.add_session_config_entry("session.x64quantprecision", "1")  # exact int8; with VNNI faster without
session = onnxruntime.InferenceSession("model.onnx", options)
notes = session.get_modelmeta().custom_metadata_map
encoded = tokenizers.Tokenizer.from_str(notes["tokenizer"]).encode("a text")  # or ("one", "and another")
values = {{"input_ids": encoded.ids, "attention_mask": encoded.attention_mask, "token_type_ids": encoded.type_ids}}
outputs = session.run(None, {{i.name: [values[i.name]] for i in session.get_inputs()}})
print(json.loads(notes["axformer_lightning"])["labels"], outputs[0])
```

| | |
|---|---|
| parameters | {parameters:,} |
| attention blocks kept | {attention} of {layers} |
| feed-forward blocks kept | {feed_forward} of {layers} |
| layers with hard attention | {hard} |
| in int8 | {int8} |
"""


def is_written_here() -> bool:
    """Tell whether this process writes files: of several the first alone, as transformers has it.

    Example:
        >>> is_written_here()
        True
    """
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0


@contextmanager
def staged(directory: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a directory to write to, whose files move to ``directory`` once all of them are written.

    What is there before stays as it is until then, or where writing fails.

    Args:
        directory: made if absent; files of the same names are replaced.
    """
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".saving.") as temporary:  # above it may be no right to write
        staging = Path(temporary)
        yield staging
        for file in staging.iterdir():
            shutil.move(file, target / file.name)


def complete_artifact(model: PreTrainedModel, directory: Path) -> None:
    """Make an artifact of a directory into which transformers has saved a model: plan, card, hints and sums."""
    plan = plan_of(model)
    for weights in directory.glob("*.safetensors"):
        give_usual_rights(weights)
    plan.save(directory / PLAN_FILE)
    (directory / "README.md").write_text(_card(model, plan), encoding="utf-8")
    if not is_as_it_was_built(model):
        _put_hints(directory / CONFIG_FILE, model.config)
    write_sums(directory, FILES)


def check_is_cut_whole(model: PreTrainedModel) -> None:
    """Raise if a plan was applied to a part of a model: the whole does not know what it lacks.

    Raises:
        ValueError: naming the part.
    """
    parts = [name for name, part in model.named_modules() if part is not model and applied_plan(part) is not None]
    if parts:
        raise ValueError(
            f"Expected a {type(model).__name__} that was cut as a whole, got one whose {parts[0]!r} was cut alone. Load"
            f" the model again and apply the plan to all of it, `apply_plan_(model, plan)`, or save `model.{parts[0]}`."
        )


def check_has_no_adapter(model: PreTrainedModel) -> None:
    """Raise if PEFT has wrapped a layer of a model: what was saved of it, no class could be loaded with.

    Raises:
        ValueError: naming the layer.
    """
    if (name := find_adapter(model)) is not None:
        raise ValueError(
            f"Expected a {type(model).__name__} without adapters, got one with an adapter at {name!r}, which an"
            " artifact cannot hold. Merge it first: `model = model.merge_and_unload()`."
        )


def is_of_transformers(kind: type) -> bool:
    """Tell whether a model class is one of transformers, which :func:`load_pretrained` finds by its name."""
    return getattr(transformers, kind.__name__, None) is kind


def _put_hints(path: Path, config: PreTrainedConfig) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    layers = _layers_field(config)
    # `layer_types` goes with the number of layers: transformers compares the two even to find a tokenizer. The
    # family is not kept here: transformers would find it in a dict and load what is around it.
    data[KEPT] = {name: data.pop(name) for name in (layers, "layer_types") if name in data}
    data["model_type"] = data[layers] = HINT
    path.write_text(json.dumps(data, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _card(model: PreTrainedModel, plan: Plan) -> str:
    return CARD.format(
        name=type(model).__name__,
        architecture=type(model).__name__,
        more="" if is_of_transformers(type(model)) else f", model_class={type(model).__name__}",
        plan_file=PLAN_FILE,
        parameters=count_parameters(model),
        attention=sum(layer.attention == "kept" for layer in plan.layers),
        feed_forward=sum(layer.feed_forward == "kept" for layer in plan.layers),
        layers=plan.num_layers,
        int8=", ".join(f"{name} of layer {i}" for i, layer in enumerate(plan.layers) for name in layer.int8) or "none",
        hard=", ".join(str(i) for i, layer in enumerate(plan.layers) if layer.is_hard) or "none",
    )


def _layers_field(config: PreTrainedConfig) -> str:
    return str(config.attribute_map.get("num_hidden_layers", "num_hidden_layers"))


def say_what_is_missing(model: nn.Module, transformer: PreTrainedModel) -> None:
    """Warn of what an artifact of a model does not hold: parameters of the module around it, and a class of its own."""
    inside = {*transformer.parameters()}
    own = [name for name, parameter in model.named_parameters() if parameter not in inside]
    if own:
        logger.warning(
            "The artifact holds the %s alone. Not in it are the %d parameters of the module's own, %s: save them too,"
            " for example in a Lightning checkpoint.",
            type(transformer).__name__,
            len(own),
            own[:5],
        )
    if not is_of_transformers(type(transformer)):
        name = type(transformer).__name__
        said = "%s is no class of transformers: load it with `load_pretrained(..., model_class=%s)`."
        logger.warning(said, name, name)
