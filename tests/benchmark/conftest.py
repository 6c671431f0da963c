"""A tiny model, and invented rows in GLUE's official layout."""

import pytest
import torch

from axformer_lightning.benchmark import main
from axformer_lightning.tasks import TASKS, load_model
from axformer_lightning.tasks.demo import demo_pairs
from tests.tasks.official import FOLDERS, official

TINY = {
    "model_type": "bert", "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 24, "initializer_range": 0.5, "max_position_embeddings": 96,
}  # fmt: skip
ROWS, LENGTH = 40, 96


@pytest.fixture(scope="session")
def directory(tmp_path_factory):
    """Holds a model in `model/` and MRPC's files in `glue/`."""
    made = tmp_path_factory.mktemp("benchmark")
    folder = made / "glue" / FOLDERS["mrpc"]
    folder.mkdir(parents=True)
    for seed, (part, size) in enumerate({"train": ROWS, "dev": 4}.items()):
        (folder / f"{part}.tsv").write_text(official("mrpc", part, size, seed), encoding="utf-8")
    torch.manual_seed(2)  # one that accepts some candidates, tries parts and rejects some early
    texts = [text for pair in demo_pairs(ROWS, 0) for text in pair[:2]]
    model, tokenizer = load_model(TASKS["mrpc"], config=TINY, texts=texts, max_length=LENGTH)
    model.save_pretrained(made / "model")
    tokenizer.save_pretrained(made / "model")
    return made


@pytest.fixture
def run(directory):
    """Runs a command with what all of them need."""

    def start(command, *options, task="mrpc"):
        data = ["--task", task, "--data-dir", directory / "glue", "--max-length", LENGTH, "--threads", "1"]
        return main([command, *map(str, (*data, *options))])

    return start
