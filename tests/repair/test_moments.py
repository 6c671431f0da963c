"""Moments are added, saved and loaded."""

import pytest
import torch
from safetensors.torch import save_file

from axformer_lightning.repair import BlockMoments, Moments


@pytest.fixture
def tokens():
    return torch.randn(30, 4, generator=torch.Generator().manual_seed(0)) + 2


@pytest.fixture
def moments(tokens):
    return Moments(
        {(0, "attention"): BlockMoments.of(tokens), (2, "feed_forward"): BlockMoments.of(tokens[:, :3])}, (1, 2)
    )


def test_moments_are_those_of_the_tokens(tokens):
    found = BlockMoments.of(tokens)
    assert (found.tokens, found.columns, found.sums_MM.dtype) == (30, 4, torch.float64)
    torch.testing.assert_close(found.mean, tokens.double().mean(0))
    torch.testing.assert_close(found.covariance, torch.cov(tokens.double().T, correction=0))
    torch.testing.assert_close(found.second, tokens.double().T @ tokens.double() / 30)


def test_parts_add_up_to_the_whole(tokens):
    parts = BlockMoments.of(tokens[:7]) + BlockMoments.of(tokens[7:])
    torch.testing.assert_close(parts.sums_MM, BlockMoments.of(tokens).sums_MM)


def test_what_is_saved_comes_back_to_the_bit(moments, tmp_path):
    moments.save(tmp_path / "moments.safetensors")
    loaded = Moments.load(tmp_path / "moments.safetensors")
    assert (set(loaded.blocks), loaded.applications) == (set(moments.blocks), (1, 2))
    assert all(torch.equal(loaded.of(*name).sums_MM, moments.of(*name).sums_MM) for name in moments.blocks)


def test_blocks_can_be_read_one_at_a_time(moments, tmp_path):
    moments.save(tmp_path / "moments.safetensors")
    assert set(Moments.load(tmp_path / "moments.safetensors", [(0, "attention")]).blocks) == {(0, "attention")}
    with pytest.raises(ValueError, match=r"Cannot read the moments .*feed_forward"):
        Moments.load(tmp_path / "moments.safetensors", [(0, "feed_forward")])


def test_another_file_is_refused_and_named(tmp_path):
    save_file({"weight": torch.ones(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors.*Delete the file"):
        Moments.load(tmp_path / "other.safetensors")


def test_a_block_without_moments_is_named(moments):
    with pytest.raises(ValueError, match=r"moments of the attention block of layer 1, got those of .*measure_moments"):
        moments.of(1, "attention")
