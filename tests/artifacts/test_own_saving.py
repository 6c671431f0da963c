"""Whatever a user saves a cut model with gives that model back, or fails with a hint."""

import copy
import logging
import os
import pickle
import stat
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
    BertModel,
    BertPreTrainedModel,
    Trainer,
    TrainingArguments,
    pipeline,
)

from axformer_lightning import load_from_checkpoint
from axformer_lightning.anatomy import BLOCKS, BlockRanges, LayerPlan
from axformer_lightning.artifacts import load_pretrained, save_pretrained
from axformer_lightning.plan import Plan
from axformer_lightning.surgery import apply_plan_
from tests.artifacts.test_artifact import cut

pytestmark = pytest.mark.one_implementation
HINT = "load it with axformer_lightning.load_pretrained"
KINDS = ("heads cut", "neurons cut", "block removed", "hard attention only")


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def same(model, other, batch, logits):
    return torch.equal(logits(model, batch), logits(other.eval(), batch))


def test_its_own_save_pretrained_makes_an_artifact(model, batch, logits, tmp_path, kind):
    cut(model, kind).save_pretrained(tmp_path)
    assert same(model, load_pretrained(tmp_path), batch, logits)
    with pytest.raises(ValueError, match=HINT):
        AutoModelForSequenceClassification.from_pretrained(tmp_path)


@pytest.mark.one_family
@pytest.mark.parametrize("is_cut", [False, True])
@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_all_files_of_an_artifact_have_the_rights_that_the_users_umask_leaves(model, tmp_path, is_cut, umask):
    model = cut(model) if is_cut else model
    before = os.umask(umask)
    try:
        save_pretrained(model, tmp_path / "artifact")
        if is_cut:
            model.save_pretrained(tmp_path / "own")
    finally:
        os.umask(before)
    files = [file for folder in tmp_path.iterdir() for file in folder.iterdir()]
    assert {file.name: stat.S_IMODE(file.stat().st_mode) for file in files} == dict.fromkeys(
        [file.name for file in files], 0o666 & ~umask
    )
    assert "model.safetensors" in {file.name for file in files}
    for folder in tmp_path.iterdir():
        load_pretrained(folder)  # the sums are right


@pytest.mark.one_family
@pytest.mark.parametrize("is_cut", [False, True])
@pytest.mark.parametrize("rank", [0, 1])
def test_of_several_processes_all_may_save_and_the_first_writes(model, tmp_path, monkeypatch, is_cut, rank):
    model = cut(model) if is_cut else model
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda *group: rank)
    save_pretrained(model, tmp_path / "artifact")
    model.save_pretrained(tmp_path / "own")
    for folder in ("artifact", "own"):
        assert (tmp_path / folder / "config.json").exists() == (rank == 0)


@pytest.mark.one_family
def test_both_ways_write_the_same_files(model, tmp_path):
    cut(model).save_pretrained(tmp_path / "one")
    save_pretrained(model, tmp_path / "other")
    assert {path.name for path in (tmp_path / "one").iterdir()} == {
        path.name for path in (tmp_path / "other").iterdir()
    }
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes(), path.name


@pytest.mark.one_family
@pytest.mark.parametrize("way", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_save_themselves(model, batch, logits, tmp_path, way):
    copied = way(cut(model))
    copied.classifier.bias.data.add_(1.0)
    copied.save_pretrained(tmp_path)
    assert same(copied, load_pretrained(tmp_path), batch, logits)
    other = copy.deepcopy(model)
    other.load_state_dict(copied.state_dict())
    assert same(copied, other, batch, logits)


@pytest.mark.one_family
def test_a_model_of_which_a_part_was_cut_alone_is_refused(model, tmp_path):
    cut(model.bert)
    for save in (model.save_pretrained, lambda directory: save_pretrained(model, directory)):
        with pytest.raises(ValueError, match=r"whose 'bert' was cut alone.*save `model\.bert`"):
            save(tmp_path / "model")
    model.bert.save_pretrained(tmp_path / "part")
    load_pretrained(tmp_path / "part")


class Adapter(nn.Module):
    """Stands where a linear layer stood, as PEFT's layers do."""

    def __init__(self, base_layer):
        super().__init__()
        self.base_layer = base_layer


@pytest.mark.one_family
@pytest.mark.parametrize("is_cut", [False, True])
def test_a_model_with_an_adapter_that_no_class_could_load_is_refused(model, tmp_path, is_cut):
    model = cut(model) if is_cut else model
    output = model.bert.encoder.layer[0].attention.output
    output.dense = Adapter(output.dense)
    ways = [lambda directory: save_pretrained(model, directory), *([model.save_pretrained] if is_cut else [])]
    for save in ways:
        with pytest.raises(ValueError, match=r"adapter at '.*layer\.0.*dense'.*merge_and_unload\(\)"):
            save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.one_family
def test_a_model_in_int8_is_saved_in_float32_alone(model, tmp_path):
    cut(model, "in int8").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"in int8, got torch\.bfloat16\. Pass `dtype=torch.float32`"):
        load_pretrained(tmp_path, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match=r"weights in float32 .* Call `model.float\(\)` first"):
        model.bfloat16().save_pretrained(tmp_path / "half")


@pytest.mark.one_family
def test_a_line_warns_of_the_first_token_alone_in_dynamic_int8(model, tmp_path, caplog):
    ranges = tuple(BlockRanges(kind, (-3.0, 3.0), (-3.0, 3.0)) for kind in BLOCKS)
    for layers, lines in ((LayerPlan(int8=BLOCKS, int8_ranges=ranges),) * 3, 0), ((LayerPlan(int8=BLOCKS),) * 3, 1):
        apply_plan_(model, Plan("bert", 3, 4, 48, layers)).save_pretrained(tmp_path)
        with caplog.at_level(logging.WARNING, "axformer_lightning"):
            load_pretrained(tmp_path, first_token_only=True)
        assert ["In dynamic int8" in message for message in caplog.messages] == [True] * lines


@pytest.mark.one_family
def test_a_model_that_is_whole_is_saved_as_ever(model, batch, logits, tmp_path):
    model.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert same(model, AutoModelForSequenceClassification.from_pretrained(tmp_path), batch, logits)


@pytest.mark.one_family
def test_the_trainer_of_transformers_saves_an_artifact(model, batch, logits, tmp_path, kind):
    pytest.importorskip("accelerate")
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to=[], use_cpu=True)
    Trainer(cut(model, kind), arguments).save_model(str(tmp_path / "saved"))
    assert same(model, load_pretrained(tmp_path / "saved"), batch, logits)


@pytest.mark.one_family
def test_a_pipeline_saves_an_artifact(model, batch, logits, tmp_path, tokenizer):
    pipeline("text-classification", model=cut(model), tokenizer=tokenizer).save_pretrained(str(tmp_path))
    assert same(model, load_pretrained(tmp_path), batch, logits)


@pytest.mark.one_family
def test_a_push_carries_the_plan(model, tmp_path, monkeypatch):
    pushed = []
    api = SimpleNamespace(create_repo=lambda *args, **kwargs: SimpleNamespace(repo_id="a/b"))
    monkeypatch.setattr("transformers.utils.hub.hf_api", lambda: api)
    card = SimpleNamespace(save=lambda path: None)
    monkeypatch.setattr("transformers.utils.hub.create_and_tag_model_card", lambda *args, **kwargs: card)
    monkeypatch.setattr(
        type(model), "_upload_modified_files", lambda self, folder, *args, **kwargs: pushed.extend(names(folder))
    )
    cut(model).push_to_hub("a/b")
    assert {"axformer_plan.json", "SHA256SUMS", "config.json", "model.safetensors"} <= set(pushed)
    with pytest.raises(ValueError, match=r"Push it afterwards with `model\.push_to_hub"):
        model.save_pretrained(tmp_path, push_to_hub=True)


def names(folder):
    return [path.name for path in Path(folder).iterdir()]


@pytest.mark.one_family
def test_a_sentence_transformer_that_is_saved_fails_with_the_hint(tiny, family, tmp_path, tokenizer):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    encoder = tiny.model(family, auto=AutoModel)
    encoder.save_pretrained(tmp_path / "dense")
    tokenizer.save_pretrained(tmp_path / "dense")
    sentences = sentence_transformers.SentenceTransformer(str(tmp_path / "dense"), device="cpu")
    cut(sentences[0].auto_model)
    sentences.save(str(tmp_path / "cut"))
    with pytest.raises(Exception, match=HINT):
        sentence_transformers.SentenceTransformer(str(tmp_path / "cut"), device="cpu")
    assert load_pretrained(tmp_path / "cut").axformer_plan == sentences[0].auto_model.axformer_plan


class Module(L.LightningModule):
    def __init__(self, model):
        super().__init__()
        self.inner = model

    def forward(self, **batch):
        return self.inner(**batch)


@pytest.mark.slow_but_first
def test_weights_alone_say_which_model_they_are_of(tiny, family, batch, logits, tmp_path, kind):
    module = Module(cut(tiny.model(family), kind))
    weights = {name: value.clone() for name, value in module.state_dict().items()}
    torch.save({"state_dict": weights, "pytorch-lightning_version": L.__version__}, tmp_path / "weights.ckpt")
    loaded = load_from_checkpoint(Module, tmp_path / "weights.ckpt", model=tiny.model(family, seed=1))
    assert same(module.inner, loaded.inner, batch, logits)
    with pytest.raises(RuntimeError, match="axformer-lightning: load it with load_from_checkpoint"):
        Module(tiny.model(family)).load_state_dict(weights)
    other = Module(cut(tiny.model(family, seed=1), "everything removed"))
    other.load_state_dict(weights)  # of a cut model, which knows what the entry means
    assert same(module.inner, other.inner, batch, logits)


@pytest.mark.one_family
def test_weights_of_a_whole_model_hold_no_plan(model):
    names = set(model.state_dict())
    cut(model, "heads cut")
    assert len(set(model.state_dict()) - names) == 1


class MyClassifier(BertPreTrainedModel):
    """A class of a user's own."""

    def __init__(self, config):
        super().__init__(config)
        self.bert, self.out = BertModel(config), nn.Linear(32, 2)
        self.post_init()

    def forward(self, input_ids, attention_mask=None):
        return self.out(self.bert(input_ids, attention_mask).pooler_output)


@pytest.mark.one_family
def test_a_class_of_a_users_own_is_loaded_where_it_is_given(tiny, batch, tmp_path, caplog):
    torch.manual_seed(0)
    model = cut(MyClassifier(tiny.model("bert").config).eval())
    with caplog.at_level(logging.WARNING):
        save_pretrained(model, tmp_path)
    assert "`load_pretrained(..., model_class=MyClassifier)`" in caplog.text
    assert "model_class=MyClassifier" in (tmp_path / "README.md").read_text()
    loaded = load_pretrained(tmp_path, model_class=MyClassifier)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    assert type(loaded) is MyClassifier
    assert torch.equal(loaded(**inputs), model(**inputs))
    for other in (None, BertForSequenceClassification):
        with pytest.raises(ValueError, match=r"or the one that is given as `model_class=`, got \['MyClassifier'\]"):
            load_pretrained(tmp_path, model_class=other)


@pytest.mark.one_family
def test_a_head_of_the_modules_own_is_named(tiny, tmp_path, caplog):
    module = Module(tiny.model("bert", auto=AutoModel))
    save_pretrained(module, tmp_path)
    assert not caplog.records
    module.head = nn.Linear(32, 2)
    save_pretrained(module, tmp_path)
    assert "Not in it are the 2 parameters of the module's own, ['head.weight', 'head.bias']" in caplog.text
