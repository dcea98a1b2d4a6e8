import importlib
import itertools
import json
import os
import platform
import subprocess
import sys
import time
from pydoc import locate
from types import SimpleNamespace

import pytest
import torch

from benchmarks import __main__ as run_all
from benchmarks import classifiers, gpu, measure, race, report, sentences, timed_command

MEASUREMENTS = [measure.summarize("a step", "ms", [3.0, 1.0, 2.0])]


def publish_example(out, name="step_time", **more):
    goals = [measure.Goal("ours / theirs", 1.4, at_most=1.5), measure.Goal("times faster", 12.0, at_least=20)]
    measure.publish(name, "How long?", MEASUREMENTS, goals, out, **more)


def test_contestants_take_turns_after_an_unrecorded_round():
    clock = itertools.count(1)
    values = measure.interleaved({"a": lambda: next(clock), "b": lambda: next(clock)}, rounds=2)
    assert values == {"a": [3, 5], "b": [4, 6]}


def test_a_ratio_compares_within_rounds_so_one_slow_round_does_not_matter():
    assert measure.ratio([2.0, 200.0, 2.0], [1.0, 100.0, 1.0]) == 2.0


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (measure.Goal("", 1.5, at_most=1.5), True),
        (measure.Goal("", 1.51, at_most=1.5), False),
        (measure.Goal("", 20.0, at_least=20), True),
        (measure.Goal("", 19.9, at_least=20), False),
        (measure.Goal("", float("inf"), at_most=1.5), False),
        (measure.Goal("", float("nan"), at_most=1.5), False),
        (measure.Goal("", float("nan"), at_least=1.5), False),
    ],
)
def test_a_goal_is_met_up_to_its_limit(goal, met):
    assert goal.met is met


def test_json_holds_versions_but_no_names_and_the_table_each_median_with_its_range_and_goal(tmp_path):
    publish_example(tmp_path)
    text = (tmp_path / "step_time.json").read_text(encoding="utf-8")
    machine = json.loads(text)["machine"]
    assert {"processor", "cores", "threads", "gpu", "python", "versions"} <= set(machine)
    assert {"torch", "lightning", "scikit-learn"} <= set(machine["versions"])
    assert [name for name in (tmp_path, measure.ROOT, f'"{platform.node()}"') if str(name) in text] == []
    table = report.markdown(tmp_path)
    assert "| ours / theirs | 1.4 | ≤ 1.5 | yes |" in table
    assert "| times faster | 12 | ≥ 20 | **no** |" in table
    assert "| a step | 2 | 1 to 3 | ms |" in table


def test_results_can_be_rendered_again_without_running(tmp_path, monkeypatch):
    points = [
        {"name": name, "seconds": seconds, "accuracy": 0.9}
        for name, seconds in (("lbfgs", 3.0), ("saga, max_iter=12", 1.5))
    ]
    publish_example(tmp_path, "time_to_accuracy", target=0.9, curve=[(0.2, 0.8), (0.4, 0.91)], points=points)
    image = tmp_path / "images/plot.png"
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--render", "--out", str(tmp_path), "--image", str(image)])
    run_all.main()
    assert "How long?" in (tmp_path / "table.md").read_text(encoding="utf-8")
    assert image.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", [*report.ORDER, "own_data", "shards", "__main__"])
def test_each_benchmark_has_a_help_text(name, monkeypatch, capsys):
    module = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as end:
        module.main()
    assert end.value.code == 0
    assert module.__doc__.split(":")[0] in capsys.readouterr().out


def test_bytes_of_a_step_by_hand():
    # 2 rows with 3 non-zeros in total, 5 classes: 5·3·5 = 75 numbers of W and its gradient, 4·2·5 = 40 of the logits
    # and their gradient, 2·3 = 6 of the batch; 4 bytes each.
    assert gpu.bytes_moved(num_samples=2, non_zeros=3, num_classes=5) == 4 * (75 + 40 + 6)


@pytest.mark.parametrize("lazy", [True, False])
def test_the_bare_loop_and_ours_are_the_same_arithmetic(lazy):
    from benchmarks.fits import minimal_fit
    from benchmarks.loops import BareLoop, SyntheticData
    from datamodules.sampler import ResumableBatchSampler
    from logreg.softmax import SoftmaxRegression

    data = SyntheticData(num_samples=20, num_features=30, num_classes=4, batch_size=8, non_zeros=3)
    model, bare = SoftmaxRegression(30, 4, lr=1.0, l2=0.01), BareLoop(30, 4, lazy=lazy)
    with torch.no_grad():
        bare.weight.copy_(model.W.dense())
    sampler = ResumableBatchSampler(20, 8, shuffle=True, seed=data.seed)
    bare.epoch(data.dataset("train"), sampler, epoch=0, lr=1.0, l2=0.01)
    timer = minimal_fit(model, data, max_epochs=1)
    assert timer.num_steps == 3
    assert len(timer.epoch_seconds) == 1 and len(timer.step_starts) == 3
    assert timer.seconds_per_step == timer.epoch_seconds[0] / 3
    torch.testing.assert_close(model.W.dense(), bare.dense())
    torch.testing.assert_close(model.b.data, bare.b.data)


def test_standard_output_is_the_fake_terminal_also_where_it_was_a_file(capfd):
    from benchmarks.fits import fake_terminal

    with fake_terminal():
        sys.stdout.reconfigure(errors="backslashreplace")  # as train.py does; a stream on the file would seek
        assert sys.stdout.isatty()
        print("discarded")
    assert not os.isatty(1)
    print("shown")
    assert capfd.readouterr().out == "shown\n"


def test_all_are_run_but_those_that_take_too_long_unless_named(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(
        run_all.subprocess, "run", lambda command, **_: calls.append(command[2]) or SimpleNamespace(returncode=0)
    )
    for arguments in ([], ["--only", "race"]):
        monkeypatch.setattr(sys, "argv", ["benchmarks", "--out", str(tmp_path), *arguments])
        run_all.main()
    named = ["race"]
    assert calls == [f"benchmarks.{name}" for name in [*(n for n in report.ORDER if n not in named), *named]]


TEXTS = ["will it snow", "is it going to rain", "pay my bill", "pay the rent: 3|4"] * 200
LABELS = ["weather: now", "weather: now", "pay", "pay"] * 200


@pytest.mark.parametrize("name", classifiers.PEERS)
def test_a_peer_at_each_end_of_its_grids_learns_and_gives_probabilities(name, tmp_path):
    pytest.importorskip(classifiers.PEERS[name].package)
    sentences.write_rows(tmp_path / "train.csv", zip(TEXTS, LABELS, strict=True))
    grids = [[*race.points(name, data)] for data in race.SIZES]
    for point in {str(point): point for grid in grids for point in (grid[0], grid[-1])}.values():
        file = tmp_path / "train.csv"
        process = [sys.executable, "-m", "benchmarks.race", "--fit", name, json.dumps(point), file, tmp_path]
        subprocess.run(process, check=True, cwd=measure.ROOT)  # fastText trains on from what it finds in memory
        proba = classifiers.PEERS[name].load(tmp_path, 2)(["pay my bill", "Will it snow?"])
        assert proba.argmax(1).tolist() == [0, 1]
        assert proba.sum(1) == pytest.approx([1, 1], abs=1e-5)


def test_of_the_points_near_the_best_the_cheapest_is_chosen(monkeypatch, tmp_path):
    figures = [(9.0, 0.9), (2.0, 0.899), (1.0, 0.897), (3.0, 0.8985)]  # CPU seconds, accuracy
    monkeypatch.setattr(race, "points", lambda *_: [{"epoch": epoch} for epoch in range(4)])

    def cost(name, point, *_):
        cpu, accuracy = figures[point["epoch"]]
        return race.Cost(cpu, 0, 0, accuracy, 0)

    monkeypatch.setattr(race, "measure_cost", cost)
    chosen = race.choose("clinc150", tmp_path, ["fastText"])["fastText"]
    assert chosen["choice"] == {"epoch": 1} and len(chosen["tried"]) == 4


def test_each_data_set_has_its_choices_and_they_are_points_of_the_grid():
    choices = json.loads(race.CHOICES.read_text(encoding="utf-8"))
    for data in race.SIZES:
        for name in (*classifiers.PEERS, race.OURS):
            assert choices[data][name]["choice"] in race.points(name, data)


def test_the_table_says_who_is_ahead():
    def cost(cpu, accuracy):
        return race.Cost(cpu, 1.0, 1e6, accuracy, 0.5)

    costs = {race.DEFAULT: [cost(4.0, 0.91)], "fastText": [cost(2.0, 0.88)]}
    measurements, goals = race.summarize({"clinc150": costs})
    ahead = {m.what for m in measurements if m.note == "ahead"}
    assert {"clinc150, cpu: fastText", f"clinc150, accuracy: {race.DEFAULT}"} <= ahead
    assert [(goal.figure, goal.met) for goal in goals] == [(2.0, False)]


def test_made_up_sentences_are_the_same_for_a_seed_and_read_back(tmp_path):
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        sentences.write_made_up(tmp_path / name, 500, seed)
    one, again, other = ((tmp_path / name).read_text() for name in ("one", "again", "other"))
    assert one == again != other
    texts, labels = sentences.read_rows(tmp_path / "one")
    assert len(texts) == len(labels) == 500 and len(set(labels)) == 77
    assert {len(text.split()) for text in texts} == set(range(5, 20))
    words = [word for text in texts for word in text.split()]
    assert words.count("w0") > 1.5 * words.count("w1") > 0  # by Zipf's law twice as frequent


def test_of_parts_within_each_other_only_the_inner_ones_time_goes_on(monkeypatch):
    now = iter([3.0, 4.0, 6.0, 10.0, 18.0])
    monkeypatch.setattr(timed_command.time, "perf_counter", lambda: next(now))
    stopwatch = timed_command.Stopwatch(started=1.0)
    with stopwatch.part("outer"), stopwatch.part("inner"):
        pass
    stopwatch.switch()
    assert stopwatch.seconds == {"the rest": 2 + 8, "outer": 1 + 4, "inner": 2}


@pytest.mark.parametrize("method", [method for methods in timed_command.METHODS.values() for method in methods])
def test_the_parts_of_a_command_are_there_to_be_timed(method):
    assert callable(locate(method))


@pytest.mark.slow
def test_the_parts_of_a_command_add_up_and_one_that_fails_is_not_measured(tmp_path):
    start = time.perf_counter()
    options = ["--config", "configs/iris_binary.yaml", "--trainer.max_epochs", "1"]
    parts = timed_command.measure_parts(
        ["fit", *options, "--trainer.default_root_dir", str(tmp_path / "run")], tmp_path
    )
    total = time.perf_counter() - start
    assert {"imports", "command line", "training", "checkpoints", "the rest"} <= set(parts)
    assert sum(parts.values()) == pytest.approx(total, rel=0.05)
    assert (tmp_path / "run/checkpoints/best.ckpt").is_file()
    with pytest.raises(RuntimeError, match="needs a trained model"):
        timed_command.measure_parts(["test", "--config", "configs/iris_binary.yaml"], tmp_path)
