"""A stranger follows docs/template.md word for word, in a copy of the tree."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs/template.md").read_text(encoding="utf-8")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PL_GLOBAL_SEED"} | {"OMP_NUM_THREADS": "1"}


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)


CLEAN_UP, COMMANDS = blocks("bash")
DELETIONS = re.findall(r"^\| [^|]+ \| `(git rm [^`]+)` \|$", GUIDE, re.MULTILINE)
FILES = dict(
    zip(
        re.findall(r"^`?.*?`((?:datamodules|logreg|configs)/\w+\.\w+)`:$", GUIDE, re.MULTILINE),
        [*blocks("python"), *blocks("yaml")],
        strict=True,
    )
)
VARIANTS = {"iris and xor": DELETIONS[:1], "text": DELETIONS[1:], "both": DELETIONS}


def run(folder, *command):
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def shell(folder, line):
    return run(folder, "bash", "-euc", line.replace("python train.py", f"{sys.executable} train.py"))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """`project(variant)` is a copy of the tree after those deletions, with the wine data and the network added."""
    done = {}

    def make(variant):
        if variant not in done:
            folder = tmp_path_factory.mktemp("project")
            names = run(ROOT, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
            for name in filter(None, names):
                if (ROOT / name).is_file():
                    (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    (folder / name).write_bytes((ROOT / name).read_bytes())
            shell(folder, "git init -q && git add -A && git -c user.name=x -c user.email=x@y commit -qm start")
            shell(folder, CLEAN_UP)
            for command in VARIANTS[variant]:
                shell(folder, command.replace("git rm", "git rm --ignore-unmatch") if variant == "both" else command)
            for name, text in FILES.items():
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_text(text, encoding="utf-8")
            done[variant] = folder
        return done[variant]

    return make


def test_the_guide_names_what_it_adds():
    assert list(FILES) == ["datamodules/wine.py", "logreg/two_layers.py", "configs/wine.yaml"]
    assert len(DELETIONS) == 2
    assert len(FILES["datamodules/wine.py"].splitlines()) <= 18
    assert all(len(line) <= 120 for text in FILES.values() for line in text.splitlines())


@pytest.mark.parametrize("variant", [pytest.param(v, marks=[] if v == "both" else pytest.mark.slow) for v in VARIANTS])
def test_what_remains_collects(project, variant):
    output = run(project(variant), sys.executable, "-m", "pytest", "--collect-only", "-q")
    assert "tests/test_imports.py" in output


def test_wine_and_the_network_fit_test_and_predict(project):
    folder = project("both")
    output = shell(folder, COMMANDS)
    metrics = (folder / "runs/wine/version_0/test_metrics.json").read_text()
    assert float(re.search(r'"test/accuracy": ([\d.]+)', metrics)[1]) > 0.9
    assert (folder / "runs/wine/version_0/predictions.jsonl").read_text().count("\n") == 36
    assert "test rows right" in output


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_what_remains_passes(project, variant):
    output = run(project(variant), sys.executable, "-m", "pytest", "-q", "-x")
    assert re.search(r"\d+ passed", output)
