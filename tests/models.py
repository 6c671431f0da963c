"""Tiny, loud models of every family.

The default initialisation is so quiet that a broken mask moves the logits by less than a test tolerance; hence
the large ``initializer_range``, and random values wherever transformers starts with zeros or ones.
"""

from types import SimpleNamespace

import hypothesis
import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForImageClassification, AutoModelForSequenceClassification

from tests.conftest import IMPLEMENTATIONS, LAYOUTS, SAME_LAYOUT

transformers.utils.logging.disable_progress_bar()
torch.set_num_threads(1)
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, database=None, max_examples=60)
hypothesis.settings.load_profile("repeatable")

WORDS = {"vocab_size": 50, "max_position_embeddings": 64, "pad_token_id": 0}
SIZES = WORDS | {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
TINY = {
    "bert": SIZES,
    "roberta": SIZES | {"pad_token_id": 1},
    "xlm-roberta": SIZES | {"pad_token_id": 1},
    "camembert": SIZES | {"pad_token_id": 1},
    "electra": SIZES | {"embedding_size": 16},
    "distilbert": WORDS | {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48},
    "mpnet": SIZES | {"pad_token_id": 1},
    "deberta-v2": SIZES
    | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 8, "norm_rel_ebd": "layer_norm"},
    "modernbert": SIZES
    | {"local_attention": 6, "global_attn_every_n_layers": 2, "attention_bias": True, "mlp_bias": True}
    | dict.fromkeys(("bos_token_id", "cls_token_id", "eos_token_id", "sep_token_id"), 2),
    "albert": SIZES | {"embedding_size": 16, "num_hidden_groups": 3},
    "vit": {name: value for name, value in SIZES.items() if name not in WORDS} | {"image_size": 8, "patch_size": 2},
}


class Names(SimpleNamespace):
    """Where a family keeps its parts, relative to a layer."""

    def at(self, layer, part):
        """The name of a part, or of the part of a role, from the base model."""
        return f"{self.layers.format(layer)}.{getattr(self, part, part)}"


BERT_NAMES = Names(
    layers="encoder.layer.{}",
    self_attention="attention.self",
    weights="attention.self",
    readers=("attention.self.query", "attention.self.key", "attention.self.value"),
    attention="attention.output.dense",
    first="intermediate.dense",
    feed_forward="output.dense",
)
# Written down once more on purpose: the package's own table is what is tested.
NAMES = {
    **dict.fromkeys(("bert", *SAME_LAYOUT), BERT_NAMES),
    "distilbert": Names(
        layers="transformer.layer.{}",
        self_attention="attention",
        weights="attention",
        readers=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        attention="attention.out_lin",
        first="ffn.lin1",
        feed_forward="ffn.lin2",
    ),
    "mpnet": Names(
        layers="encoder.layer.{}",
        self_attention="attention.attn",
        weights="attention.attn.dropout",
        readers=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
        attention="attention.attn.o",
        first="intermediate.dense",
        feed_forward="output.dense",
    ),
    "deberta-v2": Names(
        layers="encoder.layer.{}",
        self_attention="attention.self",
        weights="attention.self.dropout",
        readers=("attention.self.query_proj", "attention.self.key_proj", "attention.self.value_proj"),
        attention="attention.output.dense",
        first="intermediate.dense",
        feed_forward="output.dense",
    ),
    "modernbert": Names(
        layers="layers.{}",
        self_attention="attn",
        weights="attn",
        readers=("attn.Wqkv",),
        attention="attn.Wo",
        first="mlp.Wi",
        feed_forward="mlp.Wo",
    ),
    "albert": Names(
        layers="encoder.albert_layer_groups.{}.albert_layers.0",
        self_attention="attention",
        weights="attention",
        readers=("attention.query", "attention.key", "attention.value"),
        attention="attention.dense",
        first="ffn",
        feed_forward="ffn_output",
    ),
    "vit": Names(
        layers="layers.{}",
        self_attention="attention",
        weights="attention",
        readers=("attention.q_proj", "attention.k_proj", "attention.v_proj"),
        attention="attention.o_proj",
        first="mlp.fc1",
        feed_forward="mlp.fc2",
    ),
}
LENGTHS = (12, 3, 7, 12, 5, 9)


def make_model(family, implementation="eager", auto=AutoModelForSequenceClassification, seed=0, **config):
    torch.manual_seed(seed)
    settings = AutoConfig.for_model(family, **TINY[family] | {"initializer_range": 0.5, "num_labels": 3} | config)
    if family == "vit" and auto is AutoModelForSequenceClassification:
        auto = AutoModelForImageClassification
    model = auto.from_config(settings, attn_implementation=implementation).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.5)
    return model


def make_batch(lengths=LENGTHS, pad_token_id=0, seed=0):
    """A padded batch in which every sample has its own words and a label of 0..2."""
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    words = torch.randint(5, 50, mask.shape, generator=generator)
    labels = torch.randint(0, 3, (len(lengths),), generator=generator)
    return {"input_ids": torch.where(mask == 1, words, pad_token_id), "attention_mask": mask, "labels": labels}


def make_images(count=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (count,), generator=generator)
    return {"pixel_values": torch.randn(count, 3, 8, 8, generator=generator), "labels": labels}


@pytest.fixture(scope="session", autouse=True)
def _unsynced():
    """Let no test wait for the disk; processes of their own do, and are killed at it (tests/runs/dying.py)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        yield


@pytest.fixture(params=[*LAYOUTS, *SAME_LAYOUT])
def family(request):
    return request.param


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request):
    return request.param


@pytest.fixture
def tiny():
    """Makes models and batches: ``tiny.model("bert", "sdpa", seed=1)``, ``tiny.batch(lengths=(3, 5))``."""
    return SimpleNamespace(
        model=make_model,
        batch=make_batch,
        images=make_images,
        pads={name: TINY[name].get("pad_token_id") for name in TINY},
    )


@pytest.fixture
def model(family, implementation):
    return make_model(family, implementation)


@pytest.fixture
def batch(family):
    return make_images() if family == "vit" else make_batch(pad_token_id=TINY[family]["pad_token_id"])


@pytest.fixture
def part(family):
    """Looks up a module by its layer and its role: ``part(model, 1, "attention")`` is the block's last linear layer."""

    def look_up(model, layer, role):
        return model.base_model.get_submodule(NAMES[family].at(layer, role))

    return look_up


@pytest.fixture
def names(family):
    return NAMES[family]


@pytest.fixture
def logits():
    """Returns the logits of a model for a batch."""

    def run(model, batch):
        with torch.no_grad():
            return model(**{name: value for name, value in batch.items() if name != "labels"}).logits

    return run


@pytest.fixture
def state():
    """Describes everything about a model that a reversible change has to put back."""

    def describe(model):
        return {
            "forwards": {name for name, module in model.named_modules() if "forward" in vars(module)},
            "hooks": {
                name
                for name, module in model.named_modules()
                if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks
            },
            "attributes": {name: sorted(vars(module)) for name, module in model.named_modules()},
            "children": {name: id(module) for name, module in model.named_modules()},
            "parameters": {name: id(parameter) for name, parameter in model.named_parameters()},
            "values": {name: value.numpy().tobytes() for name, value in model.state_dict().items()},
            "configs": {name: id(module.config) for name, module in model.named_modules() if hasattr(module, "config")},
            "implementation": model.config._attn_implementation,
            "training": {name: module.training for name, module in model.named_modules()},
        }

    return describe
