"""docs/scikit-learn.md, run as it stands."""

import re
from pathlib import Path

import pytest

from tests.selection.helpers import config_file

pytest.importorskip("pandas")
PAGE = Path("docs/scikit-learn.md")


@pytest.mark.slow
def test_the_examples_run_and_say_what_the_page_says(monkeypatch, capfd):
    for name in ("iris_ova", "table_csv", "text_csv"):
        config_file(name)
    source = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE))
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))  # of the processes of n_jobs=2
    names: dict[str, object] = {}
    exec(compile(source, PAGE, "exec"), names)
    assert names["iris"].score(names["X"], names["y"]) > 0.9
    assert names["table"].score(names["frame"], names["leaves"]) == 1
    assert names["search"].best_params_["model.l2"] == 1e-4 and names["search"].best_score_ > 0.85
    assert names["halving"].n_resources_ == [5, 15]
    assert names["stack"].score(names["X"], names["y"]) > 0.9
    assert names["importance"].importances_mean.argmax() in (2, 3)  # the petals tell the species
    assert "['weather' 'music']" in capfd.readouterr().out
