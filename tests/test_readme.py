"""The documents for newcomers: what they show is the source, what they print is real, and what they name exists."""

import inspect
import io
import os
import re
import shlex
import shutil
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path
from pydoc import locate

import lightning as L
import pytest
import yaml

from callbacks.run.checkpoints import RelocatableModelCheckpoint
from logreg.softmax import SoftmaxRegression

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
TEMPLATE = ROOT / "docs/template.md"  # names files that it lets the reader make; tests/test_template.py follows it
DOCUMENTS = [README, ROOT / "CONTRIBUTING.md", *sorted({*ROOT.glob("docs/*.md")} - {TEMPLATE})]
EVERY_PAGE = [*DOCUMENTS, ROOT / "CHANGELOG.md", TEMPLATE]
SEVERAL_PROCESSES = "--trainer.devices"
IN_A_RUN = re.compile(r"config\.yaml|(runs|checkpoints|figures)(/.*)?")  # of what is named, not in the checkout

CONFIGS = sorted([*ROOT.glob("configs/**/*.yaml"), *ROOT.glob("cli/templates/configs/*.yaml")])
each_config = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def text_of(document):
    return document.read_text(encoding="utf-8")


def commands(document):
    """The arguments of each train.py that a document calls, in its order; comments and what follows `&&` left out."""
    # With an option: "train.py fit, per epoch" in a table is none.
    lines = re.findall(r"train\.py ((?:fit|validate|test|predict) --[^`\n]*|--help(?=[`\n]))", text_of(document))
    return [shlex.split(line.partition("&&")[0], comments=True) for line in lines]


def code_spans(document):
    """What stands between single backticks, outside of code blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text_of(document), flags=re.DOTALL | re.MULTILINE))


def named_paths(document):
    """The files and folders of the checkout that a document names, in code spans and in commands."""
    tops = "|".join(re.escape(path.name) for path in ROOT.iterdir() if path.is_dir())
    words = re.findall(r"[\w./*-]+", " ".join(code_spans(document)))
    words += re.findall(r"(?:configs|tests|examples)/[\w./-]+", text_of(document))
    pattern = re.compile(rf"(?:{tops})/.*|[\w/-]+\.(?:py|md|yaml|yml|toml)")
    paths = {word.rstrip(".,/") for word in words if pattern.fullmatch(word) and not IN_A_RUN.fullmatch(word)}
    return sorted(paths)


def options():
    """The names of all options below --trainer, --checkpoint, --model and --data, of the classes that configs name."""
    classes = {"trainer": {L.Trainer}, "checkpoint": {RelocatableModelCheckpoint}, "model": set(), "data": set()}
    for path in ROOT.glob("configs/*.yaml"):
        config = yaml.safe_load(text_of(path))
        for group in ("model", "data"):
            cls = locate(config[group]["class_path"])
            classes[group] |= {parent for parent in cls.__mro__ if "__init__" in vars(parent)}
    names = {group: {name for cls in classes[group] for name in inspect.signature(cls).parameters} for group in classes}
    return {f"{group}.{name}" for group in names for name in names[group]} | {"model.help", "data.help"}


@pytest.fixture
def newcomer(cli, monkeypatch, tmp_path):
    """Runs a command as it stands in a document, and what it is given besides; its runs go to a temporary folder."""
    shutil.copy(ROOT / "tests/data/sentences.csv", tmp_path / "intents.csv")

    def run(arguments, *more):
        config = Path(arguments[arguments.index("--config") + 1]) if "--config" in arguments else Path("none")
        arguments = [str(tmp_path / word) if word == "intents.csv" else word for word in arguments]
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"will it rain\nplay some jazz\n")))
        if arguments[-1].endswith("help") or any(word.endswith(".help") for word in arguments):
            with pytest.raises(SystemExit) as end:
                cli(*arguments)
            assert end.value.code == 0
        else:
            cli(*arguments, *more, "--trainer.default_root_dir", tmp_path / "runs" / config.stem)
        return tmp_path / "runs" / config.stem

    return run


def needs_missing_data(arguments):
    if any("text_shards" in word for word in arguments):
        return find_spec("datasets") is None
    return any("clinc150" in word for word in arguments) and not os.environ.get("CLINC150_DIR")


@pytest.mark.parametrize(
    "document",
    [README, *(pytest.param(path, marks=pytest.mark.slow) for path in DOCUMENTS[1:])],
    ids=lambda path: path.name,
)
def test_every_command_runs(newcomer, document):
    for arguments in commands(document):
        if SEVERAL_PROCESSES in arguments or needs_missing_data(arguments):
            continue
        epochs = 2 if "last" in arguments else 1
        newcomer(arguments, *(["--trainer.max_epochs", epochs] if arguments[0] == "fit" else []))


@each_document
def test_the_options_of_commands_for_several_devices_exist(cli, capsys, document):
    for arguments in commands(document):
        if SEVERAL_PROCESSES in arguments:
            with pytest.raises(SystemExit) as end:
                cli(*arguments, "--print_config")
            assert end.value.code == 0
            assert "strategy: ddp" in capsys.readouterr().out


@pytest.mark.slow
def test_the_output_in_the_readme_is_what_the_commands_print(newcomer, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    console = re.search(r"^```console\n(.*?)^```", text_of(README), re.DOTALL | re.MULTILINE)[1]
    sessions = re.findall(r"^\$ python train\.py (.*)\n((?:[^$].*\n)*)", console, re.MULTILINE)
    assert [shlex.split(command)[0] for command, _ in sessions] == ["fit", "test", "predict"]
    for command, output in sessions:
        words = shlex.split(command)
        run = newcomer(words, *(["--figures.enabled", "true"] if words[0] != "predict" else []))
        printed = capfd.readouterr().out.replace(str(run), f"runs/{run.name}/version_0").splitlines()
        assert output.splitlines()
        shown = [line.rstrip() for line in printed]
        assert [line for line in output.splitlines() if line not in shown] == []


@pytest.mark.slow
def test_the_python_in_the_page_on_use_runs_as_it_stands(newcomer, monkeypatch, tmp_path):
    for package in ("skops", "onnx"):
        pytest.importorskip(package)
    page = ROOT / "docs/use.md"
    for command in commands(page):  # the last one leaves the newest run
        newcomer(command)
    monkeypatch.chdir(tmp_path)  # in which its runs/ is
    names = {}
    for block in re.findall(r"^```python\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE):
        exec(block, names)
        for call, comment in re.findall(r"^(classifier.*)  # (\[\[.*)", block, re.MULTILINE):
            said = re.findall(r'\("([\w ]+)", ([\d.]+)\)', comment)
            assert said
            assert eval(call, names)[0][: len(said)] == [(name, pytest.approx(float(n), abs=0.06)) for name, n in said]
    assert {path.name for path in tmp_path.glob("model.*")} == {"model.skops", "model.onnx", "model.pt2"}


def test_the_six_steps_in_the_readme_are_the_source():
    blocks = re.findall(r"^```python\n(.*?)^```", text_of(README), re.DOTALL | re.MULTILINE)
    assert blocks == [textwrap.dedent(inspect.getsource(SoftmaxRegression.training_step))]
    assert len(blocks[0].splitlines()) <= 12


def test_the_readme_is_short_and_has_the_two_lines_that_ci_runs():
    lines = text_of(README).splitlines()
    assert len(lines) <= 110
    assert all(len(line) <= 120 for line in lines if line.startswith("|"))
    assert len(commands(README)) >= 10
    install, test = [line for line in lines if line.startswith("python3 -m venv")]
    assert "pip install" in install
    assert "train.py fit" in install
    assert 'pip install -q -e ".[dev]"' in test
    assert "-m pytest" in test


@each_document
def test_every_file_python_name_and_option_that_a_document_names_exists(document):
    paths, spans = named_paths(document), code_spans(document)
    assert paths
    assert [path for path in paths if not any(ROOT.glob(path.rstrip("/")))] == []
    names = [span for span in spans if re.fullmatch(r"(logreg|datamodules|callbacks|cli)(\.\w+)+", span)]
    assert [name for name in names if locate(name) is None] == []
    found = re.findall(r"(?<![\w-])(?:--)?((?:trainer|checkpoint|model|data)\.[a-z]\w*)", " ".join(spans))
    assert set(found) - options() == set()


@pytest.mark.parametrize("document", sorted(ROOT.glob("docs/*.md")), ids=lambda path: path.name)
def test_every_page_is_on_the_site(document):
    assert re.search(rf"^  - .+: {document.name}$", text_of(ROOT / "mkdocs.yml"), re.MULTILINE)


@pytest.mark.parametrize("document", EVERY_PAGE, ids=lambda path: path.name)
def test_every_relative_link_resolves(document):
    links = re.findall(r"\]\(([^)\s]+)\)", text_of(document))
    for file, _, anchor in (link.partition("#") for link in links if not link.startswith("https:")):
        target = document.parent / file if file else document
        assert target.exists(), f"{document.name} links to {file}"
        if anchor and not re.fullmatch(r"L\d+", anchor):  # of lines: tests/test_articles.py
            titles = re.findall(r"^#+ (.*)$", text_of(target), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles]


def test_the_configs_that_the_design_promises_are_there():
    promised = {"iris_binary", "iris_ova", "iris_imbalanced", "xor", "xor_interaction", "xor_mlp", "text_csv"}
    promised |= {"clinc150", "clinc150_article", "clinc150_best"}
    assert {path.stem for path in (ROOT / "configs").glob("*.yaml")} >= promised


@each_config
def test_config_fits_on_a_page_and_opens_with_its_purpose_its_command_its_time_and_what_to_expect(path):
    assert len(text_of(path).splitlines()) <= 40
    header = re.match(r"(#.*\n)*", text_of(path))[0].replace("#", " ")
    first, *_ = header.splitlines()
    assert len(first.split()) >= 5
    assert "python" not in first
    assert re.search(r"^ +python train\.py fit .*--config configs/", header, re.MULTILINE)
    assert re.search(r"(?i)seconds|minutes|\d s\b|\d min\b", header)
    assert re.search(r"Expect|expect", header)
