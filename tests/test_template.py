"""Projects that `python -m cli.new` writes: whole, without a trace of the rest, and as docs/template.md describes."""

import os
import re
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest

from callbacks import protocols
from cli import new

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs/template.md").read_text(encoding="utf-8")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PL_GLOBAL_SEED"}
ENVIRONMENT |= {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": ""}
TESTS = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
CAPABILITIES = frozenset(new.PARTS["about"])
COMMANDS = re.findall(r"^python train\.py (.*two_layers.yaml.*)$", GUIDE, re.MULTILINE)


def without(*removed):
    """All capabilities but these, and those that bring them along."""
    return frozenset(name for name in CAPABILITIES if not new.with_needs({name}) & {*removed})


def named(capabilities):
    return ",".join(sorted(capabilities)) or "nothing"


def run(folder, *command):
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """`project(capabilities)` is the folder of a new project that has them."""
    done = {}

    def make(capabilities=frozenset()):
        if capabilities not in done:
            done[capabilities] = tmp_path_factory.mktemp("new") / "petunias"
            new.write_project(done[capabilities], capabilities)
        return done[capabilities]

    return make


SINGLE = [without(name) for name in sorted(CAPABILITIES)]
PAIRS = [choice for pair in combinations(sorted(CAPABILITIES), 2) if (choice := without(*pair)) not in SINGLE]


def marked(mark, choices):
    return [
        pytest.param(choice, marks=getattr(pytest.mark, mark), id=named(choice)) for choice in dict.fromkeys(choices)
    ]


# The list of files


def test_every_file_of_this_project_has_one_owner_and_every_owner_has_files():
    files = [name for name in run(ROOT, "git", "ls-files", "-z").split("\0") if (ROOT / name).is_file()]
    assert [name for name in files if not new.owners(name)] == []
    assert [path for path in new.OWNERS if not any(file == path or file.startswith(f"{path}/") for file in files)] == []
    listed = [path for paths in new.PARTS["files"].values() for path in paths]
    assert len(listed) == len(set(listed))
    assert set().union(*new.OWNERS.values()) == CAPABILITIES | {"core", "this project", "files", "rows"}
    others = {name for name in files if "this project" not in new.owners(name)}
    assert others - set(new.sources_of(new.with_needs({"core", *CAPABILITIES}))) == set()


# The command


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["full"], "full is there and not empty: name a new folder"),
        (["full/file"], "file is there and not empty: name a new folder"),
        (["new", "--with", "table,tables"], f"--with: expected some of {', '.join(new.PARTS['about'])}, got tables"),
        (["class"], "class is no name for a new Python package"),
        (["torch"], "torch is no name for a new Python package"),
        (["3d"], "3d is no name for a new Python package"),
    ],
)
def test_a_full_folder_an_unknown_capability_and_a_taken_name_are_refused_in_one_line(
    monkeypatch, tmp_path, arguments, message
):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["new.py", *arguments])
    with pytest.raises(SystemExit) as end:
        new.main()
    assert end.value.code.startswith("error: ") and message in end.value.code and "\n" not in end.value.code
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "file"]


def test_help_and_the_page_list_the_capabilities():
    assert [name for name in CAPABILITIES if f"`{name}`" not in GUIDE] == []
    output = run(ROOT, sys.executable, "-m", "cli.new", "--help")
    assert all(f"  {name} " in output and text in output for name, text in new.PARTS["about"].items())


# Nothing and all


def test_nothing_chosen_leaves_no_trace_of_the_rest(project):
    folder = project()
    traces = [words for part, words in new.PARTS["traces"].items() if part != "core"]
    absent = re.compile("|".join([*traces, "lightning-logistic-regression", "made_up", "flowers"]))
    sources = new.sources_of({"core"})
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) == len(sources) < 80
    own = ("tests", folder.name)  # and the made-up package, to be replaced
    python = [path for path in files if path.suffix == ".py" and path.relative_to(folder).parts[0] not in own]
    assert sum(len(path.read_text().splitlines()) for path in python) <= 3_500
    assert [(path.name, found[0]) for path in files if (found := absent.search(path.read_text()))] == []


def test_a_project_with_nothing_passes_its_tests(project):
    tests = ("tests/test_petunias.py", "tests/datamodules/test_exports.py", "-k", "not net")
    assert "passed" in run(project(), *TESTS, *tests)


# Parts that are left out


@pytest.mark.parametrize("capabilities", [*marked("slow", [CAPABILITIES, *SINGLE]), *marked("nightly", PAIRS)])
def test_what_is_left_collects_and_its_configs_train(project, capabilities):
    run(project(capabilities), *TESTS, "-m", "", "-k", "test_configs or test_links")


@pytest.mark.parametrize("capabilities", [*marked("slow", [frozenset()]), *marked("nightly", SINGLE)])
def test_what_is_left_passes_its_tests(project, capabilities):
    assert int(re.search(r"(\d+) passed", run(project(capabilities), *TESTS))[1]) > 80


@pytest.mark.slow
@pytest.mark.parametrize("capabilities", [frozenset(), frozenset({"table", "linear", "reports"})], ids=named)
def test_what_is_left_has_no_lint_and_its_types_are_right(project, capabilities):
    for command in (["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]):
        run(project(capabilities), sys.executable, "-m", *command)


@pytest.mark.slow
def test_an_import_error_inside_a_folder_that_is_there_is_raised(tmp_path):
    new.write_project(tmp_path / "petunias", {"reports"})
    (tmp_path / "petunias/callbacks/reports/__init__.py").write_text("import nonsense_of_mine\n")
    command = [sys.executable, "train.py", "fit", "--config", "configs/petunias.yaml"]
    done = subprocess.run(command, cwd=tmp_path / "petunias", env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode != 0
    assert "nonsense_of_mine" in done.stderr


# The page


def test_the_contract_gives_every_member_of_every_protocol_with_its_signature():
    signatures = {member for kind in vars(protocols).values() if isinstance(kind, tuple) for member in kind}
    assert len(signatures) >= 9
    assert {line for line in signatures if f"`{line}`" not in GUIDE} == set()


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """A project with tables and reports, and the files of the page in it."""
    folder = tmp_path_factory.mktemp("page") / "flowers"
    new.write_project(folder, {"table", "linear", "reports"})
    page = (folder / "docs/template.md").read_text(encoding="utf-8")
    names = re.findall(r"`(flowers/\w+\.py|configs/\w+\.yaml)`(?:, .*\n.*)?:$", page, re.MULTILINE)
    blocks = re.findall(r"^```(?:python|yaml)\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    wine, *others = blocks
    for name, text in zip(["flowers/wine.py", *names[-3:]], [wine, *others], strict=True):
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.slow
def test_the_data_the_network_and_the_metric_of_the_page_fit_test_and_predict(followed):
    output = "".join(run(followed, sys.executable, "train.py", *command.split()) for command in COMMANDS)
    version = followed / "runs/two_layers/version_0"
    metrics = (version / "test_metrics.json").read_text()
    assert 1 >= float(re.search(r'"test/top_2": ([\d.]+)', metrics)[1]) >= 0.9
    assert float(re.search(r'"test/accuracy": ([\d.]+)', metrics)[1]) > 0.9
    assert (version / "predictions.jsonl").read_text().count("\n") == 30
    assert "leaves out" not in output
    [with_csv] = re.findall(r"^python train\.py (.*CSVLogger.*)$", GUIDE, re.MULTILINE)
    run(followed, sys.executable, "train.py", *with_csv.split())
    assert list(followed.glob("logs/**/metrics.csv"))
    wine = ("--model", "flowers.model.Model", "--data", "flowers.wine.WineDataModule", "--trainer.max_epochs", "1")
    assert "run directory: runs" in run(followed, sys.executable, "train.py", "fit", *wine)
    for command in (["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]):
        run(followed, sys.executable, "-m", *command)
    run(followed, *TESTS, "tests/test_configs.py")


@pytest.mark.slow
@pytest.mark.parametrize("file", ["flowers/model.py", "logreg/classifier_module.py"])  # a template, and of the core
def test_a_mistake_in_a_file_of_ones_own_shows_its_line(followed, tmp_path, file):
    folder = shutil.copytree(followed, tmp_path / "project", ignore=shutil.ignore_patterns("runs"))
    wrong = "x, target, weight = batch[:2]"
    lines = (folder / file).read_text().replace("x, target = batch[:2]", wrong, 1)
    (folder / file).write_text(lines)
    number = next(n for n, line in enumerate(lines.splitlines(), 1) if wrong in line)
    config = "configs/flowers_net.yaml" if file.startswith("logreg") else "configs/flowers.yaml"
    command = [sys.executable, "train.py", "fit", "--config", config]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: ") and "not enough values" in error
    assert error.endswith(f'File "{file}", line {number}; LOGREG_DEBUG=1 shows the whole traceback')


@pytest.mark.nightly
def test_a_renamed_folder_works_and_reads_the_checkpoints_from_before(followed, tmp_path):
    folder = shutil.copytree(followed, tmp_path / "project", ignore=shutil.ignore_patterns("runs"))
    fit, *others = COMMANDS[:3]
    run(folder, sys.executable, "train.py", *fit.split())
    [renaming] = re.findall(r"^```bash\n(git mv .*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
    run(folder, "bash", "-euc", f"git init -q && git add -A\n{renaming}")
    for command in others:
        run(folder, sys.executable, "train.py", *command.split())
    run(folder, *TESTS, "tests/models", "tests/cli", "tests/test_imports.py", "tests/test_configs.py")
