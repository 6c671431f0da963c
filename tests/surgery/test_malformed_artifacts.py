"""Damaged and hostile artifacts: refused by an error that names the file, or loaded as they were saved.

Nothing is unpickled or run, and of all files only four are opened.
"""

import copy
import json
import os
import pickle
import random
import shutil
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from axformer_lightning.anatomy import HardAttention, LayerPlan
from axformer_lightning.plan import Plan
from axformer_lightning.surgery import apply_plan_, load_pretrained, save_pretrained

FILES = ("config.json", "model.safetensors", "axformer_plan.json")
SUMS = "SHA256SUMS"
LAYERS = (
    LayerPlan("kept", (0, 2), "kept", ((8, 24),), HardAttention(3)),
    LayerPlan("removed", (), "kept", ((0, 8),)),
    LayerPlan("kept", (1,), "removed"),
)
ODD_VALUES = (None, True, -1, 0, 1, 1.5, "x", [], {}, 2**70, float("nan"), ["x"], {"0": 1})
OPENED = []
sys.addaudithook(lambda event, args: OPENED.append(args[0]) if event == "open" else None)


class Marker:
    """Unpickled it makes a directory."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (os.fspath(self.path),)


@pytest.fixture
def cut(tiny):
    return apply_plan_(tiny.model("bert", "sdpa"), Plan("bert", 3, 4, 48, LAYERS))


@pytest.fixture
def sealed(cut, tmp_path):
    save_pretrained(cut, tmp_path / "artifact")
    return tmp_path / "artifact"


@pytest.fixture
def unsealed(sealed):
    """As a person leaves it who changes its files on purpose."""
    (sealed / SUMS).unlink()
    return sealed


@pytest.fixture
def outcome(cut, tiny, logits):
    """Returns whether an artifact loads, and as a model whose logits are those of the one that was saved."""
    expected = logits(cut, tiny.batch())

    def load(directory):
        try:
            model = load_pretrained(directory)
        except (ValueError, FileNotFoundError) as error:
            message = str(error)
            assert os.fspath(directory) in message
            assert any(name in message for name in (*FILES, SUMS))
            return "refused"
        with torch.inference_mode():
            return "same" if torch.equal(logits(model, tiny.batch()), expected) else "other"

    return load


def change(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize("name", [*FILES, SUMS])
@pytest.mark.parametrize("count", [80, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_flipped_bit_is_noticed_wherever_it_is(sealed, outcome, name, count):
    content, generator = (sealed / name).read_bytes(), random.Random(name)
    for _ in range(count):
        damaged = bytearray(content)
        damaged[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        (sealed / name).write_bytes(damaged)
        # Which of a line's bits are noticed by the sums of the others is of no interest: a flip may end it early.
        assert outcome(sealed) in ({"refused", "same"} if name == SUMS else {"refused"})


@pytest.mark.parametrize("name", [*FILES, SUMS])
@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_truncated_file_is_noticed_wherever_it_ends(sealed, outcome, name, count):
    content, generator = (sealed / name).read_bytes(), random.Random(name)
    for length in (0, len(content) - 2, *(generator.randrange(len(content) - 1) for _ in range(count))):
        (sealed / name).write_bytes(content[:length])
        assert outcome(sealed) == "refused"
    (sealed / name).write_bytes(content)
    assert outcome(sealed) == "same"


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_artifact_is_noticed(tiny, sealed, outcome, name, tmp_path):
    save_pretrained(apply_plan_(tiny.model("bert", "sdpa", seed=1), Plan("bert", 3, 4, 48, LAYERS)), tmp_path / "other")
    change(tmp_path / "other" / "config.json", layer_norm_eps=0.1)
    change(tmp_path / "other" / "axformer_plan.json", decisions=[])
    shutil.copy(tmp_path / "other" / name, sealed / name)
    assert outcome(sealed) == "refused"


@pytest.mark.parametrize("moves", range(6))
def test_a_save_that_dies_half_way_is_noticed(tiny, sealed, outcome, monkeypatch, moves):
    def move(*args, do=shutil.move):
        nonlocal moves
        moves -= 1
        if moves < 0:
            raise KeyboardInterrupt
        do(*args)

    monkeypatch.setattr(shutil, "move", move)
    allowed = {"same"} if moves == 0 else {"same", "refused"}
    try:
        save_pretrained(tiny.model("bert", "sdpa", seed=1), sealed)
    except KeyboardInterrupt:
        assert outcome(sealed) in allowed
    else:
        assert outcome(sealed) == "other"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("count", [50, pytest.param(1500, marks=pytest.mark.slow)])
def test_without_sums_a_damaged_file_is_refused_or_leaves_a_model_that_runs(unsealed, outcome, name, count):
    content, generator = (unsealed / name).read_bytes(), random.Random(name)
    found = []
    for _ in range(count):
        damaged = bytearray(content)
        damaged[generator.randrange(min(len(content), 6000))] ^= 1 << generator.randrange(8)
        (unsealed / name).write_bytes(damaged)
        found.append(outcome(unsealed))
    assert "refused" in found


def test_odd_values_in_a_config_are_refused_or_leave_a_model_that_runs(unsealed, outcome):
    config = json.loads((unsealed / "config.json").read_text())
    found = []
    for i, (name, value) in enumerate((name, value) for name in config for value in ODD_VALUES):
        if i % 4 == 0:
            (unsealed / "config.json").write_text(json.dumps(config | {name: value}))
            found.append(outcome(unsealed))
    assert len(found) > 80
    assert {"refused", "same"} <= {*found}


@pytest.mark.parametrize(
    "content",
    ["", "[]", "null", "7", '"x"', "[" * 100_000, '{"architectures": ', "{}", "\ufeff{}", "NaN"],
    ids=range(10),
)
@pytest.mark.parametrize("name", FILES)
def test_other_content_is_refused(unsealed, outcome, name, content):
    (unsealed / name).write_text(content)
    assert outcome(unsealed) == "refused"


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
    from transformers import AutoModel

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


def to_nowhere(path):
    path.symlink_to("nowhere")


def to_itself(path):
    path.symlink_to(path.name)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, to_nowhere, to_itself], ids=lambda make: make.__name__)
def test_what_is_no_file_is_named(sealed, name, make):
    (sealed / name).unlink()
    make(sealed / name)
    with pytest.raises(FileNotFoundError, match=f"'{name}' in '{sealed}'"):
        load_pretrained(sealed)


def test_links_are_followed_as_the_hub_s_cache_is_made_of_them(sealed, outcome, tmp_path):
    (tmp_path / "blobs").mkdir()
    for name in (*FILES, SUMS):
        (sealed / name).rename(tmp_path / "blobs" / name)
        (sealed / name).symlink_to(tmp_path / "blobs" / name)
    assert outcome(sealed) == "same"
    (tmp_path / "blobs" / "model.safetensors").write_bytes(b"")
    assert outcome(sealed) == "refused"


def test_saving_over_links_leaves_what_they_point_to(tiny, sealed, tmp_path):
    (tmp_path / "mine.json").write_text("mine")
    (sealed / "config.json").unlink()
    (sealed / "config.json").symlink_to(tmp_path / "mine.json")
    save_pretrained(tiny.model("bert", "sdpa"), sealed)
    assert (tmp_path / "mine.json").read_text() == "mine"
    assert load_pretrained(sealed)


def test_a_loaded_model_does_not_change_with_its_files(sealed, tiny, logits):
    model = load_pretrained(sealed)
    before = copy.deepcopy(logits(model, tiny.batch()))
    with (sealed / "model.safetensors").open("r+b") as file:
        file.write(b"\1" * (sealed / "model.safetensors").stat().st_size)
    assert torch.equal(logits(model, tiny.batch()), before)


def test_unknown_arguments_and_missing_packages_keep_their_error(sealed):
    with pytest.raises(ImportError):
        load_pretrained(sealed, attn_implementation="flash_attention_2")
    with pytest.raises(ValueError, match="unexpected keyword argument 'nonsense'"):
        load_pretrained(sealed, nonsense=1)
