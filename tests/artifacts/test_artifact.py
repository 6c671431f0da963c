import json
import os
import tempfile

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertForSequenceClassification,
    pipeline,
)

from axformer_lightning.anatomy import HardAttention, LayerPlan
from axformer_lightning.artifacts import load_pretrained, save_pretrained
from axformer_lightning.plan import Decision, Plan
from axformer_lightning.surgery import apply_plan_

pytestmark = pytest.mark.one_implementation

FILES = ("config.json", "model.safetensors", "axformer_plan.json")
DECISIONS = (Decision(1, "head", 0, 1, 0.5, 0.75, 0.625, True, 6),)
DENSE = LayerPlan()
HARD = LayerPlan(hard_attention=HardAttention(3))
LAYERS = {
    "heads cut": (LayerPlan(heads_removed=(1, 2)), DENSE, DENSE),
    "block removed": (DENSE, LayerPlan(feed_forward="removed"), DENSE),
    "attention block removed": (DENSE, DENSE, LayerPlan("removed")),
    "hard attention only": (HARD, DENSE, HARD),
    "neurons cut": (DENSE, LayerPlan(neurons_removed=((0, 12), (40, 48))), DENSE),
    "all heads and neurons": (DENSE, LayerPlan("kept", (0, 1, 2, 3), "kept", ((0, 48),)), DENSE),
    "everything removed": (LayerPlan("removed", (), "removed"),) * 3,
    "in int8": (LayerPlan(int8=("attention",)), DENSE, LayerPlan(int8=("attention", "feed_forward"))),
    "cut and in int8": (
        LayerPlan("kept", (0, 2), "removed", (), HardAttention(3), ("attention",)),
        LayerPlan("kept", (0, 1, 2, 3), "kept", ((0, 12),), None, ("attention", "feed_forward")),
        DENSE,
    ),
    "mixed": (
        LayerPlan("kept", (0, 2), "kept", ((8, 24),), HardAttention(3)),
        LayerPlan("removed", (), "kept", ((0, 48),), HardAttention(3)),
        LayerPlan("kept", (0, 1, 2, 3), "removed", (), HardAttention(2, True)),
    ),
}


def cut(model, layers="mixed"):
    return apply_plan_(model, Plan(model.config.model_type, 3, 4, 48, LAYERS[layers], DECISIONS))


@pytest.fixture
def artifact(model, tmp_path):
    """The directory of a cut model."""
    save_pretrained(cut(model), tmp_path / "artifact")
    return tmp_path / "artifact"


@pytest.fixture
def unsealed(artifact):
    """An artifact whose files may be changed."""
    (artifact / "SHA256SUMS").unlink()
    return artifact


@pytest.mark.one_family  # anatomy/test_families.py saves and loads every family
@pytest.mark.parametrize("layers", LAYERS)
def test_a_loaded_model_is_the_saved_one_bit_by_bit(model, implementation, batch, logits, tmp_path, layers):
    save_pretrained(cut(model, layers), tmp_path)
    loaded = load_pretrained(tmp_path, attn_implementation=implementation)
    assert type(loaded) is type(model)
    assert not loaded.training
    assert loaded.axformer_plan == model.axformer_plan
    assert torch.equal(logits(loaded, batch), logits(model, batch))
    assert loaded.config._attn_implementation == implementation


@pytest.mark.parametrize(
    "auto", [AutoModel, AutoModelForMaskedLM, AutoModelForQuestionAnswering, AutoModelForTokenClassification]
)
def test_every_kind_of_head_comes_back(tiny, family, batch, tmp_path, auto):
    del batch["labels"]
    model = cut(tiny.model(family, None, auto, num_labels=2))
    save_pretrained(model, tmp_path)
    loaded = load_pretrained(os.fspath(tmp_path))
    assert type(loaded) is type(model)
    with torch.no_grad():
        assert all(
            torch.equal(ours, theirs)
            for ours, theirs in zip(loaded(**batch).values(), model(**batch).values(), strict=True)
        )


MADE = [  # arguments that decide what a bare encoder is made of
    *((name, {"add_pooling_layer": pools}) for name in ("bert", "mpnet", "albert", "vit") for pools in (True, False)),
    ("vit", {"use_mask_token": True}),
]


@pytest.mark.one_family
@pytest.mark.parametrize(("name", "made"), MADE)
@pytest.mark.parametrize("layers", ["heads cut", "in int8"])
def test_a_bare_encoder_comes_back_with_the_parts_that_it_was_made_with(tiny, tmp_path, name, made, layers):
    config = tiny.model(name, None).config
    model = cut(type(AutoModel.from_config(config))(config, **made).eval(), layers)
    save_pretrained(model, tmp_path)
    loaded = load_pretrained(tmp_path)
    assert type(loaded) is type(model)
    assert {name: value.shape for name, value in loaded.state_dict().items()} == {
        name: value.shape for name, value in model.state_dict().items()
    }
    batch = (
        {"pixel_values": tiny.images()["pixel_values"]} if name == "vit" else {"input_ids": torch.tensor([[5, 6, 7]])}
    )
    with torch.no_grad():
        assert torch.equal(loaded(**batch).last_hidden_state, model(**batch).last_hidden_state)


def test_transformers_alone_refuses_an_artifact_and_says_why(tiny, family, tmp_path):
    model = cut(tiny.model(family), "hard attention only")
    save_pretrained(model, tmp_path)
    for cls in (AutoModelForSequenceClassification, AutoModel, type(model), type(model.base_model)):
        with pytest.raises(Exception, match="axformer"):
            cls.from_pretrained(tmp_path)


@pytest.mark.parametrize("layers", ["heads cut", "block removed", "attention block removed", "neurons cut"])
def test_transformers_alone_refuses_it_whatever_was_removed(tiny, tmp_path, layers):
    save_pretrained(cut(tiny.model("bert"), layers), tmp_path)
    for cls in (AutoModelForSequenceClassification, BertForSequenceClassification):
        with pytest.raises(Exception, match="axformer"):
            cls.from_pretrained(tmp_path)


@pytest.mark.parametrize("planned", [False, True])
def test_transformers_alone_loads_a_model_of_which_nothing_was_removed(model, batch, logits, tmp_path, planned):
    if planned:
        apply_plan_(model, Plan(model.config.model_type, 3, 4, 48, (DENSE,) * 3, DECISIONS))
    save_pretrained(model, tmp_path)
    plain = AutoModelForSequenceClassification.from_pretrained(
        tmp_path, attn_implementation=model.config._attn_implementation
    )
    assert torch.equal(logits(plain, batch), logits(model, batch))
    assert load_pretrained(tmp_path).axformer_plan.decisions == DECISIONS * planned


@pytest.mark.slow_but_first
def test_a_loaded_model_can_be_saved_cut_further_and_loaded_again(artifact, batch, logits, tmp_path):
    first = load_pretrained(artifact)
    save_pretrained(first, tmp_path / "again")
    again = load_pretrained(tmp_path / "again")
    assert torch.equal(logits(again, batch), logits(first, batch))
    save_pretrained(cut(again, "everything removed"), tmp_path / "again")
    last = load_pretrained(tmp_path / "again")
    assert torch.equal(logits(last, batch), logits(again, batch))
    assert not torch.allclose(logits(last, batch), logits(first, batch), atol=1e-2)


@pytest.mark.one_family
def test_a_loaded_model_can_be_trained(artifact, batch):
    loaded = load_pretrained(artifact).train()
    loaded(**batch).loss.backward()
    assert all(parameter.requires_grad and parameter.device.type == "cpu" for parameter in loaded.parameters())


def test_the_config_of_a_loaded_model_holds_no_hint(artifact, model):
    assert load_pretrained(artifact).config.to_json_string() == model.config.to_json_string()


@pytest.mark.one_family
def test_options_are_passed_on(artifact):
    loaded = load_pretrained(artifact, dtype=torch.bfloat16, attn_implementation="eager")
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    assert loaded.config._attn_implementation == "eager"


@pytest.mark.one_family
def test_fields_of_the_config_may_be_given_as_to_from_pretrained(artifact):
    labels = {0: "no", 1: "maybe", 2: "yes"}
    loaded = load_pretrained(artifact, hidden_dropout_prob=0.3, id2label=labels, problem_type="regression")
    assert (loaded.config.hidden_dropout_prob, loaded.config.id2label) == (0.3, labels)
    assert (loaded.config.problem_type, loaded.dropout.p) == ("regression", 0.3)


@pytest.mark.one_family
@pytest.mark.parametrize("option", ["output_loading_info", "state_dict"])
def test_options_that_are_not_the_callers_are_refused(artifact, option):
    with pytest.raises(TypeError, match=rf"Expected no \['{option}'\]"):
        load_pretrained(artifact, **{option: None})


@pytest.mark.one_family
def test_the_directory_holds_what_is_documented(model, tokenizer, tmp_path):
    directory = tmp_path / "not" / "there" / "yet"
    save_pretrained(cut(model), directory, tokenizer=tokenizer)
    names = {path.name for path in directory.iterdir()}
    assert names == {*FILES, "SHA256SUMS", "README.md", "tokenizer.json", "tokenizer_config.json"}
    assert list(directory.parent.iterdir()) == [directory]
    assert Plan.load(directory / FILES[2]) == model.axformer_plan


@pytest.mark.one_family
def test_the_card_tells_how_to_load_and_how_much_is_left(artifact, model):
    card = (artifact / "README.md").read_text()
    assert "from axformer_lightning import load_pretrained" in card
    parameters = sum(parameter.numel() for parameter in model.parameters())
    for row in (
        f"parameters | {parameters:,} |",
        "attention blocks kept | 2 of 3 |",
        "feed-forward blocks kept | 2 of 3 |",
    ):
        assert row in card


@pytest.mark.one_family
def test_saving_over_an_artifact_replaces_it(tiny, family, artifact, batch, logits):
    other = tiny.model(family, seed=9)
    save_pretrained(other, artifact)
    plain = AutoModelForSequenceClassification.from_pretrained(artifact, attn_implementation="eager")
    assert torch.equal(logits(plain, batch), logits(other, batch))


def test_saving_does_not_change_the_model(model, state, tmp_path):
    before = state(cut(model))
    model.config.architectures, model.config.dtype = [type(model).__name__], "float32"  # as transformers does
    config = model.config.to_dict()
    save_pretrained(model, tmp_path)
    assert state(model) == before
    assert model.config.to_dict() == config


@pytest.mark.one_family
def test_a_failing_save_leaves_the_old_artifact(tiny, family, artifact, batch, logits, monkeypatch):
    expected = logits(load_pretrained(artifact), batch)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", None)
        with pytest.raises(TypeError):
            save_pretrained(tiny.model(family, seed=9), artifact)
    assert torch.equal(logits(load_pretrained(artifact), batch), expected)
    assert list(artifact.parent.iterdir()) == [artifact]


@pytest.mark.one_family
def test_nothing_is_written_above_the_directory(model, tmp_path, monkeypatch):
    places, make = [], tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", lambda *args: places.append(args[2]) or make(*args))
    save_pretrained(model, tmp_path / "artifact")
    assert [*map(str, places)] == [str(tmp_path / "artifact")]


@pytest.mark.one_family
def test_the_model_inside_a_module_is_saved(model, batch, logits, tmp_path):
    save_pretrained(nn.ModuleDict({"anything": cut(model)}), tmp_path)
    loaded = load_pretrained(tmp_path, attn_implementation=model.config._attn_implementation)
    assert torch.equal(logits(loaded, batch), logits(model, batch))


def test_a_pipeline_runs_a_loaded_model(artifact, model, tokenizer, logits):
    tokenizer.save_pretrained(artifact)
    loaded, words = load_pretrained(artifact), AutoTokenizer.from_pretrained(artifact)
    classify = pipeline("text-classification", model=loaded, tokenizer=tokenizer)
    found = classify(["a fine film", "film"], padding=True, top_k=None)
    expected = logits(model, dict(words(["a fine film", "film"], padding=True, return_tensors="pt"))).softmax(-1)
    for answers, probabilities in zip(found, expected, strict=True):
        scores = {answer["label"]: answer["score"] for answer in answers}
        assert [scores[f"LABEL_{i}"] for i in range(3)] == pytest.approx(probabilities.tolist(), abs=1e-4)


@pytest.mark.one_family
@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(artifact, name):
    (artifact / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"'{name}' in '{artifact}'"):
        load_pretrained(artifact)


@pytest.mark.one_family
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_truncated_file_is_named(unsealed, name, share):
    content = (unsealed / name).read_bytes()
    (unsealed / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=name):
        load_pretrained(unsealed)


def wrong_shape(weights, name):
    weights[name] = torch.zeros(3, 5)


def missing(weights, name):
    del weights[name]


def unexpected(weights, name):
    weights[f"{name}.more"] = torch.zeros(2)


@pytest.mark.one_family
@pytest.mark.parametrize("change", [wrong_shape, missing, unexpected])
def test_weights_that_do_not_fit_the_plan_are_named(unsealed, model, names, change):
    weights = load_file(unsealed / "model.safetensors")
    name = f"{model.base_model_prefix}.{names.at(0, 'attention')}.weight"
    change(weights, name)
    save_file(weights, unsealed / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"(?s)axformer_plan.json.*{name}"):
        load_pretrained(unsealed)


@pytest.mark.one_family
def test_a_plan_that_the_weights_do_not_fit_is_refused(unsealed, model):
    Plan(model.config.model_type, 3, 4, 48, LAYERS["heads cut"]).save(unsealed / "axformer_plan.json")
    with pytest.raises(ValueError, match=r"axformer_plan\.json"):
        load_pretrained(unsealed)


@pytest.mark.one_family
@pytest.mark.parametrize("field", ["num_heads", "intermediate_size", "model_type"])
def test_a_plan_for_another_model_is_refused(unsealed, field):
    data = json.loads((unsealed / "axformer_plan.json").read_text())
    data[field] = {"num_heads": 8, "intermediate_size": 64, "model_type": "martian"}[field]
    (unsealed / "axformer_plan.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match=f"{field}|martian"):
        load_pretrained(unsealed)


@pytest.mark.one_family
@pytest.mark.parametrize("architectures", [None, [], ["Martian"], ["AutoConfig"], ["BertModel", "BertModel"], [7]])
def test_a_config_that_names_no_model_class_is_refused(unsealed, architectures):
    data = json.loads((unsealed / "config.json").read_text())
    (unsealed / "config.json").write_text(json.dumps(data | {"architectures": architectures}))
    with pytest.raises(ValueError, match=r"`architectures` in .*config\.json"):
        load_pretrained(unsealed)


def test_neither_a_directory_nor_a_repository_is_an_error(tmp_path, monkeypatch):
    def offline(name):
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr("axformer_lightning.artifacts.loading.snapshot_download", offline)
    with pytest.raises(FileNotFoundError, match=r"nowhere.*no such directory, and the hub says: offline"):
        load_pretrained(tmp_path / "nowhere")


@pytest.mark.one_family
def test_an_artifact_is_loaded_from_the_hub_by_its_id(artifact, monkeypatch, model):
    monkeypatch.setattr("axformer_lightning.artifacts.loading.snapshot_download", {"me/small": artifact}.__getitem__)
    assert load_pretrained("me/small").axformer_plan == model.axformer_plan


@pytest.mark.one_family
def test_options_of_the_hub_reach_it(artifact, monkeypatch, model):
    asked = {}

    def download(name, **options):
        asked.update(options, name=name)
        return artifact.parent

    monkeypatch.setattr("axformer_lightning.artifacts.loading.snapshot_download", download)
    options = {"revision": "v1", "token": "secret", "cache_dir": "kept/here", "local_files_only": True}
    assert load_pretrained("me/small", **options, subfolder=artifact.name).axformer_plan == model.axformer_plan
    assert asked == {"name": "me/small", **options}


@pytest.mark.one_family
def test_a_subfolder_of_a_directory_is_the_one_that_is_loaded(artifact, model):
    assert load_pretrained(artifact.parent, subfolder=artifact.name).axformer_plan == model.axformer_plan
    with pytest.raises(FileNotFoundError, match=r"config\.json.*nowhere"):
        load_pretrained(artifact, subfolder="nowhere")
