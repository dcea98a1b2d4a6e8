"""Own sentences: what the vocabulary is fitted on, how splits are made, what a checkpoint keeps."""

import csv
import io
import itertools
import json
import random
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser
from scipy.sparse import hstack
from sklearn.feature_extraction.text import TfidfVectorizer

from datamodules import TextDataModule
from datamodules.sampler import BatchIndices
from datamodules.text.features import Ngrams
from datamodules.text.recipe import recipe
from logreg.optimizers import DecayToZero
from logreg.softmax import SoftmaxRegression
from tests.tools.ready import ready

SUBJECTS = ["snow", "rain", "sun", "wind", "storm", "fog", "hail", "cloud", "frost", "thunder"]
SONGS = ["song", "tune", "track", "album", "record", "playlist", "band", "singer", "chorus", "melody"]
WEATHER = [(f"will there be {word} today", "weather") for word in SUBJECTS]
MUSIC = [(f"play the {word}, please", "music") for word in SONGS]
OTHER = [(f"who invented the {word}", "other") for word in ("wheel", "zip", "fork", "clock", "piano")]


def write(path, rows, header=("text", "label")):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


@pytest.fixture
def files(tmp_path):
    """Three files with two labels and an out-of-scope label."""
    parts = {"train": slice(0, 6), "val": slice(6, 8), "test": slice(8, 10)}
    rows = {name: WEATHER[part] + MUSIC[part] + OTHER[max(0, part.start - 5) :][:2] for name, part in parts.items()}
    return {f"{name}_file": write(tmp_path / f"{name}.csv", of_part) for name, of_part in rows.items()}


@pytest.fixture
def one_file(tmp_path):
    return write(tmp_path / "all.csv", WEATHER + MUSIC + OTHER)


def texts_of(data, split):
    dataset = data.dataset(split)
    return [described["text"] for described in data.describe(range(len(dataset)), split)]


def labels_of(data, split):
    return [data.class_names[number] for number in data.dataset(split).target.tolist()]


def everything(data, split):
    """All rows of a split as a dense matrix."""
    dataset = data.dataset(split)
    return dataset.gather(BatchIndices(torch.arange(len(dataset)), 0)).to_dense()


def through_a_file(state, path):
    torch.save(state, path)
    return torch.load(path, weights_only=True)


# --- vocabulary -----------------------------------------------------------------------------------------------------


def test_a_file_of_groups_gives_each_label_its_group_or_names_the_one_it_lacks(tmp_path, files):
    assert ready(TextDataModule(**files)).class_groups() is None
    (tmp_path / "groups.csv").write_text("group,label\nout,weather\nin,music\nnone,other\n")
    data = ready(TextDataModule(**files, groups_file=str(tmp_path / "groups.csv")))
    expected = {"music": "in", "weather": "out", "other": "none"}
    assert dict(zip(data.class_names, data.class_groups(), strict=True)) == expected
    (tmp_path / "groups.csv").write_text("group,label\nout,weather\n")
    with pytest.raises(ValueError, match=r"groups\.csv: expected a group for each label, got none for music, other"):
        data.class_groups()


def test_rows_of_every_split_are_the_vectors_of_its_texts(files):
    data = ready(TextDataModule(**files))
    for split in ("train", "val", "test"):
        expected = data.vectorize(texts_of(data, split)).toarray()
        assert torch.equal(everything(data, split), torch.from_numpy(expected))


def test_vocabulary_and_idf_are_of_the_training_texts_alone_words_first(files):
    words, chars = Ngrams(ngram_range=(1, 2)), Ngrams(analyzer="char_wb", ngram_range=(2, 3), sublinear_tf=True)
    data = ready(TextDataModule(**files, words=words, chars=chars))
    train, question = texts_of(data, "train"), ["play the rain album"]
    by_word = TfidfVectorizer(ngram_range=(1, 2), dtype=np.float32).fit(train)
    by_char = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 3), sublinear_tf=True, dtype=np.float32).fit(train)
    expected = hstack([by_word.transform(question), by_char.transform(question)], format="csr")
    assert (data.vectorize(question) != expected).nnz == 0
    assert data.feature_names == [*by_word.get_feature_names_out(), *by_char.get_feature_names_out()]
    assert not {"hail", "cloud", "frost"} & set(data.feature_names)  # of validation and test texts


def test_a_vocabulary_that_is_empty_after_min_df_is_refused_by_the_option_to_change(tmp_path, files):
    write(files["train_file"], [("snow today", "weather"), ("rain soon", "weather"), ("play song", "music")])
    write(files["val_file"], [("snow", "weather")])
    write(files["test_file"], [("snow", "weather")])
    for options, message in [
        ({"words": Ngrams(min_df=2)}, r"data\.words: .*no terms remain.*min_df"),
        ({"words": Ngrams(min_df=100)}, r"data\.words: .*min_df"),
        ({"words": Ngrams(token_pattern="[0-9]+")}, r"data\.words: empty vocabulary"),
        ({"chars": Ngrams(analyzer="char", ngram_range=(9, 9), min_df=2)}, r"data\.chars: .*no terms remain"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            _ = ready(TextDataModule(**files, **options)).num_features
        assert "\n" not in str(caught.value)


def test_batches_are_stratified_by_label_if_asked_for(files):
    plain, stratified = ready(TextDataModule(**files)), ready(TextDataModule(**files, stratified_batches=True))
    assert plain.train_dataloader().sampler.strata is None
    assert stratified.train_dataloader().sampler.strata.tolist() == stratified.dataset("train").target.tolist()


def test_feature_dropout_changes_training_rows_alone(files):
    plain, dropped = ready(TextDataModule(**files)), ready(TextDataModule(**files, feature_dropout=0.6))
    assert (everything(dropped, "train") != 0).sum() < 0.7 * (everything(plain, "train") != 0).sum()
    for split in ("val", "test", "predict"):
        assert torch.equal(everything(plain, split), everything(dropped, split))


# --- splits ---------------------------------------------------------------------------------------------------------


def test_given_splits_are_used_as_they_are_and_in_their_order(files):
    data = ready(TextDataModule(**files))
    found = zip(texts_of(data, "train"), labels_of(data, "train"), strict=True)
    assert [*found] == WEATHER[:6] + MUSIC[:6] + OTHER[:2]
    assert texts_of(data, "val") == [text for text, _ in WEATHER[6:8] + MUSIC[6:8] + OTHER[1:3]]
    assert texts_of(data, "test") == [text for text, _ in WEATHER[8:] + MUSIC[8:] + OTHER[3:5]]


def test_made_splits_are_disjoint_stratified_and_leave_no_row_out(one_file):
    data = ready(TextDataModule(one_file, val_fraction=0.25, test_fraction=0.2))
    parts = {split: texts_of(data, split) for split in ("train", "val", "test")}
    assert sorted(itertools.chain(*parts.values())) == sorted(text for text, _ in WEATHER + MUSIC + OTHER)
    assert {split: Counter(labels_of(data, split)) for split in parts} == {
        "train": {"weather": 6, "music": 6, "other": 3},
        "val": {"weather": 2, "music": 2, "other": 1},
        "test": {"weather": 2, "music": 2, "other": 1},
    }


def test_made_splits_are_a_function_of_the_seed(one_file):
    fractions = {"test_fraction": 0.3, "val_fraction": 0.3}
    held = [texts_of(ready(TextDataModule(one_file, seed=seed, **fractions)), "test") for seed in (1, 1, 2)]
    assert held[0] == held[1]
    assert set(held[0]) != set(held[2])


@pytest.mark.parametrize("given, made", [("test_file", "val"), ("val_file", "test")])
def test_where_one_file_is_missing_only_that_split_is_held_out_of_training(files, given, made):
    given_files = {name: files[name] for name in ("train_file", given)}
    data = ready(TextDataModule(**given_files, val_fraction=0.3, test_fraction=0.3))
    whole = ready(TextDataModule(**files))
    assert texts_of(data, given[:-5]) == texts_of(whole, given[:-5])
    assert sorted(texts_of(data, "train") + texts_of(data, made)) == sorted(texts_of(whole, "train"))


def test_a_label_with_a_single_row_cannot_be_split_and_the_line_names_the_remedies(tmp_path):
    path = write(tmp_path / "rows.csv", [*WEATHER, *MUSIC, ("alone", "odd")])
    with pytest.raises(ValueError, match=r"cannot hold out .* for test: .*or give a test_file") as caught:
        _ = ready(TextDataModule(path)).num_features
    assert "\n" not in str(caught.value)


# --- labels ---------------------------------------------------------------------------------------------------------


def test_labels_are_sorted_and_the_out_of_scope_label_is_last(files):
    data = ready(TextDataModule(**files, oos_label="music"))
    assert data.class_names == ["other", "weather", "music"]
    assert (data.oos_class, data.num_classes, data.class_counts) == (2, 3, [2, 6, 6])
    assert labels_of(data, "val") == ["weather"] * 2 + ["music"] * 2 + ["other"] * 2
    without = ready(TextDataModule(**files))
    assert (without.class_names, without.oos_class) == (["music", "other", "weather"], None)


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_label_seen_only_in_validation_or_test_is_refused(files, split):
    write(files[f"{split}_file"], [*WEATHER, ("turn it up", "volume")])
    with pytest.raises(ValueError, match=rf"label 'volume' is in the {split} rows but not in the training rows"):
        _ = ready(TextDataModule(**files)).class_names


def test_an_out_of_scope_label_may_be_in_validation_and_test_alone(files):
    write(files["train_file"], WEATHER[:6] + MUSIC[:6])
    data = ready(TextDataModule(**files, oos_label="other"))
    assert (data.class_names, data.class_counts) == (["music", "weather", "other"], [6, 6, 0])


def test_one_label_only_is_refused(tmp_path, files):
    path = write(tmp_path / "one.csv", WEATHER)
    with pytest.raises(ValueError, match=r"at least 2 labels.*\['weather'\]"):
        _ = ready(TextDataModule(path)).class_names
    path = write(tmp_path / "two.csv", WEATHER + OTHER)
    with pytest.raises(ValueError, match=r"at least 2 labels.*\['weather'\]"):
        _ = ready(TextDataModule(path, oos_label="other")).class_names


@pytest.mark.parametrize(("given", "label"), [("True", "true"), (True, "true"), ("42.0", "42"), (42, "42")])
def test_the_out_of_scope_label_is_written_as_labels_are(tmp_path, given, label):
    rows = [(f"{subject} {number}", name) for subject in SUBJECTS for number in range(3) for name in (given, "x", "y")]
    with (tmp_path / "train.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    data = ready(TextDataModule(str(tmp_path / "train.csv"), oos_label=given))
    assert data.class_names[data.oos_class] == label


def test_an_out_of_scope_label_that_no_row_has_is_refused(files):
    with pytest.raises(ValueError, match="oos_label 'oos' is the label of no row"):
        _ = ready(TextDataModule(**files, oos_label="oos")).class_names
    with pytest.raises(ValueError, match="oos_label 'Other' is the label of no row; there is 'other'"):
        _ = ready(TextDataModule(**files, oos_label="Other")).class_names


@pytest.mark.parametrize("kind", ["train", "val", "test"])
def test_a_bad_file_is_named_whichever_it_is(files, kind):
    Path(files[f"{kind}_file"]).write_bytes(b"sentence,label\nx,y\n")
    with pytest.raises(ValueError, match=rf"{kind}\.csv.*expected a column 'text'"):
        _ = ready(TextDataModule(**files)).num_features


# --- options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, message",
    [
        ({"feature_dropout": 1.0}, "feature_dropout must be at least 0 and below 1, got 1.0"),
        ({"feature_dropout": -0.1}, "feature_dropout must be"),
        ({"val_fraction": 0.0}, "val_fraction and test_fraction must be in"),
        ({"test_fraction": 1.5}, "val_fraction and test_fraction must be in"),
        ({"words": None}, "expected n-grams of words, of chars or of both"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"predict_inputs": ["a"], "predict_file": "a.txt"}, "expected predict_inputs or predict_file, got both"),
        ({"predict_inputs": ["a", " "]}, "expected no empty text"),
        ({"predict_inputs": []}, "expected at least one text"),
    ],
    ids=str,
)
def test_an_option_out_of_its_range_is_refused(one_file, options, message):
    with pytest.raises(ValueError, match=message):
        ready(TextDataModule(one_file, **options)).dataset("predict")


def test_no_training_file_is_refused_by_the_option_to_give():
    with pytest.raises(ValueError, match=r"--data\.train_file FILE"):
        TextDataModule().setup("fit")


# --- checkpoint -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words, chars",
    [
        (Ngrams(ngram_range=(1, 2), stop_words=["the"], max_features=20), None),
        (Ngrams(use_idf=False), None),
        (Ngrams(lowercase=False, token_pattern=r"\w+"), Ngrams(analyzer="char_wb", ngram_range=(2, 5), min_df=2)),
        (None, Ngrams(analyzer="char", ngram_range=(1, 3), strip_accents="unicode", max_df=0.9)),
    ],
    ids=["words", "no idf", "both", "chars"],
)
def test_a_checkpoint_gives_bit_identical_vectors_without_the_files(tmp_path, files, words, chars):
    fitted = ready(TextDataModule(**files, oos_label="other", words=words, chars=chars))
    state = through_a_file(fitted.state_dict(), tmp_path / "state.ckpt")
    questions = ["will it snow, Zoë?", "PLAY the song", "", "unknown"]
    expected = fitted.vectorize(questions)
    for name in files.values():
        Path(name).unlink()
    loaded = TextDataModule(train_file="gone.csv", predict_inputs=["will it snow"])  # and with other options
    loaded.load_state_dict(state)
    found = loaded.vectorize(questions)
    for part in ("indptr", "indices", "data"):
        assert getattr(found, part).tobytes() == getattr(expected, part).tobytes()
    for fact in ("feature_names", "num_features", "class_names", "class_counts", "oos_class", "num_classes"):
        assert getattr(loaded, fact) == getattr(fitted, fact)
    assert everything(loaded, "predict").shape == (1, fitted.num_features)
    assert loaded.state_dict() is state  # so a checkpoint of the checkpoint is the same


def test_restoring_the_same_state_again_costs_nothing(files):
    """The command line restores it to build the model, and Lightning once more when the run starts."""
    state, data = ready(TextDataModule(**files)).state_dict(), TextDataModule()
    data.load_state_dict(state)
    features = data.features
    data.load_state_dict(state)
    assert data.features is features


# --- command line ---------------------------------------------------------------------------------------------------


def test_the_command_line_offers_the_options_of_the_parent_with_their_types():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(TextDataModule, "data")
    options = ["--data.words={ngram_range: [1, 3], min_df: 2}", "--data.predict_inputs=[a, b]", "--data.seed=3"]
    given = parser.instantiate(parser.parse_args(options)).data
    assert given.ngrams == {"words": Ngrams(ngram_range=(1, 3), min_df=2)}
    assert (given.predict_inputs, given.seed, given.batch_size) == (["a", "b"], 3, 256)
    with pytest.raises(ArgumentError, match="feature_dropout"):
        parser.parse_args(["--data.feature_dropout=much"])


# --- all together ---------------------------------------------------------------------------------------------------


def messy(generator, label, number):
    """A sentence of a label's own words and common ones, with all that a CSV field may hold."""
    words = [f"l{label}w{generator.randrange(6)}" for _ in range(3)]
    words += [f"common{generator.randrange(40)}" for _ in range(5)]
    generator.shuffle(words)
    return '"'.join(words[:3]) + ", " + "\n".join(words[3:6]) + f" — {' '.join(words[6:])}, n°{number}"


def fitted(data, **options):
    model = SoftmaxRegression(data.num_features, data.num_classes, lr_scheduler=DecayToZero, **options)
    silent = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = L.Trainer(max_epochs=5, accelerator="cpu", log_every_n_steps=1, **silent)
    trainer.fit(model, data)
    return trainer.validate(model, data, verbose=False)[0]


def test_77_labels_and_10_000_rows_with_quotes_commas_and_newlines_train(tmp_path):
    generator = random.Random(0)
    rows = [(messy(generator, n % 77, n), f'intent, "{n % 77}"') for n in range(10_000)]
    data = ready(TextDataModule(write(tmp_path / "rows.csv", rows), words=Ngrams(min_df=2), batch_size=256))
    assert (data.num_classes, sum(data.class_counts)) == (77, 8_100)
    assert [len(data.dataset(split)) for split in ("train", "val", "test")] == [8_100, 900, 1_000]
    assert data.describe([0], "test")[0]["text"].count("\n") == 2
    assert fitted(data, lr=100.0)["val/accuracy"] > 0.95


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_separate_train_and_test_files_train_without_a_validation_file(tmp_path, suffix):
    generator = random.Random(1)

    def file(name, number):
        objects = [{"utterance": messy(generator, n % 4, n), "intent": n % 4} for n in range(number)]
        text = json.dumps(objects) if suffix == ".json" else "\n".join(map(json.dumps, objects))
        (tmp_path / f"{name}{suffix}").write_text(text, encoding="utf-8")
        return str(tmp_path / f"{name}{suffix}")

    options = {"test_file": file("test", 40), "text_column": "utterance", "label_column": "intent", "batch_size": 16}
    data = ready(TextDataModule(file("train", 200), **options))
    assert [len(data.dataset(split)) for split in ("train", "val", "test")] == [180, 20, 40]
    assert data.class_names == ["0", "1", "2", "3"]
    assert fitted(data, lr=20.0)["val/accuracy"] > 0.9


def test_standard_input_is_read_once_however_often_it_is_asked_for(monkeypatch, one_file):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"will it snow\nplay\n"), encoding="utf-8"))
    data = ready(TextDataModule(one_file, predict_file="-"))
    assert len(data.dataset("predict")) == len(data.dataset("predict")) == 2
    assert data.describe([1], "predict") == [{"text": "play"}]


def test_a_preset_has_the_n_grams_of_the_best_configuration_and_beats_words_and_chars(tmp_path, files):
    config = yaml.safe_load(Path(__file__).parents[3].joinpath("configs/clinc150_best.yaml").read_text())
    best = config["data"]["init_args"]
    data = ready(TextDataModule(**files, words=Ngrams(), preset="words+chars"))
    for name in ("words", "chars"):
        options = asdict(data.ngrams[name])
        options["ngram_range"] = [*options["ngram_range"]]
        assert best[name].items() <= options.items()
    assert list(ready(TextDataModule(**files, chars=Ngrams(analyzer="char"), preset="words")).ngrams) == ["words"]
    restored = ready(TextDataModule(**files))
    restored.load_state_dict(data.state_dict())
    assert restored.feature_names == data.feature_names
    with pytest.raises(ValueError, match=r"preset must be auto, words, words\+chars or null, got all"):
        ready(TextDataModule(**files, preset="all"))


def test_null_and_auto_follow_from_the_training_texts_and_a_checkpoint_brings_them_back(files):
    auto = {"words": None, "preset": "auto", "batch_size": None}
    data = ready(TextDataModule(**files, **auto))
    assert list(data.ngrams) == ["words", "chars"]
    assert data.batch_size == data.recipe["data.batch_size"] == recipe(14, 2)["data.batch_size"]
    state = data.state_dict() | {"recipe": {"model.lr": 7.0}}  # as another version of this project may choose it
    restored = TextDataModule(**files, **auto)
    restored.load_state_dict(state)
    assert restored.feature_names == data.feature_names
    assert restored.recipe == data.recipe | {"model.lr": 7.0}
    assert TextDataModule(**files, **auto | {"batch_size": 3}).batch_size == 3


def test_a_checkpoint_opens_no_other_option_and_no_class(files):
    """An option that is null, such as trainer.logger, would be filled, and a class_path in it instantiated."""
    auto = {"words": None, "preset": "auto", "batch_size": None}
    data, restored = ready(TextDataModule(**files, **auto)), TextDataModule(**files, **auto)
    evil = {"class_path": "os.system", "init_args": {"command": "false"}}
    restored.load_state_dict(data.state_dict() | {"recipe": {"trainer.logger": evil, "model.lr": evil, "refit": "yes"}})
    assert restored.recipe == data.recipe


def test_texts_repeat_each_other_whatever_their_case_and_punctuation_but_not_their_emoji_and_vowel_signs(one_file):
    data = ready(TextDataModule(one_file))
    texts = ["It rains!", "it  rains", "it's 🎉", "it's 😡", "गाना की", "गाना का", "?!", "c++"]
    data.splits["train"] = texts, ["weather"] * len(texts)
    contents, _ = data.contents("train")
    assert contents == ["it rains", "it rains", "it s 🎉", "it s 😡", "गाना की", "गाना का", None, "c++"]
