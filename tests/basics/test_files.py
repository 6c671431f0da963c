"""Files that replace others."""

import os
import stat

import pytest
import torch
from safetensors.torch import save_file

from axformer_lightning.basics import replacing, write_atomically


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_file_has_the_rights_that_the_users_umask_leaves(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert [*tmp_path.iterdir()] == [tmp_path / "file"]
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_what_replaces_a_file_has_the_rights_of_a_new_one_whoever_writes_it(tmp_path, umask):
    before = os.umask(umask)
    try:
        with replacing(tmp_path / "weights") as temporary:
            save_file({"a": torch.ones(2)}, temporary)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "weights").stat().st_mode) == 0o666 & ~umask
