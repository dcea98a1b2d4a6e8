"""Text for a terminal."""

from pathlib import Path

from callbacks.terminal import print_table, relative


def test_paths_are_shown_from_the_current_folder_on_where_they_are_below_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert relative(tmp_path / "runs/a") == Path("runs/a") == relative("runs/a")
    assert relative(tmp_path.parent / "other") == tmp_path.parent / "other"


def test_a_long_label_is_folded_numbers_are_not_and_no_escape_reaches_the_terminal(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    print_table(("label", "precision", "rows"), [("a" * 60, "0.9500", "10"), ("\x1b[31m[red]", "1.0000", "5")])
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 40 for line in lines)
    assert sum(line.count("a" * 5) > 0 for line in lines) > 1
    assert any("0.9500     10" in line for line in lines)
    assert any("\\x1b[31m[red]" in line for line in lines)
