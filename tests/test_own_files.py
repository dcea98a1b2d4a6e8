"""Files as people bring them, on the command line: what trains, what is warned of or refused, what comes back."""

import contextlib
import csv
import io
import json
import random
import sys
from collections import Counter

import pytest

from tests.conftest import refused
from tests.tools.runs import QUIET, ROOT, checkpoint, contents, read_csv, records

CONFIG = ROOT / "configs" / "text_csv.yaml"
SHORT = ["--trainer.max_epochs", 1, *QUIET]
WEATHER = [f"will there be {word} today" for word in ("snow", "rain", "sun", "wind", "fog", "hail", "frost", "ice")]
MUSIC = [f"play the {word} please" for word in ("song", "tune", "track", "album", "band", "chorus", "solo", "drum")]
ROWS = [(text, "weather") for text in WEATHER] + [(text, "music") for text in MUSIC]


def write(path, rows, header=("text", "label")):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture
def fit(cli, tmp_path, capsys):
    """Fits on a file; returns the run directory and what was said on standard error."""

    def run(file, *options):
        place = ["--trainer.default_root_dir", tmp_path / "run", "--data.train_file", file]
        capsys.readouterr()
        cli("fit", "--config", CONFIG, *place, *SHORT, *options)
        return tmp_path / "run", capsys.readouterr().err

    return run


def warnings(said):
    return [line for line in said.splitlines() if line.startswith("warning: ")]


# What trains


@pytest.mark.parametrize(("labels", "rows"), [(10, 2), (40, 5)])
def test_a_few_rows_for_each_label_train_as_they_are(fit, tmp_path, labels, rows):
    verbs = ("buy", "see", "ask", "get", "do")[:rows]
    texts = [(f"{verb} the thing{k}", f"intent {k}") for k in range(labels) for verb in verbs]
    run, _ = fit(write(tmp_path / "faq.csv", texts))
    assert (run / "checkpoints/best.ckpt").is_file()


def test_columns_and_labels_may_be_numbers_in_yaml_too(cli, tmp_path):
    rows = [(text, 2 if label == "weather" else 42) for text, label in ROWS] + [(f"is it {n}", 1) for n in "abcdefgh"]
    overlay = tmp_path / "own.yaml"
    overlay.write_text("data:\n  init_args: {text_column: 0, label_column: 1, oos_label: 42}\n")
    place = ["--trainer.default_root_dir", tmp_path / "run", "--data.train_file", write(tmp_path / "a.csv", rows, "01")]
    cli("fit", "--config", CONFIG, "--config", overlay, *place, *SHORT)
    assert (tmp_path / "run/checkpoints/best.ckpt").is_file()


def test_several_files_and_vectors_that_are_not_scaled_train(fit, cli, tmp_path):
    first, second = write(tmp_path / "a.csv", ROWS[::2]), tmp_path / "b.jsonl"
    second.write_text("\n".join(json.dumps({"text": text, "label": label}) for text, label in ROWS[1::2]))
    unlimited = ("--data.words.norm", "null", "--data.words.max_features", "null")
    run, _ = fit(json.dumps([str(first), str(second)]), *unlimited)
    assert "norm: null" in (run / "config.yaml").read_text()
    options = checkpoint(run)["TextDataModule"]["vectorizers"]["words"]["options"]
    assert (options["norm"], options["max_features"]) == (None, None)
    cli("test", "--config", run / "config.yaml", "--ckpt_path", run / "checkpoints/best.ckpt")
    assert (run / "test_metrics.json").is_file()


def test_a_saved_config_works_from_any_folder(cli, tmp_path):
    write(tmp_path / "mine.csv", ROWS)
    options = ["--data.train_file", "mine.csv", "--trainer.default_root_dir", "run"]
    cli("fit", "--config", CONFIG, *options, *SHORT, folder=tmp_path)
    cli("test", "--config", tmp_path / "run/config.yaml", "--ckpt_path", "best")
    assert (tmp_path / "run/test_metrics.json").is_file()


# What is warned of


def test_what_is_likely_to_be_a_mistake_is_said_in_one_line_each(fit, tmp_path):
    rows = [(text, "weather ") for text in WEATHER] + ROWS * 2 + [("play the song please", "game"), ("a b", "game")]
    run, said = fit(write(tmp_path / "a.csv", rows))
    [spaces] = warnings(said)
    assert "'weather' (16 rows), 'weather ' (8 rows) differ only by spaces" in spaces
    report = json.loads((run / "data_report.json").read_text())
    problems = Counter((line["problem"], line["split"]) for line in read_csv(run / "data_issues.csv"))
    assert all(problems["in_train", split] == report[split]["in_train"] > 0 for split in ("val", "test"))
    assert problems["conflicting", "train"] == report["train"]["conflicting"] > 0


def test_a_language_without_spaces_is_told_of_characters_and_trains_with_them(fit, tmp_path):
    weather = "今天会下雨吗 明天天气怎么样 外面冷不冷 后天有雪吗 气温多少度"
    music = "放一首歌 播放音乐 下一首歌 声音大一点 暂停播放"
    rows = [(text, "天气") for text in weather.split()] + [(text, "音乐") for text in music.split()]
    file = write(tmp_path / "zh.csv", rows)
    _, said = fit(file, "--data.words", "{ngram_range: [1, 2]}")
    [line] = warnings(said)
    assert "2 of 2 validation texts have no n-gram" in line
    characters = "{analyzer: char, ngram_range: [1, 2]}"
    assert f"--data.words null --data.chars '{characters}'" in line
    _, said = fit(file, "--data.words", "null", "--data.chars", characters)
    assert warnings(said) == []


def test_ordinary_sentences_are_warned_of_nothing(cli, tmp_path, capsys):
    cli("fit", "--config", CONFIG, "--trainer.default_root_dir", tmp_path / "run", *SHORT)
    assert warnings(capsys.readouterr().err) == []


# What is refused


def test_words_of_one_character_are_words_and_a_pattern_that_leaves_none_is_refused_with_a_remedy(fit, tmp_path):
    rows = [(pair, "甲") for pair in ("好 美", "美 佳", "佳 优", "优 好")]
    file = write(tmp_path / "a.csv", [*rows, *((pair, "乙") for pair in ("坏 差", "差 烂", "烂 坏"))])
    remedies = r"^error: .*empty vocabulary.* --data\.words\.token_pattern '.*', .*--data\.chars"
    with pytest.raises(SystemExit, match=remedies):
        fit(file, "--data.words", r"{ngram_range: [1, 2], token_pattern: '(?u)\b\w\w+\b'}")
    run, _ = fit(file)
    assert (run / "checkpoints/best.ckpt").is_file()


def test_an_out_of_scope_label_in_two_spellings_is_refused_by_both(fit, tmp_path):
    train = write(tmp_path / "train.csv", [*ROWS, ("what is love", "oos"), ("a joke", "oos")])
    test = write(tmp_path / "test.csv", [("book a table", "OOS"), ("snow", "weather")])
    said = refused(fit, train, "--data.test_file", test, "--data.oos_label", "oos")
    assert "label 'OOS' is in the test rows" in said and "'oos' is: make them one" in said


def coins(number):
    """Texts with labels that nobody can predict."""
    draw, words = random.Random(0), ["snow", "rain", "song", "tune", "fog", "solo"]
    return [(" ".join(draw.sample(words, 3)) + f" {n}", draw.choice("ab")) for n in range(number)]


def test_neither_a_test_nor_a_resume_takes_other_rows_than_those_of_the_fit(fit, cli, tmp_path):
    file = write(tmp_path / "coins.csv", coins(60))
    run, _ = fit(file)
    test = ("test", "--config", run / "config.yaml", "--ckpt_path", "best")
    more = ("fit", *test[1:4], "last", "--trainer.max_epochs", 2)
    for option in (["--data.seed", 7], ["--data.test_fraction", 0.3]):
        assert "other rows" in refused(cli, *test, *option)
    cli(*test)
    write(file, coins(75))
    before = contents(run)
    said = refused(cli, *test)
    assert "the checkpoint was trained on other rows (38 rows, " in said
    assert "(48 rows, " in said
    assert "to test on new rows, give them in a file of their own" in said
    said = refused(cli, *more)
    assert "to resume, give the run's own files, seed and fractions; to train on new rows, start a new run" in said
    assert contents(run) == before
    cli(*test, "--data.test_file", write(tmp_path / "new.csv", coins(75)[60:]))


def test_labels_that_the_model_does_not_know_are_named(fit, cli, tmp_path):
    run, _ = fit(write(tmp_path / "a.csv", ROWS))
    others = [("go home", "taxi"), ("a car", "taxi"), ("sing", "party"), ("cake", "party")]
    new = write(tmp_path / "b.csv", [*ROWS, *others])
    config = ["--config", run / "config.yaml", "--ckpt_path"]
    said = refused(cli, "fit", *config, "last", "--data.train_file", new, "--trainer.max_epochs", 2)
    assert "label 'party', 'taxi' of the train rows is none of the 2 that the model was trained on (music, w" in said
    said = refused(cli, "test", *config, "best", "--data.test_file", write(tmp_path / "c.csv", [("a table", "food")]))
    assert "label 'food' of the test rows is none of the 2" in said


# What comes back


def test_predictions_come_back_with_the_columns_of_their_file(fit, cli, tmp_path, capsys):
    other = [(f"who made {word}", "other") for word in ("paper", "glass", "steel", "bread")]
    run, _ = fit(write(tmp_path / "a.csv", [*ROWS, *other]), "--data.oos_label", "other", "--model.threshold", "none")
    rows = [["Q-17", "play the song", '=1+1, "quoted"'], ["Q-18", "", "two\r\nlines"], ["Q-19", "snow", "\r"]]
    file = write(tmp_path / "q.csv", rows, ("id", "text", "note"))
    cli("predict", "--config", run / "config.yaml", "--ckpt_path", "best", "--data.predict_file", file)
    with (run / "predictions.csv").open(newline="", encoding="utf-8") as written:
        header, *found = csv.reader(written)
    answers = ["label", "probability", "second_label", "second_probability", "out_of_scope"]
    assert header == ["id", "text", "note", *answers]
    assert [row[:3] for row in found] == rows
    assert found[1][3:] == [""] * 5
    lines = records(run)
    assert [line["text"] for line in lines] == ["play the song", "", "snow"]
    assert lines[1]["label"] is lines[1]["probability"] is lines[1]["out_of_scope"] is None
    for record, row in zip(lines[::2], found[::2], strict=True):
        label, p, second, second_p, out_of_scope = row[3:]
        assert [label, float(p)] == [record["label"], record["probability"]]
        assert (out_of_scope == "True") is record["out_of_scope"]
        other, *_ = [top for top in record["top_k"] if top["label"] != label]
        assert (second, float(second_p)) == (other["label"], other["probability"])
    assert "with all columns of the input in predictions.csv" in capsys.readouterr().out


def test_lines_of_text_get_an_answer_each_blank_ones_an_empty_one(fit, cli, tmp_path, monkeypatch):
    run, _ = fit(write(tmp_path / "a.csv", ROWS))
    content = b"will it rain\n\nplay a song\n\n\nstop\n"
    (tmp_path / "q.txt").write_bytes(content)
    answers = []
    for source in (tmp_path / "q.txt", "-"):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))
        with contextlib.redirect_stdout(io.StringIO()):
            cli("predict", "--config", run / "config.yaml", "--ckpt_path", "best", "--data.predict_file", source)
        answers.append(records(run))
    assert answers[0] == answers[1]
    assert [record["label"] is None for record in answers[0]] == [False, True, False, True, True, False]


# Tables

TABLE = ROOT / "configs" / "table_csv.yaml"
FLOWERS = [(5 + 0.1 * (n % 3) + n / 100, 4.5 - 3 * (n % 2) + n / 90, "ab"[n % 2]) for n in range(30)]


def test_a_table_of_two_columns_is_drawn_and_its_coefficients_are_written(cli, tmp_path):
    file = write(tmp_path / "flowers.csv", FLOWERS, ("sepal length", "petal length", "kind"))
    options = ["--data.train_file", file, "--data.label_column", "kind"]
    run = tmp_path / "run"
    cli("fit", "--config", TABLE, *options, "--trainer.default_root_dir", run, "--trainer.max_epochs", 4)
    assert (run / "figures/boundary_epoch_00004.png").is_file()
    assert [row["feature"] for row in read_csv(run / "coefficients.csv")] == [
        "sepal length",
        "petal length",
        "(intercept)",
    ]
    new = [("F1", 1.5, 5.1), ("F2", "", ""), ("F3", 4.6, 5.2)]
    rows = write(tmp_path / "new.csv", new, ("name", "petal length", "sepal length"))
    cli("predict", "--config", run / "config.yaml", "--ckpt_path", "best", "--data.predict_file", rows)
    found = [(row["name"], row["sepal length"], row["label"]) for row in read_csv(run / "predictions.csv")]
    assert found == [("F1", "5.1", "b"), ("F2", "", ""), ("F3", "5.2", "a")]


@pytest.mark.parametrize("model", ["BinaryLogit", "OneVsAll", "SoftmaxRegression"])
def test_every_model_trains_on_the_table_that_ships_and_reports_its_columns(cli, tmp_path, model):
    run = tmp_path / "run"
    place = ["--trainer.default_root_dir", run, "--trainer.max_epochs", 3]
    cli("fit", "--config", TABLE, "--model", f"logreg.{model}", *place)
    assert not list(run.glob("figures/boundary*"))  # four columns cannot be drawn
    assert (run / "coefficients.csv").is_file() is (model != "OneVsAll")  # two classifiers have no line of log-odds
    cli("test", "--config", run / "config.yaml", "--ckpt_path", "best")
    header = (run / "errors.csv").read_text().splitlines()[0]
    assert header == "age,months,plan,town,target,predicted,probability"
