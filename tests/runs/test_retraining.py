"""Training a model once more, outside of a run."""

import copy
from pathlib import Path

import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from omegaconf import OmegaConf

from axformer_lightning.runs import train_again
from axformer_lightning.runs.retraining import GRADIENT_CLIP
from axformer_lightning.tasks import TASKS, load_model, texts_of
from axformer_lightning.tasks.demo import demo_pairs

FEATURES = Features({"text_a": Value("string"), "text_b": Value("string"), "label": ClassLabel(names=["0", "1"])})
TINY = {
    "model_type": "bert", "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24,
    "max_position_embeddings": 64,
}  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    return Dataset.from_list(
        [dict(zip(("text_a", "text_b", "label"), pair, strict=True)) for pair in demo_pairs(64, 0)], features=FEATURES
    )


@pytest.fixture
def make(rows):
    torch.manual_seed(0)
    model, tokenizer = load_model(TASKS["mrpc"], config=TINY, texts=texts_of(rows), max_length=64)

    def trained(**options):
        again = copy.deepcopy(model)
        options = {"epochs": 1, "learning_rate": 1e-3, "batch_size": 16, "max_length": 64, **options}
        train_again(again, TASKS["mrpc"], rows, tokenizer, **options)
        return torch.nn.utils.parameters_to_vector(again.parameters())

    return torch.nn.utils.parameters_to_vector(model.parameters()).clone(), trained


def test_the_same_seed_gives_the_same_weights(make):
    before, trained = make
    once = trained(seed=1)
    torch.rand(3)  # wherever the global random state stands
    assert torch.equal(once, trained(seed=1))
    assert not torch.equal(once, trained(seed=2))
    assert not torch.equal(once, before)


def test_more_epochs_learn_more(make, rows):
    before, trained = make
    assert not torch.equal(trained(epochs=2), trained(epochs=1))
    assert torch.equal(trained(epochs=1, learning_rate=0.0), before)


def test_global_random_states_stay(make):
    _, trained = make
    state = torch.get_rng_state()
    trained()
    assert torch.equal(torch.get_rng_state(), state)


def test_gradients_are_clipped_as_in_a_run():
    trainer = OmegaConf.load(Path(__file__).parents[2] / "conf" / "trainer" / "default.yaml")
    assert trainer.gradient_clip_val == GRADIENT_CLIP


def test_a_batch_has_samples(make):
    _, trained = make
    with pytest.raises(ValueError, match="batch_size"):
        trained(batch_size=0)
