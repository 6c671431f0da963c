from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from axformer_lightning.benchmark.rules import split_of
from axformer_lightning.runs.configured import rows_of


@pytest.fixture
def sentences(tmp_path):
    """SST-2's files: twenty sentences, each with three of its phrases, and a phrase that stands in all of them."""
    (tmp_path / "SST-2").mkdir()
    lines = ["the film"]
    for i in range(20):
        lines += [f"the film number {i} is good", f"number {i}", f"{i} is good", f"{i} is"]
    labelled = "".join(f"{line}\t{i % 2}\n" for i, line in enumerate(lines))
    (tmp_path / "SST-2" / "train.tsv").write_text("sentence\tlabel\n" + labelled, encoding="utf-8")
    (tmp_path / "SST-2" / "dev.tsv").write_text("sentence\tlabel\nno film\t0\nfilms\t1\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "size"), [("max_search_samples", 0), ("max_train_samples", 0), ("max_train_samples", 1)]
)
def test_too_few_samples_are_refused_by_the_setting_that_asked_for_them(sentences, name, size):
    data = {"search_fraction": 0.25, "max_search_samples": None, "max_train_samples": None, name: size}
    cfg = {"task": {"name": "sst2"}, "data_dir": str(sentences), "data": data, "seed": 0, "predict_test": False}
    with pytest.raises(ValueError, match=f"`data.{name}`") as refused:
        rows_of(OmegaConf.create(cfg))
    assert "search_fraction" not in str(refused.value)


def test_a_run_decides_on_sentences_whose_phrases_it_is_not_trained_on(sentences):
    data = {"search_fraction": 0.25, "max_search_samples": None, "max_train_samples": None}
    cfg = {"task": {"name": "sst2"}, "data_dir": str(sentences), "data": data, "seed": 0, "predict_test": False}
    rows, train, search = rows_of(OmegaConf.create(cfg))
    assert len(search) == 5
    assert all(text.startswith("the film number") for text in search["text_a"])
    numbers = {text.split()[3] for text in search["text_a"]}
    assert {text for text in train["text_a"] if set(text.split()) & numbers} == set()
    assert len(train) == 15 * 4 + 1  # and what stands in other sentences, too

    args = SimpleNamespace(task="sst2", model=".", rows=None, search_fraction=0.25, seed=0)
    trained, held_out = split_of(args, rows)  # a benchmark finds the rows that the run held out
    assert (trained["text_a"][:], held_out["text_a"][:]) == (train["text_a"][:], search["text_a"][:])
