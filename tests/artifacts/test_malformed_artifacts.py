"""Damaged artifacts: refused by an error that names the file, or loaded as they were saved."""

import copy
import json
import os
import random
import shutil

import pytest
import torch

from axformer_lightning.artifacts import load_pretrained, save_pretrained
from axformer_lightning.surgery import apply_plan_

FILES = ("config.json", "model.safetensors", "axformer_plan.json")
SUMS = "SHA256SUMS"
ODD_VALUES = (None, True, -1, 0, 1, 1.5, "x", [], {}, 2**70, float("nan"), ["x"], {"0": 1})


def change(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize("name", [*FILES, SUMS])
@pytest.mark.parametrize("count", [40, pytest.param(2000, marks=pytest.mark.exhaustive)])
def test_a_flipped_bit_is_noticed_wherever_it_is(sealed, outcome, name, count):
    content, generator = (sealed / name).read_bytes(), random.Random(name)
    for _ in range(count):
        damaged = bytearray(content)
        damaged[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        (sealed / name).write_bytes(damaged)
        # A flip in the sums themselves may be of no account: a line may end in another kind of line break.
        assert outcome(sealed) in ({"refused", "same"} if name == SUMS else {"refused"})


@pytest.mark.parametrize("name", [*FILES, SUMS])
@pytest.mark.parametrize("count", [20, pytest.param(1000, marks=pytest.mark.exhaustive)])
def test_a_truncated_file_is_noticed_wherever_it_ends(sealed, outcome, name, count):
    content, generator = (sealed / name).read_bytes(), random.Random(name)
    for length in (0, len(content) - 2, *(generator.randrange(len(content) - 1) for _ in range(count))):
        (sealed / name).write_bytes(content[:length])
        assert outcome(sealed) == "refused"
    (sealed / name).write_bytes(content)
    assert outcome(sealed) == "same"


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_artifact_is_noticed(tiny, cut, sealed, outcome, name, tmp_path):
    save_pretrained(apply_plan_(tiny.model("bert", "sdpa", seed=1), cut.axformer_plan), tmp_path / "other")
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


@pytest.mark.slow_but_first
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("count", [50, pytest.param(1500, marks=pytest.mark.exhaustive)])
def test_without_sums_a_damaged_file_is_refused_or_leaves_a_model_that_runs(unsealed, outcome, name, count):
    content, generator = (unsealed / name).read_bytes(), random.Random(name)
    found = []
    for _ in range(count):
        damaged = bytearray(content)
        damaged[generator.randrange(min(len(content), 6000))] ^= 1 << generator.randrange(8)
        (unsealed / name).write_bytes(damaged)
        found.append(outcome(unsealed))
    assert "refused" in found


@pytest.mark.slow
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
