"""Hostile artifacts: nothing is unpickled or run, and of all files only four are opened."""

import json
import os
import pickle
import shutil
import sys

import pytest
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from axformer_lightning.artifacts import load_pretrained, save_pretrained

FILES = ("config.json", "model.safetensors", "axformer_plan.json")
SUMS = "SHA256SUMS"
OPENED = []
sys.addaudithook(lambda event, args: OPENED.append(args[0]) if event == "open" else None)


class Marker:
    """Unpickled it makes a directory."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (os.fspath(self.path),)


def change(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    "architecture",
    [
        *("pipeline", "PreTrainedModel", "BertPreTrainedModel", "BertConfig", "BertTokenizer", "AutoModel", "Trainer"),
        *("../x", "/etc/passwd", "", " ", "__doc__", "__class__", "__dict__", "_LazyModule", "models", "os.system"),
        *("BertForMaskedLM", "RobertaModel", "ElectraForSequenceClassification", "T5Model", "models.bert.BertModel"),
    ],
)
def test_an_architecture_that_is_no_class_of_this_family_is_refused(unsealed, outcome, architecture):
    change(unsealed / "config.json", architectures=[architecture])
    assert outcome(unsealed) == "refused"


def test_a_class_that_shares_its_names_with_another_family_is_refused(tiny, tmp_path):
    save_pretrained(tiny.model("bert", "sdpa", auto=AutoModel), tmp_path)
    (tmp_path / SUMS).unlink()
    change(tmp_path / "config.json", architectures=["RobertaModel"])
    with pytest.raises(ValueError, match="'bert' model class"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize(
    "fields",
    [
        {"auto_map": {"AutoConfig": "hostile.Config", "AutoModelForSequenceClassification": "hostile.Model"}},
        {"attn_implementation": "someone/kernel"},
        {"_attn_implementation": "someone/kernel"},
        {"experts_implementation": "someone/kernel"},
        {"quantization_config": {"quant_method": "quark"}},
        {"distributed_config": {"tp_size": 2}},
        {"fusion_config": {"patch_embeddings": True}},
        {"transformers_weights": "adapter_model.bin"},
        {"transformers_weights": "model.safetensors.index.json"},
        {"transformers_weights": "../outside.safetensors"},
        {"_name_or_path": "../outside", "name_or_path": "someone/else"},
        {
            "axformer_lightning": {
                "num_hidden_layers": 3,
                "model_type": "t5",
                "transformers_weights": "adapter_model.bin",
            }
        },
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_fields_that_lead_elsewhere_are_not_followed(unsealed, outcome, hostile, fields):
    hostile(unsealed)
    change(unsealed / "config.json", **fields)
    OPENED.clear()
    assert outcome(unsealed) == "same"
    assert opened_below(unsealed.parent) <= {unsealed / name for name in FILES}


def opened_below(directory):
    paths = {type(directory)(os.fsdecode(path)) for path in OPENED if isinstance(path, str | bytes | os.PathLike)}
    return {path for path in paths if directory in path.parents}


@pytest.fixture
def hostile(tmp_path):
    """Puts beside an artifact what would be followed, unpickled or run; says afterwards whether it was."""
    mark = tmp_path / "marked"

    def plant(directory):
        weights = {name: value + 1 for name, value in load_file(directory / "model.safetensors").items()}
        outside = tmp_path / "outside.safetensors"
        save_file(weights, outside, metadata={"format": "pt"})
        index = json.dumps({"metadata": {}, "weight_map": dict.fromkeys(weights, f"../{outside.name}")})
        for name in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
            (directory / name).write_text(index)
        for name in ("shard-00001-model-00001-of-00001.safetensors", "adapter_model.safetensors"):
            shutil.copy(outside, directory / name)
        for name in ("pytorch_model.bin", "adapter_model.bin", "training_args.bin", "optimizer.pt", ".metadata"):
            (directory / name).write_bytes(pickle.dumps(Marker(mark), protocol=2))
        for name in ("hostile.py", "custom_generate/generate.py", "__init__.py", "modeling_bert.py"):
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).write_text(f"import os\nos.mkdir({os.fspath(mark)!r})\n")
        adapter = {"base_model_name_or_path": os.fspath(tmp_path), "peft_type": "LORA"}
        (directory / "adapter_config.json").write_text(json.dumps(adapter))

    yield plant
    assert not mark.exists()


def test_what_lies_beside_is_not_opened(sealed, outcome, hostile):
    hostile(sealed)
    OPENED.clear()
    assert outcome(sealed) == "same"
    assert opened_below(sealed.parent) == {sealed / name for name in (*FILES, SUMS)}


@pytest.mark.parametrize("name", FILES)
def test_what_lies_beside_takes_no_missing_file_s_place(sealed, outcome, hostile, name):
    hostile(sealed)
    (sealed / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        load_pretrained(sealed)


def test_the_marker_works(tmp_path):
    pickle.loads(pickle.dumps(Marker(tmp_path / "marked"), protocol=2))
    assert (tmp_path / "marked").is_dir()
