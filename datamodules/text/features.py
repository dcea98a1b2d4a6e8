"""TF-IDF of texts, fitted with scikit-learn and kept in a checkpoint without pickle."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
import torch

from datamodules.text.ngrams import Tfidf, tfidf

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
        for name in ("min_df", "max_df"):
            df = getattr(self, name)
            if not (df >= 1 if isinstance(df, int) else 0 <= df <= 1):
                raise ValueError(f"{name}: expected a count from 1, or a share from 0.0 to 1.0, got {df}")
        if isinstance(self.max_features, int) and self.max_features < 1:
            raise ValueError(f"max_features: expected 1 or more, got {self.max_features}")
        low, high = self.ngram_range = tuple(self.ngram_range)  # type: ignore[assignment]  # of a list too
        if not 1 <= low <= high:
            raise ValueError(f"ngram_range: expected 1 <= shortest <= longest, got {low}, {high}")
        try:
            pattern = re.compile(self.token_pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(
                f"token_pattern: expected a regular expression, got {self.token_pattern}: {error}"
            ) from error
        if pattern.groups > 1 or pattern.search(""):
            expected = "one that no empty text matches, with at most one group"
            raise ValueError(f"token_pattern: expected {expected}, got {self.token_pattern!r}")


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

    Args:
        ngrams: options of each vectorizer by its name, in the order of their columns.

    Attributes:
        feature_names: the n-gram of each column, (D,); none until fitted or restored.
    """

    def __init__(self, ngrams: dict[str, Ngrams]) -> None:
        self.ngrams = ngrams
        self._take({})

    @property
    def num_words(self) -> int:
        """The columns that are n-grams of words, the first ones; 0 where there are none."""
        return len(self._vectorizers["words"].names) if "words" in self._vectorizers else 0

    def fit_transform(self, texts: Sequence[str]) -> Any:
        """Fit vocabulary and idf; returns an (N, D) scipy CSR matrix in float32.

        Raises:
            ValueError: an option is out of range, or leaves no n-gram; begins with the vectorizer's name.
        """
        vectorizers, matrices = {}, []
        for name, options in self.ngrams.items():
            vectorizers[name] = tfidf(options)
            try:
                matrices.append(vectorizers[name].fit_transform(texts))
            except ValueError as error:  # scikit-learn's
                raise ValueError(f"{name}: {error} (options: {asdict(options)})") from error
        self._take(vectorizers)
        return _side_by_side(matrices)

    def transform(self, texts: Sequence[str]) -> Any:
        """TF-IDF of texts: an (N, D) scipy CSR matrix in float32."""
        return _side_by_side([vectorizer.transform(texts) for vectorizer in self._vectorizers.values()])

    def encode_one(self, text: str) -> torch.Tensor:
        """The row that `transform` makes of a text, as a CSR tensor (1, D); the same bits in a fraction of the time."""
        columns, values, offset = [], [], 0
        for vectorizer in self._vectorizers.values():
            column, value = vectorizer.row(text)
            columns.append(column + np.int32(offset))
            values.append(value)
            offset += len(vectorizer.names)
        parts = torch.from_numpy(np.concatenate(columns)), torch.from_numpy(np.concatenate(values))
        row_starts = torch.tensor([0, len(parts[0])], dtype=torch.int32)
        return torch.sparse_csr_tensor(row_starts, *parts, size=(1, offset), check_invariants=False)

    def sklearn_transformer(self) -> Any:
        """scikit-learn's own object for `transform`: the TfidfVectorizer, or a FeatureUnion of several."""
        from sklearn.pipeline import FeatureUnion

        pairs = [(name, vectorizer.sklearn) for name, vectorizer in self._vectorizers.items()]
        return pairs[0][1] if len(pairs) == 1 else FeatureUnion(pairs)

    def state_dict(self) -> dict[str, Any]:
        """Options, vocabulary and idf of each vectorizer."""
        return {
            name: {
                "options": asdict(vectorizer.options),
                "vocabulary": json.dumps(vectorizer.names),  # a list of many strings is slower to write than all of W
                "idf": None if vectorizer.idf is None else torch.tensor(vectorizer.idf),
            }
            for name, vectorizer in self._vectorizers.items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace options, vocabularies and idf by those of a state.

        Raises:
            ValueError: a pattern that may take forever, or vocabulary and idf of different lengths.
        """
        vectorizers, own = {}, {options.token_pattern for options in self.ngrams.values()}
        for name, saved in state.items():
            options, names, idf = Ngrams(**saved["options"]), json.loads(saved["vocabulary"]), saved["idf"]
            pattern = options.token_pattern
            if pattern not in own and re.search(r"\)[*+{]|\\\d|([*+{].*){3}", pattern):
                expected = "one that the configuration has, or that can't take forever"
                raise ValueError(f"{name}.options.token_pattern: expected {expected}, got {pattern!r:.60}")
            if (len(names) if options.use_idf else None) != (None if idf is None else len(idf)):
                raise ValueError(f"{name}.idf: expected a number for each of {len(names)} n-grams, if use_idf is true")
            vectorizers[name] = tfidf(options)
            vectorizers[name].use(names, None if idf is None else idf.numpy(force=True).copy())
        self.ngrams = {name: vectorizer.options for name, vectorizer in vectorizers.items()}
        self._take(vectorizers)

    def _take(self, vectorizers: dict[str, Tfidf]) -> None:
        self._vectorizers = vectorizers
        self.feature_names = [name for vectorizer in vectorizers.values() for name in vectorizer.names]


def _side_by_side(matrices: list[Any]) -> Any:
    """The columns of all matrices, as CSR, each row's columns in ascending order."""
    from scipy.sparse import hstack

    matrix = matrices[0] if len(matrices) == 1 else hstack(matrices, format="csr")
    # scikit-learn's two methods return different orders; a resumed run must add, and drop out, in the same one.
    matrix.sort_indices()
    return matrix
