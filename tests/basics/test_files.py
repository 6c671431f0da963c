"""Files that replace others."""

import os

import pytest

from axformer_lightning.basics import write_atomically


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_file_has_the_rights_that_the_users_umask_leaves(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "file", "text")
    finally:
        os.umask(before)
    assert [*tmp_path.iterdir()] == [tmp_path / "file"]
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode
