"""Every lesson shows what it says will happen, and its command prints it."""

import ast
import inspect
import math
import re
import sys

import pytest

from examples import lessons


def column(rows, name):
    return [row[name] for row in rows]


@pytest.mark.slow
def test_without_zeroing_the_loss_swings_grows_or_vanishes_and_stays_finite():
    rows = lessons.forget_to_zero()
    zeroed, swings = column(rows, "all at once, zeroed"), column(rows, "all at once")
    grows, separable = column(rows, "batches of 10"), column(rows, "digits")
    assert zeroed == sorted(zeroed, reverse=True)
    assert swings[1] < zeroed[1]
    assert max(swings[2:]) > 0.95 * swings[0]
    assert zeroed[-1] < 0.13 < 3 * 0.13 < min(swings[2:])
    assert min(grows[2:]) > 5 * grows[0]
    assert max(separable[-2:]) < 1e-3
    assert all(map(math.isfinite, [*swings, *grows, *separable]))


def test_sorted_rows_end_in_a_model_that_prefers_the_last_class():
    shuffled, in_order = lessons.sorted_rows()
    assert shuffled["validation accuracy"] > 0.93
    assert in_order["validation accuracy"] < 0.75
    assert (lessons.digits()[3] == 9).sum() == 48
    assert abs(shuffled["answers 9"] - 48) < 5
    assert in_order["answers 9"] > 2 * 48
    assert in_order["its largest loss"] > 3 * shuffled["its largest loss"]
    assert in_order["its smallest loss"] < shuffled["its smallest loss"] / 3


def test_a_large_start_begins_above_a_blind_guess_and_ends_worse():
    small, large, huge = lessons.init_scale()
    assert small["first loss"] == pytest.approx(math.log(10), abs=0.02)
    assert huge["first loss"] > large["first loss"] > 2 * math.log(10)
    assert small["validation accuracy"] - 0.15 > large["validation accuracy"] > huge["validation accuracy"] + 0.5
    assert 1 < large["first mean |grad|"] / small["first mean |grad|"] < 10  # neither vanished nor exploded


def test_a_long_rate_overshoots_and_a_short_one_crawls():
    *rows, highest = lessons.learning_rate()
    short, right, long = ([row[f"loss at {lr:g}"] for row in rows] for lr in (0.003, 3.0, 30.0))
    assert right[2] < 0.125
    assert right[-1] < 0.12
    assert long[-2] > long[-3]  # it jumps
    assert min(long) > 2 * right[-1]
    assert highest["loss at 30"] > 2 * highest["loss at 3"]
    assert short[2] > 0.9 * short[0]


@pytest.mark.slow
def test_fewer_rows_give_a_worse_gradient_more_steps_and_a_longer_epoch():
    whole, some, one = rows = lessons.batch_size()
    assert column(rows, "steps") == [5, 30, 6485]
    assert whole["gradient's error"] < 1e-5
    assert 0.4 < some["gradient's error"] < 0.6
    assert one["gradient's error"] > 5
    assert whole["validation accuracy"] < some["validation accuracy"] < one["validation accuracy"]
    assert one["s in all"] > max(whole["s in all"], some["s in all"])


@pytest.mark.slow
def test_no_penalty_learns_wrong_labels_by_heart_and_too_much_learns_nothing():
    off, right, too_much = lessons.l2()
    assert off["training accuracy"] > 0.9 > right["training accuracy"] > 0.8
    assert right["validation accuracy"] > off["validation accuracy"] + 0.1
    assert max(too_much["training accuracy"], too_much["validation accuracy"]) < 0.2
    assert (too_much["commonest answer"], too_much["given, of 500"]) == (2, 499)  # 28 of the 200 labels are 2
    assert max(off["given, of 500"], right["given, of 500"]) < 70
    assert off["mean |W|"] > right["mean |W|"] > 10 * too_much["mean |W|"]


def test_random_labels_leave_nothing_to_learn_but_the_rows_themselves():
    rows = lessons.random_labels()
    loss, gradient = column(rows, "loss"), column(rows, "mean |grad|")
    assert loss[0] == pytest.approx(math.log(3), abs=0.01)
    assert loss == sorted(loss, reverse=True)
    assert loss[3] > 0.8  # step 20, the article's last
    assert loss[-1] > 0.6
    assert gradient == sorted(gradient, reverse=True)
    assert gradient[-1] > 0


def test_a_second_sigmoid_keeps_the_loss_high_and_the_gradient_of_a_wrong_row_small():
    once, twice = lessons.double_sigmoid()
    assert twice["loss, 1000 steps"] > 5 * once["loss, 1000 steps"]
    assert once["gradient at z = 8"] > 0.999
    assert twice["gradient at z = 8"] < 0.001
    assert lessons.sigmoid(lessons.sigmoid(lessons.torch.tensor(100.0))) < 0.74


def test_epsilon_caps_the_loss_at_16_and_takes_the_gradient_away():
    rows = lessons.epsilon()
    for row in rows[:3]:
        assert row["loss with ε"] == pytest.approx(row["loss from z"], rel=1e-3)
    worst = rows[-1]
    assert worst["loss from z"] == pytest.approx(30)
    assert worst["loss with ε"] == pytest.approx(-math.log(1e-7), abs=0.01)
    assert worst["gradient from z"] == pytest.approx(1)
    assert worst["gradient with ε"] < 1e-5


def test_raw_softmax_gives_nan_and_minus_infinity_where_log_softmax_is_exact():
    ordinary, overflow, underflow, small = lessons.raw_softmax()
    assert ordinary["softmax, raw"] == "0.705, 0.259, 0.035"
    assert ordinary["its logarithm"] == ordinary["log_softmax"]
    assert overflow["softmax, raw"].startswith("nan")
    assert overflow["log_softmax"] == "0, -1000, -1000"
    assert "-inf" in underflow["its logarithm"]
    assert "inf" not in underflow["log_softmax"]
    assert small["softmax, raw"] == "1, 1e-30, 1e-30"
    assert small["its logarithm"] == small["log_softmax"]


def test_accuracy_hides_that_the_rare_class_is_never_found():
    majority, plain, balanced = lessons.majority_class()
    assert (majority["accuracy"], majority["recall"], majority["F1"]) == (0.95, 0, 0)
    assert plain["accuracy"] == 0.95
    assert plain["recall"] <= 0.1
    assert balanced["accuracy"] < 0.9
    assert balanced["recall"] == 0.9
    assert balanced["F1"] > plain["F1"]


def test_a_nudge_changes_the_loss_by_the_gradient():
    rows = lessons.nudge()
    assert column(rows, "change of the loss / ε") == pytest.approx(column(rows, "W.grad[i, j]"), rel=1e-5)
    assert max(column(rows, "difference")) < 1e-6
    assert min(map(abs, column(rows, "W.grad[i, j]"))) > 0.01


def test_the_graph_holds_the_operations_of_the_forward_pass_in_reverse():
    nodes = [node.strip().removesuffix("Backward") for node in column(lessons.graph(), "node")]
    assert nodes == ["Neg", "Mean", "Index", "LogSoftmax", "Add", "Mm", "AccumulateGrad", "AccumulateGrad"]


def test_a_forgotten_flag_is_an_error_but_behind_data_and_a_replaced_w_fails_one_step_later():
    requires_grad, in_place, data, replaced = lessons.forgotten_flags()
    assert "does not require grad" in requires_grad["PyTorch says"]
    assert "in-place operation" in in_place["PyTorch says"]
    assert data == {"the line": data["the line"], "losses": "1.0986, 0.9125, 0.7749", "PyTorch says": "nothing"}
    assert replaced["losses"] == "1.0986, 0.9125"
    assert "'float' and 'NoneType'" in replaced["PyTorch says"]


def test_gradients_of_four_quarters_add_up_to_that_of_all_rows():
    distance = column(lessons.accumulate(), "largest difference from the gradient of 300 rows")
    assert min(distance[:3]) > 0.1
    assert distance[3] < 1e-6


def test_predicting_without_autograd_keeps_nothing_and_answers_the_same():
    tracked, untracked = lessons.predict()
    assert tracked["MB kept for backward"] > 10
    assert untracked["MB kept for backward"] == 0
    assert tracked["argmax of logits = of softmax"] == untracked["argmax of logits = of softmax"] == "True"


def test_xor_ends_at_log_2_below_a_rate_of_8_and_climbs_above():
    crawls, usual, below, above, far = lessons.xor()
    assert crawls["loss at step 200"] > 0.9
    for row in (usual, below):
        assert row["loss at step 200"] == pytest.approx(math.log(2), abs=1e-4)
    assert 0.71 < above["loss at step 100"] < 0.72
    assert far["loss at step 200"] > 3
    assert all(value > math.log(2) - 1e-6 for row in (usual, below, above, far) for value in list(row.values())[1:-1])


def test_the_largest_curvature_of_xor_is_a_quarter():
    x, y = lessons.torch.tensor([[-1.0, -1], [-1, 1], [1, -1], [1, 1]]), lessons.torch.tensor([0, 1, 1, 0])

    def loss(w):
        return lessons.binary_cross_entropy_with_logits(x @ w, y)

    hessian = lessons.torch.autograd.functional.hessian(loss, lessons.torch.zeros(2))
    assert 2 / lessons.torch.linalg.eigvalsh(hessian).max().item() == pytest.approx(8)


def test_the_libraries_are_the_lines_by_hand():
    *swapped, sklearn = lessons.libraries()
    assert [row["in place of the lines by hand"] for row in swapped[:3]] == [
        "nn.Linear",
        "optim.SGD",
        "CrossEntropyLoss",
    ]
    assert max(column(swapped, "largest difference of W")) < 1e-6
    assert sklearn["largest difference of W"] < 1e-3


def test_a_seed_decides_the_start_the_order_and_the_end():
    first, again, other = lessons.seed()
    assert first == again
    assert (
        first["end, largest difference from the first run"] == 0 < other["end, largest difference from the first run"]
    )
    assert first["W[0] at the start"] != other["W[0] at the start"]
    assert first["first rows"] != other["first rows"]


def test_broadcasting_copies_nothing_and_gradients_have_the_shapes_of_their_parameters():
    found = {row["tensor"]: row for row in lessons.shapes()}
    assert found["b.expand(256, 151)"]["stride"] == "(0, 1)"
    assert found["b.expand(256, 151)"]["kB"] == found["b"]["kB"]
    assert found["W.grad"]["shape"] == found["W"]["shape"] == "(10000, 151)"
    assert found["x @ W + b"]["shape"] == "(256, 151)"


def test_a_penalised_bias_pulls_probabilities_towards_one_half():
    spared, penalised = lessons.bias()
    assert spared["mean probability of the rare class"] == pytest.approx(0.05, abs=0.001)
    assert 0.4 < penalised["mean probability of the rare class"] < 0.5


def test_resampling_finds_as_many_rare_rows_as_class_weights():
    plain, weights, resampled = lessons.resampling()
    assert plain["recall"] == 0.1
    assert weights["recall"] == resampled["recall"] == 0.9
    assert 80 < resampled["rare rows in the last epoch"] < 120


def test_the_last_batch_is_smaller_and_counts_by_its_rows():
    *batches, mean, weighed, whole = lessons.last_batch()
    assert column(batches, "rows") == [128, 128, 44]
    assert weighed["loss"] == pytest.approx(whole["loss"], abs=1e-6)
    assert abs(mean["loss"] - whole["loss"]) > 1e-4


def test_the_gradient_is_the_steepest_of_all_directions():
    gradient, steepest, flattest, down = lessons.steepest()
    assert steepest["degrees"] == gradient["degrees"]
    assert steepest["slope"] == pytest.approx(gradient["slope"], rel=1e-3)
    assert (flattest["degrees"] - gradient["degrees"]) % 180 == 90
    assert (down["degrees"] - gradient["degrees"]) % 360 == 180


def test_columns_are_printed_in_digits_that_a_person_reads():
    assert lessons.texts([1000.0, 0.5]) == ["1,000", "0.5"]
    assert lessons.texts([0.123456, 5.0, 0.0]) == ["0.1235", "5.0000", "0"]
    assert lessons.texts([9.633e-07, 0.0]) == ["1e-06", "0"]
    assert lessons.texts([123.456, 1.0]) == ["123.5", "1.0"]
    assert lessons.texts([3, "three"]) == ["3", "three"]


# The command


def test_every_lesson_has_a_test_and_says_what_to_expect():
    tree = ast.parse(inspect.getsource(sys.modules[__name__]))
    called = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert set(lessons.LESSONS) <= called
    for lesson in lessons.LESSONS.values():
        assert re.search(r"^ *Expect ", lesson.__doc__, re.MULTILINE)  # Python 3.13 takes the indentation off


def test_a_lesson_prints_what_to_expect_and_what_happened(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lessons", "nudge"])
    lessons.main()
    printed = capsys.readouterr().out
    assert "Expect autograd's derivative" in printed
    assert "W.grad[i, j]" in printed
    assert printed.count("-1.1083") == 2


def test_without_a_name_all_lessons_are_listed(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lessons"])
    lessons.main()
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(lessons.LESSONS)


def test_an_unknown_lesson_is_refused_with_the_names_to_choose_from(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["lessons", "everything"])
    with pytest.raises(SystemExit) as end:
        lessons.main()
    assert end.value.code == 2
    assert "invalid choice: 'everything' (choose from" in capsys.readouterr().err
