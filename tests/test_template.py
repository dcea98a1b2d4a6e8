"""A stranger follows docs/template.md word for word, in a copy of the tree."""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from callbacks import protocols

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs/template.md").read_text(encoding="utf-8")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PL_GLOBAL_SEED"}
ENVIRONMENT |= {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": ""}
TESTS = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)


ABOUT_THE_PROJECT, IRIS_AND_XOR, TEXT, SELECTION, SHARED = re.findall(
    r"^\| [^|]+ \| `(git rm .+)` \|$", GUIDE, re.MULTILINE
)
VARIANTS = {"iris and xor": [IRIS_AND_XOR], "text": [TEXT], "selection": [SELECTION]}
VARIANTS["both"] = [IRIS_AND_XOR, TEXT, SHARED]
COMMANDS, RENAMING = blocks("bash")
FILES = dict(
    zip(
        re.findall(r"`((?:datamodules|logreg|configs)/\w+\.\w+)`:$", GUIDE, re.MULTILINE),
        [*blocks("python"), *blocks("yaml")],
        strict=True,
    )
)


def run(folder, *command):
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def shell(folder, lines):
    return run(folder, "bash", "-euc", lines.replace("python train.py", f"{sys.executable} train.py"))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """`project(variant)` is a copy of the tree after those deletions, with the wine data and the network added."""
    done = {}

    def make(variant):
        if variant not in done:
            folder = tmp_path_factory.mktemp("project")
            names = run(ROOT, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
            for name in filter(lambda name: (ROOT / name).is_file(), names):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, folder / name)
            shell(folder, "git init -q && git add -A && git -c user.name=x -c user.email=x@y commit -qm start")
            for command in (ABOUT_THE_PROJECT, *VARIANTS[variant]):
                shell(folder, command)
            for name, text in FILES.items():
                (folder / name).parent.mkdir(exist_ok=True)  # git removes a folder with its last file
                (folder / name).write_text(text, encoding="utf-8")
            done[variant] = folder
        return done[variant]

    return make


some_variants = pytest.mark.parametrize(
    "variant", [pytest.param(v, marks=pytest.mark.slow if v == "both" else pytest.mark.nightly) for v in VARIANTS]
)


# The page


def test_data_and_network_are_as_short_as_the_guide_says():
    assert list(FILES) == ["datamodules/wine.py", "logreg/two_layers.py", "logreg/top_two.py", "configs/wine.yaml"]
    assert len(FILES["datamodules/wine.py"].splitlines()) <= 15
    network = FILES["logreg/two_layers.py"].partition("class ")[2]
    assert len(network.splitlines()) <= 5


def test_the_contract_gives_every_member_of_every_protocol_with_its_signature():
    kinds = [kind for kind in vars(protocols).values() if hasattr(kind, "_is_protocol")]
    signatures = {line for kind in kinds for line in protocols.missing(object(), kind)}
    assert len(signatures) >= 9
    assert {line for line in signatures if f"`{line}`" not in GUIDE} == set()


# The stranger


@some_variants
def test_what_remains_collects(project, variant):
    output = run(project(variant), *TESTS, "--collect-only")
    assert "tests/test_imports.py" in output
    assert "tests/cli/test_contracts.py" in output


@pytest.mark.slow
def test_wine_and_the_network_fit_test_and_predict(project):
    folder = project("both")
    fit, *evaluations = COMMANDS.splitlines()
    output = shell(folder, fit)
    with ThreadPoolExecutor() as both:
        output += "".join(both.map(partial(shell, folder), evaluations))
    metrics = (folder / "runs/wine/version_0/test_metrics.json").read_text()
    assert 1 >= float(re.search(r'"test/top_2": ([\d.]+)', metrics)[1]) >= 0.9
    assert float(re.search(r'"test/accuracy": ([\d.]+)', metrics)[1]) > 0.9
    assert (folder / "runs/wine/version_0/predictions.jsonl").read_text().count("\n") == 36
    assert "of 36 test rows right" in output
    assert "leaves out" not in output


@some_variants
def test_what_remains_passes(project, variant):
    output = run(project(variant), *TESTS)
    assert int(re.search(r"(\d+) passed", output)[1]) > 300


@pytest.mark.slow
def test_what_remains_has_no_lint_and_its_types_are_right(project):
    for command in (["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]):
        run(project("both"), sys.executable, "-m", *command)


MISTAKES = {  # in a file that the stranger has added, and in one that came with the project
    "datamodules/wine.py": ("wine = load_wine()", 'wine = open("wine.csv")', "No such file or directory: 'wine.csv'"),
    "logreg/classifier_module.py": ("x, target = batch[:2]", "x, target, weight = batch[:2]", "not enough values"),
}


@pytest.mark.slow
@pytest.mark.parametrize("file", MISTAKES)
def test_a_mistake_in_a_file_of_ones_own_shows_its_line(project, tmp_path, file):
    folder = shutil.copytree(project("both"), tmp_path / "project", ignore=shutil.ignore_patterns("runs", ".git"))
    right, wrong, message = MISTAKES[file]
    lines = (folder / file).read_text().replace(right, wrong, 1)
    (folder / file).write_text(lines)
    number = next(n for n, line in enumerate(lines.splitlines(), 1) if wrong in line)
    command = [sys.executable, *COMMANDS.splitlines()[0].split()[1:]]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: ") and message in error
    assert error.endswith(f'File "{file}", line {number}; LOGREG_DEBUG=1 shows the whole traceback')


@pytest.mark.nightly
def test_a_renamed_folder_works_and_reads_the_checkpoints_from_before(project):
    folder = project("both")
    shell(folder, f"{COMMANDS}git add -A\n{RENAMING}")
    shell(folder, "\n".join(line for line in COMMANDS.splitlines() if "fit" not in line))
    run(folder, *TESTS, "tests/models", "tests/cli", "tests/test_imports.py", "tests/test_configs.py")
