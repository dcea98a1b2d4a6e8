import importlib
import json
import sys

import pytest

from benchmarks import __main__ as everything
from benchmarks import bandwidth, measure, report

FIGURES = [measure.figure("a step", "ms", [3.0, 1.0, 2.0])]


def fake(out, name="step_time", figure=1.4, **more):
    goals = [measure.Goal("ours / theirs", figure, at_most=1.5), measure.Goal("times faster", 12.0, at_least=20)]
    measure.publish(name, "How long?", FIGURES, goals, out, **more)


def test_contestants_take_turns_after_a_round_that_does_not_count():
    calls = []

    def contestant(name):
        def run():
            calls.append(name)
            return len(calls)

        return run

    taken = measure.interleaved({"a": contestant("a"), "b": contestant("b")}, rounds=2)
    assert calls == ["a", "b", "a", "b", "a", "b"]
    assert taken == {"a": [3, 5], "b": [4, 6]}


def test_a_figure_is_the_median_with_its_range():
    [figure] = FIGURES
    assert (figure.median, figure.low, figure.high, figure.rounds) == (2.0, 1.0, 3.0, 3)


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


@pytest.mark.parametrize(
    ("value", "text"), [(0.00376, "0.00376"), (1.5, "1.5"), (20, "20"), (16.34, "16.3"), (71234.5, "71,234")]
)
def test_a_number_has_three_digits_and_no_exponent(value, text):
    assert measure.number(value) == text


def test_json_says_versions_threads_and_kind_of_machine_but_not_which(tmp_path):
    fake(tmp_path)
    text = (tmp_path / "step_time.json").read_text(encoding="utf-8")
    machine = json.loads(text)["machine"]
    assert {"processor", "cores", "threads", "gpu", "python", "versions"} <= set(machine)
    assert {"torch", "lightning", "scikit-learn"} <= set(machine["versions"])
    import platform

    assert str(tmp_path) not in text
    assert str(measure.ROOT) not in text
    assert f'"{platform.node()}"' not in text


def test_the_table_marks_a_missed_goal_as_missed(tmp_path):
    fake(tmp_path)
    table = report.markdown(tmp_path)
    assert "| ours / theirs | 1.4 | ≤ 1.5 | yes |" in table
    assert "| times faster | 12 | ≥ 20 | **no** |" in table
    assert "| a step | 2 | 1 to 3 | ms |" in table


def test_everything_can_be_rendered_again_without_running(tmp_path, monkeypatch):
    points = [
        {"name": name, "seconds": seconds, "accuracy": 0.9}
        for name, seconds in (("lbfgs", 3.0), ("saga, max_iter=12", 1.5))
    ]
    fake(tmp_path, "time_to_accuracy", target=0.9, curve=[(0.2, 0.8), (0.4, 0.91)], points=points)
    image = tmp_path / "images/plot.png"
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--render", "--out", str(tmp_path), "--image", str(image)])
    everything.main()
    assert "How long?" in (tmp_path / "table.md").read_text(encoding="utf-8")
    assert image.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", [*report.ORDER, "__main__"])
def test_each_benchmark_explains_itself(name, monkeypatch, capsys):
    module = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as end:
        module.main()
    assert end.value.code == 0
    assert module.__doc__.split(":")[0] in capsys.readouterr().out


def test_bytes_of_a_step_by_hand():
    # 2 rows with 3 non-zeros in all, 5 classes: 5·3·5 = 75 numbers of W and its gradient, 4·2·5 = 40 of logits and
    # theirs, 2·3 = 6 of the batch; 4 bytes each.
    assert bandwidth.bytes_moved(rows=2, non_zeros=3, classes=5) == 4 * (75 + 40 + 6)


def test_the_bare_loop_does_the_same_steps_shrinking_early_or_late():
    import torch

    from benchmarks.loops import BareLoop, MadeUpRows
    from datamodules.batches import ResumableBatchSampler

    data = MadeUpRows(rows=20, features=30, classes=4, batch_size=8, non_zeros=3)
    lazy, eager = BareLoop(30, 4, lazy=True), BareLoop(30, 4, lazy=False)
    with torch.no_grad():
        eager.W.copy_(lazy.W)
    for loop in (lazy, eager):
        loop.epoch(data.dataset("train"), ResumableBatchSampler(20, 8), number=0, lr=1.0, l2=0.01)
    torch.testing.assert_close(lazy.W, eager.W)
    torch.testing.assert_close(lazy.b, eager.b)


def test_the_bare_loop_and_ours_are_the_same_arithmetic():
    import torch

    from benchmarks.fits import slim_fit
    from benchmarks.loops import BareLoop, MadeUpRows
    from datamodules.batches import ResumableBatchSampler
    from logreg import SoftmaxRegression

    data = MadeUpRows(rows=20, features=30, classes=4, batch_size=8, non_zeros=3)
    model, bare = SoftmaxRegression(30, 4, lr=1.0, l2=0.01), BareLoop(30, 4)
    with torch.no_grad():
        bare.W.copy_(model.W)
    bare.epoch(
        data.dataset("train"), ResumableBatchSampler(20, 8, shuffle=True, seed=data.seed), number=0, lr=1.0, l2=0.01
    )
    watch = slim_fit(model, data, max_epochs=1)
    assert watch.num_steps == 3
    torch.testing.assert_close(model.W, bare.W)
    torch.testing.assert_close(model.b.data, bare.b.data)
