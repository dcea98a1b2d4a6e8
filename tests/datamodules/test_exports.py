"""`import datamodules` is cheap, and each name is imported from its own file when first used."""

import subprocess
import sys
from pathlib import Path

import pytest

import datamodules


@pytest.mark.parametrize(("name", "module"), datamodules._EXPORTS.items())
def test_every_exported_name_is_a_class_of_that_name(name, module):
    pytest.importorskip(f"datamodules.{module}", reason="deleted with its task")
    assert getattr(datamodules, name).__name__ == name


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'datamodules' has no attribute 'Nothing'"):
        _ = datamodules.Nothing
    assert not hasattr(datamodules, "Nothing")


def test_importing_the_package_imports_none_of_its_files():
    code = "import sys, datamodules; print([name for name in sys.modules if name.startswith('datamodules.')])"
    options = {"capture_output": True, "text": True, "check": True, "cwd": Path(__file__).parents[2]}
    assert subprocess.run([sys.executable, "-c", code], **options).stdout == "[]\n"
