"""What stays on a real terminal of 80 and 100 columns, and in a pipe, after fit, test and predict."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tools.terminal import run_in_terminal, screen

ROOT = Path(__file__).parents[1]
TRAIN = [sys.executable, str(ROOT / "train.py")]
SETTINGS = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": ""}
NOISE = r"TPU|FLOPs|other params|Seed set|it/s|DataLoader|\d\.\d{7}|-0\.0+\b|model summary|Restor|Loaded model|stopped"
SCREENS = [("iris_binary", 80), ("table_csv", 100), ("text_csv", 80)]


def shown(arguments, columns, folder, **environment):
    """The lines that a command leaves on a terminal, and its raw output."""
    status, output = run_in_terminal([*TRAIN, *arguments], columns, folder, **SETTINGS, **environment)
    assert status == 0, output
    lines = [line for line in screen(output, columns) if line]
    assert [line for line in lines if re.search(NOISE, line) or len(line) > columns] == []
    assert str(folder) not in output
    return lines, output


def commands(config, *options):
    place = ("--config", f"configs/{config}.yaml")
    return ["fit", *place, *options], *([name, *place, *options, "--ckpt_path", "best"] for name in ("test", "predict"))


@pytest.fixture
def folder(tmp_path):
    for name in ("configs", "tests"):  # in which configs name their files
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(("config", "columns"), SCREENS)
def test_fit_test_and_predict_on_a_terminal(folder, config, columns):
    fit, test, predict = commands(config)
    lines, output = shown(fit, columns, folder)
    first, *second = [line for line in lines if line.startswith("Epoch")]  # the second fit is on all rows
    assert len(second) == (config != "iris_binary")
    assert re.match(r"Epoch (\d+)/\d+ ━+ [\d:]+ train/loss 0\.\d{3} val/loss 0\.\d{3}", first)
    counted = [int(number) for number in re.findall(r"Epoch (\d+)/", output.partition("now again")[0])]
    assert counted[0] == 1 and counted == sorted(counted)
    number = lines.index(first)
    assert re.fullmatch(r"W \([\d, ]+\), b \(\d+,\): [\d,]+ parameters", lines[number - 1])
    best, where, *rest = lines[number + 1 :]
    chosen = "the last state" if config == "table_csv" else r"epoch \d+, val/loss \d\.\d{4}, val/accuracy \d\.\d{4}"
    assert re.fullmatch(rf"best\.ckpt: {chosen}", best)
    assert where == f"run directory: runs/{config}/version_0"
    run = f"runs/{config}/version_{len(second)}"
    for name in re.findall(r"[\w.]+\.(?:png|gif)", "".join(rest)):
        assert (folder / run / "figures" / name).is_file()
    named = f"{run}/config.yaml" if second else f"configs/{config}.yaml"
    assert f"next: python train.py test --config {named} --ckpt_path best" in "".join(rest)
    assert f"next: tensorboard --logdir {run}" in rest

    lines, _ = shown(test, columns, folder)
    assert not any(line.startswith("Testing") for line in lines)
    metrics = [line.split() for line in lines if re.match(r" test\w*/", line)]
    assert metrics[0][0] == "test/accuracy"
    assert all(re.fullmatch(r"\d+\.\d{4}|\S+e-\d\d", value) for _, value in metrics)
    header = next(
        number for number, line in enumerate(lines) if line.split()[1:] == ["precision", "recall", "F1", "rows"]
    )
    classes = [line.split() for line in lines[header + 2 :] if line.startswith(" ")]
    assert sum(int(row[-1]) for row in classes) == int(re.search(r"of (\d+) test rows right", "".join(lines))[1])

    lines, output = shown(predict, columns, folder)
    assert not any("Predicting" in line for line in lines)
    assert output.rindex("Predicting") < output.index("label")  # the table comes when the bar has gone
    assert " for" in lines[0] or " for" in lines[1]
    assert sum(set(line) == {"─"} for line in lines) == 1
    assert re.search(rf"\d predictions? in {run}/predictions.jsonl", " ".join(lines))


@pytest.mark.slow
def test_a_pipe_gets_the_same_lines_without_a_bar_and_a_dumb_terminal_no_colour(folder):
    fit, *_ = commands("iris_binary", "--figures.enabled", "false", "--trainer.max_epochs", "3")
    on_terminal, _ = shown(fit, 100, folder)
    dumb, output = shown(fit, 100, folder, TERM="dumb", NO_COLOR="1")
    assert "\x1b" not in output
    done = subprocess.run([*TRAIN, *fit], cwd=folder, capture_output=True, text=True, check=True)
    in_pipe = [line.rstrip() for line in done.stdout.splitlines() if line]
    assert done.stderr == ""

    def without_bar(lines):
        return [re.sub(r"version_\d", "version_N", line) for line in lines if not line.startswith("Epoch")]

    assert without_bar(on_terminal) == without_bar(dumb) == without_bar(in_pipe)
    assert not any(line.startswith("Epoch") for line in in_pipe)
