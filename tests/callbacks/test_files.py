"""Files that are written whole or not at all."""

import pytest

from callbacks.files import atomic_write_text


def test_a_failed_write_leaves_the_old_file_whole_and_nothing_beside_it(tmp_path):
    path = tmp_path / "new" / "file.txt"
    atomic_write_text(path, "first")
    with pytest.raises(UnicodeEncodeError):
        atomic_write_text(path, "second \ud800")  # half a character cannot be written
    assert path.read_text() == "first"
    assert [p.name for p in path.parent.iterdir()] == ["file.txt"]


def test_a_symbolic_link_is_replaced_and_its_target_left_alone(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("keep")
    link.symlink_to(target)
    atomic_write_text(link, "new")
    assert not link.is_symlink()
    assert (target.read_text(), link.read_text()) == ("keep", "new")
