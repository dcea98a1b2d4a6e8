"""A fitted TF-IDF without pickle: scikit-learn's numbers, a state of plain values, and nothing else taken for one."""

import copy
import json
import os
import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from datamodules.text.features import PRESETS, Ngrams, TfidfFeatures
from datamodules.text.sparse_rows import as_tensor

TEXTS = ["will it snow today", "play the snow song", "who are you", "play it again, please"]
QUESTIONS = ["Play the song the song, PLEASE", "", "unknown", "café snow"]
WORDS = Ngrams(ngram_range=(1, 2), sublinear_tf=True, stop_words=["the"], max_features=20)
CHARS = Ngrams(analyzer="char_wb", ngram_range=(2, 3), use_idf=False, norm=None, strip_accents="unicode", min_df=2)


def fitted(**ngrams):
    features = TfidfFeatures(ngrams or {"words": WORDS, "chars": CHARS})
    features.fit_transform(TEXTS)
    return features


STATE = fitted().state_dict()


def same(a, b):
    return all(getattr(a, part).tobytes() == getattr(b, part).tobytes() for part in ("indptr", "indices", "data"))


def test_a_text_alone_gets_the_bits_that_it_gets_among_others():
    features = fitted()
    for texts in (TEXTS, QUESTIONS, TEXTS[::-1]):
        among_others = features.transform(texts)
        for number, text in enumerate(texts):
            assert same(features.transform([text]), among_others[number])
            alone, expected = features.encode_one(text), as_tensor(among_others, number, number + 1)
            assert alone.shape == expected.shape
            for part in (torch.Tensor.crow_indices, torch.Tensor.col_indices, torch.Tensor.values):
                assert torch.equal(part(alone), part(expected))
                assert part(alone).dtype == part(expected).dtype


def test_no_text_gives_no_row():
    nothing = fitted().transform([])
    assert nothing.shape == (0, len(fitted().feature_names))
    assert nothing.dtype == np.float32


def test_fitting_gives_the_rows_that_transforming_gives():
    features = TfidfFeatures({"words": WORDS, "chars": CHARS})
    assert features.feature_names == []
    assert same(features.fit_transform(TEXTS), features.transform(TEXTS))


def test_a_failed_fit_names_the_vectorizer_and_its_options():
    with pytest.raises(ValueError, match=r"chars: .*no terms remain.*min_df.*'min_df': 4") as caught:
        fitted(words=Ngrams(), chars=Ngrams(min_df=4))
    assert "\n" not in str(caught.value)


def test_a_state_that_was_saved_gives_bit_identical_rows(tmp_path):
    torch.save(STATE, tmp_path / "state")
    restored = TfidfFeatures({})
    restored.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    assert same(restored.transform(QUESTIONS), fitted().transform(QUESTIONS))
    assert (restored.ngrams, restored.feature_names) == (fitted().ngrams, fitted().feature_names)
    torch.save(restored.state_dict(), tmp_path / "again")
    assert (tmp_path / "again").stat().st_size == (tmp_path / "state").stat().st_size


def test_a_restored_idf_is_a_copy():
    state, features = copy.deepcopy(STATE), TfidfFeatures({})
    features.load_state_dict(state)
    for part in (state, features.state_dict()):
        part["words"]["idf"].fill_(7)
    assert same(features.transform(QUESTIONS), fitted().transform(QUESTIONS))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("idf", torch.ones(21), "words.idf: expected a number for each of 20 n-grams"),
        ("idf", None, "words.idf: expected a number for each of 20 n-grams"),
        ("vocabulary", '["snow"]', "words.idf: expected a number for each of 1 n-grams"),
        ("options", {"token_pattern": r"(a|a)*b"}, "words.options.token_pattern: expected one that the configuration"),
        ("options", {"token_pattern": r"\w*\w*\w*!"}, "words.options.token_pattern: expected one that"),
        ("options", {"token_pattern": "(a)(b)"}, "token_pattern: expected one .* with at most one group"),
        ("options", {"ngram_range": (2, 1)}, "ngram_range: expected 1 <= shortest <= longest"),
        ("options", {"min_df": 0}, "min_df: expected a count from 1, or a share from 0.0 to 1.0, got 0"),
        ("options", {"max_df": 1.5}, "max_df: expected a count from 1, or a share from 0.0 to 1.0, got 1.5"),
        ("options", {"max_features": 0}, "max_features: expected 1 or more, got 0"),
    ],
)
def test_a_wrong_state_is_refused_in_one_line_and_changes_nothing(key, value, message):
    state, features = copy.deepcopy(STATE), fitted()
    state["words"][key] = state["words"]["options"] | value if key == "options" else value
    with pytest.raises(ValueError, match=message) as caught:
        features.load_state_dict(state)
    assert "\n" not in str(caught.value)
    assert same(features.transform(QUESTIONS), fitted().transform(QUESTIONS))


def test_a_pattern_of_the_configuration_may_be_any():
    features = fitted(words=Ngrams(token_pattern=r"(?:\w\w)+"))
    other = TfidfFeatures(features.ngrams)
    other.load_state_dict(features.state_dict())
    assert same(other.transform(QUESTIONS), features.transform(QUESTIONS))


# --- by numbers -------------------------------------------------------------------------------------------------------

ALL = r"(?u)\b\w+\b"
ODD = [
    *(
        "Straße ΣΊΣΥΦΟΣ İstanbul ıI x",
        "",
        "  a ",
        "x² ½ ٣٤ 一二三 \u2160 e\u0301e\u0301 na\u00efve",
        "ab ab ab cd ab cd",
    ),
    *("\u0130\u0130 DŽ ǅ ß ẞ 𝐀", "_a_ __ 1_000 a\u200db", "क्या हाल है", "two  spaces\tand\nlines \u00a0nbsp\u2003em"),
    *("ab cd", "Straße ΣΊΣΥΦΟΣ", "half \ud800 a pair\udfff?", "ΟΔΟΣ", "Σ", "don’t “quote” – a…b", "a\x1cb\x01c", "ab"),
]
SIGNS = ["".join(map(chr, range(start, start + 60))) + "ab" for start in range(0x1F300, 0x1F600, 60)]  # emoji
OPTIONS = [
    Ngrams(ngram_range=(1, 2)),
    Ngrams(ngram_range=(1, 3), token_pattern=ALL, sublinear_tf=True),
    Ngrams(ngram_range=(2, 2), min_df=2, stop_words=["ab"], token_pattern=ALL),
    Ngrams(stop_words="english", smooth_idf=False),
    Ngrams(max_features=5, ngram_range=(1, 2), strip_accents="unicode", norm="l1"),
    Ngrams(max_features=7, ngram_range=(1, 2), binary=True, token_pattern=ALL),
    Ngrams(max_df=0.15, binary=True, use_idf=False, ngram_range=(1, 2), lowercase=False),
    Ngrams(min_df=2, max_df=3, strip_accents="ascii", norm=None),
    Ngrams(token_pattern=r"[^\W\d]\w*", ngram_range=(1, 2), max_features=9),
    Ngrams(token_pattern=r"\S+", ngram_range=(1, 2)),
    Ngrams(token_pattern=r"(?s)..", ngram_range=(1, 2)),  # with spaces within a word
    Ngrams(token_pattern=r"(\w*)[abc]", ngram_range=(1, 2)),  # words without a letter
    Ngrams(ngram_range=(9, 9), token_pattern=r"\w", min_df=1),  # numbers beyond 64 bits
    Ngrams(analyzer="char_wb", ngram_range=(2, 4), min_df=2, sublinear_tf=True),
    Ngrams(analyzer="char_wb", ngram_range=(1, 9), max_features=20),
    Ngrams(analyzer="char_wb", ngram_range=(3, 3), binary=True, max_df=5, strip_accents="unicode", max_features=6),
    Ngrams(analyzer="char", ngram_range=(1, 2)),
]


def vectorizer(options):
    given = {field.name: getattr(options, field.name) for field in fields(Ngrams)}
    if options.analyzer != "word":
        del given["token_pattern"], given["stop_words"]
    return TfidfVectorizer(**given, dtype=np.float32)


def require_scikit_learns_bits(options, texts, others):
    """Vocabulary, order, idf and rows of a fit, of other texts, one by one too, and after a checkpoint."""
    expected, ours = vectorizer(options), TfidfFeatures({"words": options})
    try:
        rows = expected.fit_transform(texts)
    except ValueError as error:
        with pytest.raises(ValueError, match=re.escape(str(error))):
            ours.fit_transform(texts)
        return
    rows.sort_indices()
    assert same(ours.fit_transform(texts), rows)
    assert ours.feature_names == expected.get_feature_names_out().tolist()
    restored = TfidfFeatures({"words": options})
    restored.load_state_dict(ours.state_dict())
    rows = expected.transform(others)
    rows.sort_indices()
    for features in (ours, restored):
        assert same(features.transform(others), rows)
        again = features.sklearn_transformer().transform(others)
        again.sort_indices()
        assert same(again, rows)
    if options.use_idf:
        assert restored.sklearn_transformer().idf_.tobytes() == expected.idf_.tobytes()
    for number, text in enumerate(others[:20]):
        assert same(ours.transform([text]), rows[number])
        assert torch.equal(restored.encode_one(text).to_dense(), torch.from_numpy(rows[number].toarray()))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.filterwarnings("ignore:Your stop_words may be inconsistent", "ignore:Upper case characters found")
def test_odd_texts_get_scikit_learns_bits(options):
    require_scikit_learns_bits(options, ODD * 2, [*ODD, "a b c unknown ab cd", "\0 a\0b"])
    require_scikit_learns_bits(options, [*ODD, *SIGNS, "a\0ab \0 ab"], [*SIGNS, *ODD])


def test_every_character_is_a_letter_or_none_as_for_scikit_learn():
    every = [chr(code) for code in range(0x110000)]
    texts = ["".join(f"a{char}b" for char in every[start : start + 4096]) for start in range(0, len(every), 4096)]
    require_scikit_learns_bits(Ngrams(token_pattern=ALL), texts, texts[:2])


def zipf_texts(number, seed=0):
    random = np.random.default_rng(seed)
    words, ends = random.zipf(1.3, 12 * number), random.integers(0, 12, number).cumsum()
    return [" ".join(f"w{word % 5000}" for word in part) for part in np.split(words, ends)[:-1]]


@pytest.mark.parametrize("options", [OPTIONS[1], OPTIONS[4], Ngrams(ngram_range=(1, 2), max_features=900), OPTIONS[13]])
def test_zipf_texts_get_scikit_learns_bits_in_pieces_too(options, monkeypatch):
    from datamodules.text import ngrams

    texts = zipf_texts(2_000)
    require_scikit_learns_bits(options, texts, texts[:500])
    monkeypatch.setattr(ngrams, "PIECE", 256)
    require_scikit_learns_bits(options, [*texts, *ODD], texts[:512])


@pytest.mark.slow
@pytest.mark.skipif("CLINC150_DIR" not in os.environ, reason="needs the CLINC150 files: set CLINC150_DIR")
@pytest.mark.parametrize(
    "options", [*PRESETS["words+chars"].values(), OPTIONS[0], replace(OPTIONS[0], max_features=10_000)]
)
def test_clinc150_gets_scikit_learns_bits(options):
    data = json.loads((Path(os.environ["CLINC150_DIR"]) / "data_full.json").read_text(encoding="utf-8"))
    train, test = ([text for text, _ in data[split]] for split in ("train", "test"))
    require_scikit_learns_bits(options, train, test)


letters = st.text(st.sampled_from("aAbB é’ß-_1 \n\0Σσİ\u0301一🎉\ud800"), max_size=12)
options_of = st.builds(
    Ngrams,
    analyzer=st.sampled_from(["word", "word", "char_wb", "char"]),
    ngram_range=st.sampled_from([(1, 1), (1, 2), (2, 3), (1, 4)]),
    max_features=st.none() | st.integers(1, 9),
    min_df=st.sampled_from([1, 2, 0.2]),
    max_df=st.sampled_from([1.0, 0.7, 3]),
    lowercase=st.booleans(),
    strip_accents=st.sampled_from([None, "ascii", "unicode"]),
    token_pattern=st.sampled_from([ALL, r"(?u)\b\w\w+\b", r"\S+", r"[^a]", r"\w+|."]),
    binary=st.booleans(),
    sublinear_tf=st.booleans(),
    use_idf=st.booleans(),
    smooth_idf=st.booleans(),
    norm=st.sampled_from(["l1", "l2", None]),
)


@pytest.mark.parametrize("examples", [60, pytest.param(5_000, marks=pytest.mark.nightly)])
@pytest.mark.filterwarnings("ignore:Upper case characters found")
def test_any_texts_get_scikit_learns_bits(examples):
    @settings(max_examples=examples, derandomize=examples < 1_000, deadline=None, database=None)
    @given(options_of, st.lists(letters, min_size=1, max_size=8), st.lists(letters, min_size=1, max_size=4))
    def holds(options, texts, others):
        require_scikit_learns_bits(options, texts, others)

    holds()
