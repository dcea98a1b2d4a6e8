import gc
import sys

import pytest

import train
from cli.lightning_cli import TemplateCLI


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["fit", "--help"], ["fit"]),
        (["--config", "x.yaml", "fit"], ["fit", "predict", "test", "validate"]),
        ([], ["fit", "predict", "test", "validate"]),
    ],
)
def test_only_the_parser_of_the_subcommand_that_is_called_is_built(monkeypatch, arguments, names):
    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    assert sorted(TemplateCLI.subcommands()) == names


def test_what_was_imported_is_not_searched_for_garbage_and_what_comes_after_is():
    try:
        main = train.load_main()
        assert main.__module__ == "cli.main"
        assert gc.get_freeze_count() > 100_000
        assert gc.isenabled()
    finally:
        gc.unfreeze()
