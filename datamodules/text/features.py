"""TF-IDF of texts, fitted with scikit-learn and kept in a checkpoint without pickle."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import reduce
from inspect import formatannotation
from operator import or_
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import torch
from torch import Tensor

from datamodules.saved_state import is_vector, require

Null = Literal["None"] | None  # what jsonargparse makes of null in --data.words.norm null is the word None


@dataclass
class Ngrams:
    """Options of scikit-learn's TfidfVectorizer.

    Args:
        analyzer: n-grams of words, of characters, or of characters within the boundaries of a word.
        ngram_range: length of the shortest and of the longest n-gram.
        max_features: keep only this many, the most frequent; null keeps all.
        min_df: leave out n-grams in fewer texts (a count, or a share from 0.0 to 1.0).
        max_df: leave out n-grams in more texts (a count, or a share from 0.0 to 1.0).
        lowercase: fold case first.
        strip_accents: turn é into e, for "ascii" or all of "unicode"; null keeps accents.
        stop_words: "english", a list of words to leave out, or null.
        token_pattern: what counts as a word, as a regular expression.
        binary: count an n-gram once per text.
        sublinear_tf: 1 + log(count) instead of the count.
        use_idf: lower the weight of n-grams that are in many texts.
        smooth_idf: add one to document counts.
        norm: scale each row to length 1 ("l2"), to sum 1 ("l1"), or not (null).
    """

    analyzer: Literal["word", "char", "char_wb"] = "word"
    ngram_range: tuple[int, int] = (1, 1)
    max_features: int | Null = None
    min_df: int | float = 1
    max_df: int | float = 1.0
    lowercase: bool = True
    strip_accents: Literal["ascii", "unicode"] | Null = None
    stop_words: Literal["english"] | list[str] | Null = None
    token_pattern: str = r"(?u)\b\w\w+\b"
    binary: bool = False
    sublinear_tf: bool = False
    use_idf: bool = True
    smooth_idf: bool = True
    norm: Literal["l1", "l2"] | Null = "l2"

    def __post_init__(self) -> None:
        """Refuse what scikit-learn takes although it has no meaning, with a ValueError."""
        for field in fields(self):
            if getattr(self, field.name) == "None":
                setattr(self, field.name, None)
        low, high = self.ngram_range
        if not 1 <= low <= high:
            raise ValueError(f"ngram_range: expected 1 <= shortest <= longest, got {low}, {high}")
        try:
            matches_nothing = re.search(self.token_pattern, "") is not None
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(
                f"token_pattern: expected a regular expression, got {self.token_pattern}: {error}"
            ) from error
        if matches_nothing:
            raise ValueError(f"token_pattern: expected one that no empty text matches, got {self.token_pattern!r}")


ALL_WORDS = r"(?u)\b\w+\b"  # those of one letter too
PRESETS = {
    "words": {"words": Ngrams(ngram_range=(1, 2), sublinear_tf=True, token_pattern=ALL_WORDS)},
    "words+chars": {  # what configs/clinc150_best.yaml has
        "words": Ngrams(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=ALL_WORDS),
        "chars": Ngrams(analyzer="char_wb", ngram_range=(2, 4), min_df=2, sublinear_tf=True),
    },
}


class TfidfFeatures:
    """One or more TF-IDF vectorizers side by side, whose state is plain values and tensors.

    `load_state_dict` checks everything in a state against a closed list of types and values, and calls nothing of it,
    so that a state from an unknown source can do no more than give useless features.

    Args:
        ngrams: options of each vectorizer by its name, in the order of their columns.
    """

    def __init__(self, ngrams: dict[str, Ngrams]) -> None:
        self.ngrams = ngrams
        self._use({})

    def _use(self, vectorizers: dict[str, Any]) -> None:
        """Take fitted TfidfVectorizers by name; none until fitted or restored."""
        self._vectorizers = vectorizers
        self._analyzers = [vectorizer.build_analyzer() for vectorizer in vectorizers.values()]  # from text to n-grams

    @property
    def num_features(self) -> int:
        """D, the size of all vocabularies together; 0 until fitted."""
        return sum(len(vectorizer.vocabulary_) for vectorizer in self._vectorizers.values())

    @property
    def feature_names(self) -> list[str]:
        """The n-gram of each column, (D,)."""
        return [name for vectorizer in self._vectorizers.values() for name in _names(vectorizer)]

    def fit_transform(self, texts: Sequence[str]) -> Any:
        """Fit vocabulary and idf; returns an (N, D) scipy CSR matrix in float32.

        Raises:
            ValueError: an option is out of range, or leaves no n-gram; begins with the vectorizer's name.
        """
        vectorizers, matrices = {}, []
        for name, options in self.ngrams.items():
            vectorizers[name] = _vectorizer(options)
            try:
                matrices.append(vectorizers[name].fit_transform(texts))
            except ValueError as error:  # scikit-learn's
                raise ValueError(f"{name}: {error} (options: {asdict(options)})") from error
        self._use(vectorizers)
        return _side_by_side(matrices)

    def transform(self, texts: Sequence[str]) -> Any:
        """TF-IDF of texts: an (N, D) scipy CSR matrix in float32."""
        if not len(texts):  # which scikit-learn refuses
            from scipy.sparse import csr_matrix

            return csr_matrix((0, self.num_features), dtype="float32")
        return _side_by_side([vectorizer.transform(texts) for vectorizer in self._vectorizers.values()])

    def encode_one(self, text: str) -> Tensor:
        """The row that `transform` makes of a text, as a CSR tensor (1, D).

        It has the same bits, and takes a seventh of the time: scikit-learn and scipy check every call.
        """
        import numpy as np

        columns, values, offset = [], [], 0
        for vectorizer, analyzer in zip(self._vectorizers.values(), self._analyzers, strict=True):
            vocabulary = vectorizer.vocabulary_
            counts = Counter(vocabulary[ngram] for ngram in analyzer(text) if ngram in vocabulary)
            numbers = sorted(counts)
            column = np.array(numbers, dtype=np.int32)
            value = np.array([1 if vectorizer.binary else counts[number] for number in numbers], np.float32)
            if vectorizer.sublinear_tf:
                value = np.log(value) + 1
            if vectorizer.use_idf:
                value *= vectorizer.idf_[column]
            if vectorizer.norm is not None and len(value):
                size = value if vectorizer.norm == "l1" else value * value
                length = size.sum(dtype=np.float64)
                length = length if vectorizer.norm == "l1" else np.sqrt(length)
                value = (value.astype(np.float64) / length).astype(np.float32)  # scikit-learn divides doubles
            columns.append(torch.from_numpy(column + offset))
            values.append(torch.from_numpy(value))
            offset += len(vocabulary)
        parts = torch.cat(columns), torch.cat(values)
        row_starts = torch.tensor([0, len(parts[0])], dtype=torch.int32)
        return torch.sparse_csr_tensor(row_starts, *parts, size=(1, offset), check_invariants=False)

    def sklearn_transformer(self) -> Any:
        """scikit-learn's own object for `transform`: the TfidfVectorizer, or a FeatureUnion of several."""
        from sklearn.pipeline import FeatureUnion

        pairs = list(self._vectorizers.items())
        return pairs[0][1] if len(pairs) == 1 else FeatureUnion(pairs)

    def state_dict(self) -> dict[str, Any]:
        """Options, vocabulary and idf of each vectorizer."""
        return {
            name: {
                "options": asdict(self.ngrams[name]) | {"ngram_range": tuple(self.ngrams[name].ngram_range)},
                # One string: a list of many is slower to write than all of W
                "vocabulary": json.dumps(_names(vectorizer)),
                "idf": torch.from_numpy(vectorizer.idf_) if vectorizer.use_idf else None,
            }
            for name, vectorizer in self._vectorizers.items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace options, vocabularies and idf by those of a state.

        Raises:
            ValueError: the state is not one that `state_dict` could have returned; names the key.
        """
        require(isinstance(state, dict) and len(state) > 0, "vectorizers", "a map from name to vectorizer", state)
        ngrams, vectorizers = {}, {}
        for name, saved in state.items():
            require(type(name) is str and name.isidentifier(), "vectorizers", "names", name)
            _require_keys(saved, ("options", "vocabulary", "idf"), name)
            own = self.ngrams[name].token_pattern if name in self.ngrams else None
            options = _checked_options(saved["options"], f"{name}.options", own)
            vocabulary = _checked_vocabulary(saved["vocabulary"], f"{name}.vocabulary")
            idf = _checked_idf(saved["idf"], f"{name}.idf", len(vocabulary) if options.use_idf else None)
            vectorizer = _vectorizer(options, vocabulary)
            if idf is None:
                vectorizer.fit([""])  # learns nothing, for the vocabulary is given; only marks it as fitted
            else:
                vectorizer.idf_ = idf.numpy().copy()  # a view loses its memory where the tensor is sent elsewhere
            ngrams[name], vectorizers[name] = options, vectorizer
        self.ngrams = ngrams
        self._use(vectorizers)


def _vectorizer(options: Ngrams, vocabulary: list[str] | None = None) -> Any:
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer  # slow to import, so not at the top

    arguments = asdict(options) | {"ngram_range": tuple(options.ngram_range), "dtype": np.float32}
    if options.analyzer != "word":  # scikit-learn warns of options that it ignores
        del arguments["token_pattern"], arguments["stop_words"]
    return TfidfVectorizer(**arguments, vocabulary=vocabulary)


def _names(vectorizer: Any) -> list[str]:
    """The n-gram of each column, (D,); get_feature_names_out sorts them, which takes several times as long."""
    names = [""] * len(vectorizer.vocabulary_)
    for name, column in vectorizer.vocabulary_.items():
        names[column] = name
    return names


def _side_by_side(matrices: list[Any]) -> Any:
    """The columns of all matrices, as CSR, each row's columns in ascending order."""
    from scipy.sparse import hstack

    matrix = matrices[0] if len(matrices) == 1 else hstack(matrices, format="csr")
    # fit_transform and transform return different orders; a resumed run must add, and drop out, in the same one.
    matrix.sort_indices()
    return matrix


# --- checks of a state ------------------------------------------------------------------------------------------------


def _require_keys(value: Any, keys: Sequence[str], key: str) -> None:
    require(isinstance(value, dict), key, f"a map of {', '.join(keys)}", value)
    for name in keys:
        require(name in value, f"{key}.{name}", "a value", None)
    for name in value:
        require(name in keys, key, f"nothing but {', '.join(keys)}", name)


def _checked_options(value: Any, key: str, own_pattern: str | None) -> Ngrams:
    _require_keys(value, [field.name for field in fields(Ngrams)], key)
    for field in fields(Ngrams):
        found, hint = value[field.name], _without_word(field.type)
        require(_is_of_type(found, hint), f"{key}.{field.name}", formatannotation(hint), found)
    low, high = value["ngram_range"]
    require(1 <= low <= high, f"{key}.ngram_range", "1 <= shortest <= longest", f"{low}, {high}")
    for name in ("min_df", "max_df"):
        count = value[name]
        in_range = count >= 1 if type(count) is int else 0 <= count <= 1
        require(in_range, f"{key}.{name}", "a count from 1, or a share from 0.0 to 1.0", count)
    try:
        groups = re.compile(value["token_pattern"]).groups
    except (re.error, RecursionError, OverflowError):
        groups = -1
    expected = "a regular expression with at most one group"
    require(0 <= groups <= 1, f"{key}.token_pattern", expected, value["token_pattern"])
    expected = "one that the configuration has, or of at most 200 characters, 2 of * + { and no repeated group"
    bounded = value["token_pattern"] == own_pattern or _is_bounded(value["token_pattern"])
    require(bounded, f"{key}.token_pattern", expected, value["token_pattern"])
    return Ngrams(**value)


def _without_word(hint: Any) -> Any:
    """A type that `Ngrams` declares, less the word that `__post_init__` replaces by None."""
    kinds = [kind for kind in get_args(hint) if kind != Literal["None"]]
    return reduce(or_, kinds) if get_origin(hint) in (Union, UnionType) else hint


def _is_bounded(pattern: str) -> bool:
    """Whether matching takes time in proportion to a small power of a text's length, and not 2 to the power of it."""
    repeated = re.search(r"\)[*+{]|\\[1-9]|\(\?P=|\(\?\(", pattern)
    return len(pattern) <= 200 and repeated is None and len(re.findall(r"[*+{]", pattern)) <= 2


def _checked_vocabulary(value: Any, key: str) -> list[str]:
    expected = "a JSON list of different n-grams"
    require(type(value) is str, key, expected, value)
    try:
        ngrams = json.loads(value)
    except (ValueError, RecursionError):
        ngrams = None
    require(_is_of_type(ngrams, list[str]) and 0 < len(ngrams) == len(set(ngrams)), key, expected, value)
    return ngrams


def _checked_idf(value: Any, key: str, length: int | None) -> torch.Tensor | None:
    if length is None:
        require(value is None, key, "None, as use_idf is False", value)
        return None
    require(is_vector(value, length), key, f"a tensor of {length} finite numbers in float32", value)
    return value.detach().cpu()


def _is_of_type(value: Any, hint: Any) -> bool:
    """Whether a value is exactly of a type that `Ngrams` declares: no subclass of it, and no bool for an int."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_is_of_type(value, argument) for argument in arguments)
    if origin is Literal:
        return type(value) is str and value in arguments
    if origin is tuple:
        return type(value) is tuple and len(value) == len(arguments) and all(map(_is_of_type, value, arguments))
    if origin is list:
        return type(value) is list and all(type(item) is arguments[0] for item in value)
    return type(value) is hint
