"""Files of an artifact stand in their place all at once, or not at all."""

import pytest

from axformer_lightning.artifacts import files, save_pretrained
from tests.artifacts.test_artifact import cut

pytestmark = pytest.mark.one_implementation


@pytest.mark.one_family
@pytest.mark.parametrize("options", [{"variant": "fp32"}, {"max_shard_size": "2KB"}])
def test_what_makes_no_artifact_is_refused_and_touches_no_file(model, tmp_path, options):
    """Else the weights that were there before, or none, would stand beside the new plan."""
    cut(model).save_pretrained(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    model.classifier.bias.data.add_(1.0)
    with pytest.raises(ValueError, match=r"as one file 'model.safetensors', .*Leave out"):
        model.save_pretrained(tmp_path, **options)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.one_family
@pytest.mark.parametrize("own", [False, True])
def test_an_artifact_stays_where_writing_another_over_it_breaks_off(model, tmp_path, monkeypatch, own):
    def break_off(*args):
        raise OSError("no space left")

    cut(model)
    save_pretrained(model, tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    model.classifier.bias.data.add_(1.0)
    monkeypatch.setattr(files, "write_sums", break_off)
    with pytest.raises(OSError, match="no space left"):
        model.save_pretrained(tmp_path) if own else save_pretrained(model, tmp_path)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
