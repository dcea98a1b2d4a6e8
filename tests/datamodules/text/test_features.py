"""A fitted TF-IDF without pickle: scikit-learn's numbers, a state of plain values, and nothing else taken for one."""

import copy
import json
import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import hstack
from sklearn.feature_extraction.text import TfidfVectorizer

from datamodules.text.features import Ngrams, TfidfFeatures
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


def test_columns_are_those_of_scikit_learns_vectorizers_side_by_side():
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, stop_words=["the"], max_features=20).fit(TEXTS)
    options = {"ngram_range": (2, 3), "use_idf": False, "norm": None, "strip_accents": "unicode", "min_df": 2}
    chars = TfidfVectorizer(analyzer="char_wb", **options).fit(TEXTS)
    features = fitted()
    expected = hstack([words.transform(QUESTIONS), chars.transform(QUESTIONS)])
    np.testing.assert_allclose(features.transform(QUESTIONS).toarray(), expected.toarray(), rtol=1e-6)
    assert features.feature_names == [*words.get_feature_names_out(), *chars.get_feature_names_out()]
    assert features.num_features == len(features.feature_names) == expected.shape[1]
    assert features.transform(QUESTIONS).dtype == np.float32


ONE_BY_ONE = [
    {"words": WORDS, "chars": CHARS},
    {"words": Ngrams(binary=True, norm="l1", lowercase=False)},
    {"words": Ngrams(binary=True, sublinear_tf=True, use_idf=False, stop_words="english")},
    {"chars": Ngrams(analyzer="char", ngram_range=(1, 3), smooth_idf=False)},
    {"words": Ngrams(token_pattern=r"(\w)\w*", norm=None)},
]


@pytest.mark.parametrize("ngrams", ONE_BY_ONE)
def test_a_text_alone_gets_the_bits_that_it_gets_among_others(ngrams):
    features = fitted(**ngrams)
    for texts in (TEXTS, QUESTIONS, TEXTS[::-1]):
        among_others = features.transform(texts)
        for number, text in enumerate(texts):
            assert same(features.transform([text]), among_others[number])
            alone, expected = features.encode_one(text), as_tensor(among_others, number, number + 1)
            assert alone.shape == expected.shape
            for part in (torch.Tensor.crow_indices, torch.Tensor.col_indices, torch.Tensor.values):
                assert torch.equal(part(alone), part(expected))
                assert part(alone).dtype == part(expected).dtype
    other = TfidfFeatures({})
    other.load_state_dict(features.state_dict())
    assert torch.equal(other.encode_one(TEXTS[0]).values(), features.encode_one(TEXTS[0]).values())


def test_no_text_gives_no_row():
    nothing = fitted().transform([])
    assert nothing.shape == (0, fitted().num_features)
    assert nothing.dtype == np.float32


def test_fitting_gives_the_rows_that_transforming_gives():
    features = TfidfFeatures({"words": WORDS, "chars": CHARS})
    assert features.num_features == 0
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


# --- wrong states -----------------------------------------------------------------------------------------------------


def changed(*keys, value="deleted"):
    state = inner = copy.deepcopy(STATE)
    for key in keys[:-1]:
        inner = inner[key]
    if value == "deleted":
        del inner[keys[-1]]
    else:
        inner[keys[-1]] = value
    return state


def refusal(state):
    """The one line with which a state is refused; the features stay as they were."""
    features = fitted()
    before = features.transform(QUESTIONS)
    with pytest.raises(ValueError) as caught:
        features.load_state_dict(state)
    assert caught.type is ValueError
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 500
    assert same(features.transform(QUESTIONS), before)
    return str(caught.value)


@pytest.mark.parametrize("state", [None, [], {}, "words", {1: STATE["words"]}, {"a\nb": STATE["words"]}], ids=repr)
def test_something_other_than_a_map_of_vectorizers_is_refused(state):
    assert refusal(state).startswith("vectorizers: expected")


@pytest.mark.parametrize("key", ["options", "vocabulary", "idf"])
def test_a_vectorizer_without_a_key_is_refused_by_its_name(key):
    assert refusal(changed("words", key)) == f"words.{key}: expected a value, got None"


@pytest.mark.parametrize("option", [field.name for field in fields(Ngrams)])
def test_options_without_a_key_are_refused_by_its_name(option):
    assert refusal(changed("words", "options", option)) == f"words.options.{option}: expected a value, got None"


def test_an_unknown_key_is_refused_by_its_name():
    assert refusal(changed("words", "preprocessor", value="os.system")).endswith("got 'preprocessor'")
    assert refusal(changed("words", "options", "tokenizer", value="os.system")).endswith("got 'tokenizer'")


def test_nothing_of_a_state_is_called():
    def payload(*_):
        raise AssertionError("called")

    for option in ("analyzer", "token_pattern", "stop_words", "norm"):
        assert refusal(changed("words", "options", option, value=payload)).endswith("got function")


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("analyzer", "os.system", r"Literal['word', 'char', 'char_wb'], got 'os.system'"),
        ("analyzer", None, r"got None"),
        ("ngram_range", (0, 1), "1 <= shortest <= longest, got '0, 1'"),
        ("ngram_range", (2, 1), "1 <= shortest <= longest, got '2, 1'"),
        ("ngram_range", (1, 2, 3), "tuple[int, int], got tuple"),
        ("ngram_range", [1, 2], "tuple[int, int], got list"),
        ("ngram_range", (True, 2), "tuple[int, int], got tuple"),
        ("max_features", 2.0, "int | None, got 2.0"),
        ("max_features", True, "int | None, got True"),
        ("min_df", "1", "int | float, got '1'"),
        ("max_df", True, "int | float, got True"),
        ("lowercase", 1, "bool, got 1"),
        ("strip_accents", "ASCII", "got 'ASCII'"),
        ("stop_words", "german", "got 'german'"),
        ("stop_words", ["the", 1], "got list"),
        ("token_pattern", "(", "a regular expression with at most one group, got '('"),
        ("token_pattern", "(a)(b)", "at most one group, got '(a)(b)'"),
        ("token_pattern", None, "str, got None"),
        ("binary", "yes", "bool, got 'yes'"),
        ("sublinear_tf", None, "bool, got None"),
        ("use_idf", 0, "bool, got 0"),
        ("smooth_idf", 1.0, "bool, got 1.0"),
        ("norm", "max", "got 'max'"),
        ("norm", "l2\n" * 500, "got 'l2"),
    ],
)
def test_an_option_of_another_type_or_value_is_refused_by_its_key(option, value, expected):
    message = refusal(changed("words", "options", option, value=value))
    assert message.startswith(f"words.options.{option}: expected ")
    assert expected in message


NGRAMS = json.loads(STATE["words"]["vocabulary"])


@pytest.mark.parametrize(
    "value",
    [
        *("", "no json", "[]", "{}", "null", '"snow"', '["twice", "twice"]', '["snow", 1]', '["snow", ["rain"]]'),
        pytest.param("[" * 100_000, id="deep"),
        *(None, NGRAMS, 7),
    ],
)
def test_a_vocabulary_that_is_no_json_list_of_different_strings_is_refused(value):
    assert refusal(changed("words", "vocabulary", value=value)).startswith("words.vocabulary: expected a JSON list")


@pytest.mark.parametrize(
    "value",
    [
        None,
        [1.0] * len(NGRAMS),
        torch.ones(len(NGRAMS) + 1),
        torch.ones(0),
        torch.ones(len(NGRAMS), 1),
        torch.ones(len(NGRAMS), dtype=torch.float64),
        torch.ones(len(NGRAMS), dtype=torch.long),
        torch.ones(len(NGRAMS)).to_sparse(),
        torch.full((len(NGRAMS),), math.nan),
        torch.full((len(NGRAMS),), math.inf),
    ],
    ids=lambda value: str(getattr(value, "shape", type(value))),
)
def test_an_idf_that_is_no_vector_of_finite_numbers_for_the_vocabulary_is_refused(value):
    expected = f"words.idf: expected a tensor of {len(NGRAMS)} finite numbers in float32"
    assert refusal(changed("words", "idf", value=value)).startswith(expected)


def test_an_idf_that_is_not_used_is_refused():
    assert refusal(changed("chars", "idf", value=torch.ones(3))) == (
        "chars.idf: expected None, as use_idf is False, got Tensor"
    )


PLACES = [
    ("words",),
    *(("words", key) for key in STATE["words"]),
    *(("words", "options", f.name) for f in fields(Ngrams)),
]
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10) | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
    ),
    max_leaves=5,
)


@pytest.mark.parametrize("examples", [100, pytest.param(3_000, marks=pytest.mark.nightly)])
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_any_plain_value_in_any_place_is_refused_in_one_line_or_works(examples):
    @settings(max_examples=examples, derandomize=examples < 1_000, deadline=None, database=None)
    @given(st.sampled_from(PLACES), plain)
    def holds(place, value):
        features = TfidfFeatures({})
        try:
            features.load_state_dict(changed(*place, value=value))
        except ValueError as error:
            assert type(error) is ValueError
            assert len(str(error).splitlines()) == 1
        else:
            assert features.transform(QUESTIONS).shape == (4, features.num_features)

    holds()
