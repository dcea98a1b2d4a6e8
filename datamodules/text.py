"""Labelled sentences of your own: any CSV, TSV, JSON or JSONL file, as TF-IDF rows that stay sparse."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from datamodules.batches import Rows, RowsDataModule
from datamodules.readers import read_labelled, read_texts
from datamodules.sparse_rows import SparseRows

Labelled = tuple[list[str], list[str]]  # texts, labels


@dataclass
class Ngrams:
    """Options of scikit-learn's TfidfVectorizer.

    Args:
        analyzer: n-grams of words, of characters, or of characters within a word's boundaries.
        ngram_range: shortest and longest n-gram.
        max_features: keep only so many, the most frequent; null keeps all.
        min_df: leave out n-grams in fewer texts (a count, or a share from 0.0 to 1.0).
        max_df: leave out n-grams in more texts (likewise).
        lowercase: fold case first.
        strip_accents: turn é into e, for "ascii" or all of "unicode"; null keeps accents.
        stop_words: "english", a list of words to leave out, or null.
        token_pattern: what counts as a word, as a regular expression.
        binary: count an n-gram once per text.
        sublinear_tf: 1 + log(count) instead of the count.
        use_idf: weigh down n-grams that are in many texts.
        smooth_idf: add one to document counts.
        norm: scale each row to length 1 ("l2"), to sum 1 ("l1"), or not (null).
    """

    analyzer: Literal["word", "char", "char_wb"] = "word"
    ngram_range: tuple[int, int] = (1, 1)
    max_features: int | None = None
    min_df: int | float = 1
    max_df: int | float = 1.0
    lowercase: bool = True
    strip_accents: Literal["ascii", "unicode"] | None = None
    stop_words: Literal["english"] | list[str] | None = None
    token_pattern: str = r"(?u)\b\w\w+\b"
    binary: bool = False
    sublinear_tf: bool = False
    use_idf: bool = True
    smooth_idf: bool = True
    norm: Literal["l1", "l2"] | None = "l2"


class TextDataModule(RowsDataModule):
    """Sentences with a label each.

    The vocabulary is fitted on the training rows alone and travels in the checkpoint, with the label names: predicting
    needs neither the files nor the network.

    Args:
        train_file: .csv, .tsv, .json (a list of objects) or .jsonl, in UTF-8.
        val_file: likewise; null holds out a stratified share of the training file.
        test_file: likewise.
        text_column: name of the column or field with the text.
        label_column: name of the column or field with the label.
        oos_label: the label that means "none of the others" (out of scope); null if there is none.
        val_fraction: share to hold out for validation where there is no val_file, in (0, 1).
        test_fraction: share to hold out for the test where there is no test_file, in (0, 1).
        words: n-grams of words; null leaves them out.
        chars: n-grams of characters, joined to those of words; null leaves them out.
        feature_dropout: share of each training row's n-grams to leave out at random, anew in every epoch, in [0, 1).
        batch_size: rows per update, over all devices together.
        stratified_batches: shuffle so that every batch holds each label in the proportion that all training rows do,
            instead of leaving it to chance: with many labels fewer epochs are needed.
        seed: of the split, the order of the rows and feature_dropout.
        num_workers: processes that cut batches.
        texts: for `predict`: a list of texts.
        predict_file: for `predict`: a .txt file with one text a line, a file like train_file, or "-" for standard
            input. With neither, `predict` takes the test rows.

    Raises:
        ValueError: an option out of its range, or files that are not what they should be.
    """

    def __init__(
        self,
        train_file: str | None = None,
        val_file: str | None = None,
        test_file: str | None = None,
        text_column: str = "text",
        label_column: str = "label",
        oos_label: str | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        words: Ngrams | None = Ngrams(ngram_range=(1, 2)),  # noqa: B008 - never changed
        chars: Ngrams | None = None,
        feature_dropout: float = 0.0,
        batch_size: int = 256,
        stratified_batches: bool = False,
        seed: int = 42,
        num_workers: int = 0,
        texts: list[str] | None = None,
        predict_file: str | None = None,
    ) -> None:
        super().__init__(batch_size, seed, num_workers, stratified_batches)
        if not 0 <= feature_dropout < 1:
            raise ValueError(f"feature_dropout must be at least 0 and below 1, got {feature_dropout}")
        if not (0 < val_fraction < 1 and 0 < test_fraction < 1):
            raise ValueError(f"val_fraction and test_fraction must be in (0, 1), got {val_fraction}, {test_fraction}")
        if words is None and chars is None:
            raise ValueError("expected n-grams of words, of chars or of both; got words: null and chars: null")
        if texts is not None and predict_file is not None:
            raise ValueError("expected texts or predict_file, got both; leave one out")
        if texts is not None and not all(text.strip() for text in texts):
            raise ValueError(f"texts: expected no empty text, got {texts}")
        self.train_file, self.val_file, self.test_file = train_file, val_file, test_file
        self.text_column, self.label_column, self.oos_label = text_column, label_column, oos_label
        self.val_fraction, self.test_fraction = val_fraction, test_fraction
        self.ngrams = {name: options for name, options in (("words", words), ("chars", chars)) if options is not None}
        self.feature_dropout = feature_dropout
        self.texts, self.predict_file = texts, predict_file
        self._splits: dict[str, Labelled] | None = None
        self._vectorizers: dict[str, Any] = {}  # fitted TfidfVectorizers, in the order of the joined columns
        self._train_matrix: Any = None
        self._class_names: list[str] | None = None
        self._class_counts: list[int] | None = None
        self._to_predict: list[str] | None = None
        self._state: dict[str, Any] | None = None

    # --- what the model is told -------------------------------------------------------------------------------------

    @property
    def num_features(self) -> int:
        """D, size of the vocabulary."""
        return sum(len(vectorizer.vocabulary_) for vectorizer in self._fitted().values())

    @property
    def num_classes(self) -> int:
        """K, the out-of-scope class included."""
        return len(self.class_names)

    @property
    def class_names(self) -> list[str]:
        """The labels, sorted, the out-of-scope label last."""
        if self._class_names is None:
            self._read_labels()
        return self._class_names  # type: ignore[return-value]

    @property
    def class_counts(self) -> list[int]:
        """Training rows of each class."""
        if self._class_counts is None:
            self._read_labels()
        return self._class_counts  # type: ignore[return-value]

    @property
    def oos_class(self) -> int | None:
        """Number of the out-of-scope class, if there is one."""
        return None if self.oos_label is None else self.class_names.index(self.oos_label)

    @property
    def feature_names(self) -> list[str]:
        """The n-gram of each column."""
        return [name for v in self._fitted().values() for name in v.get_feature_names_out().tolist()]

    # --- rows -------------------------------------------------------------------------------------------------------

    def read_splits(self) -> dict[str, Labelled]:
        """Texts and labels of "train", "val" and "test"."""
        if self.train_file is None:
            raise ValueError("train_file: expected a file to train on, got none; --data.train_file FILE")
        files = {"train": self.train_file, "val": self.val_file, "test": self.test_file}
        splits = {
            name: read_labelled(file, self.text_column, self.label_column) for name, file in files.items() if file
        }
        for name, fraction in (("test", self.test_fraction), ("val", self.val_fraction)):
            if name not in splits:
                splits["train"], splits[name] = _hold_out(splits["train"], fraction, self.seed, name)
        return splits

    def rows(self, split: str) -> Rows:
        """The rows of a split: TF-IDF, sparse."""
        if split == "predict":
            texts = self._texts_to_predict()
            return Rows(SparseRows(self.vectorize(texts)).cut, torch.full((len(texts),), -1))
        texts, labels = self._read()[split]
        number = {name: n for n, name in enumerate(self.class_names)}
        target = torch.tensor([number[label] for label in labels])
        if split == "train":
            self._fitted()
            matrix = self.vectorize(texts) if self._train_matrix is None else self._train_matrix
            return Rows(SparseRows(matrix, self.feature_dropout, self.seed).cut, target)
        return Rows(SparseRows(self.vectorize(texts)).cut, target)

    def vectorize(self, texts: Sequence[str]) -> Any:
        """TF-IDF of texts: an (N, D) scipy CSR matrix in float32."""
        return _join([vectorizer.transform(texts) for vectorizer in self._fitted().values()])

    def describe(self, rows: Sequence[int], split: str) -> list[dict[str, Any]]:
        """The texts of some rows of the test or predict split."""
        texts = self._texts_to_predict() if split == "predict" else self._read()[split][0]
        return [{"text": texts[row]} for row in rows]

    # --- checkpoint -------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Label names and counts, and each vectorizer's options, vocabulary and idf: strings, numbers and tensors."""
        if self._state is None:  # it never changes, and listing a large vocabulary at every checkpoint would take time
            vectorizers = {
                name: {
                    "options": _plain(asdict(self.ngrams[name])),
                    # One string instead of a list of many: a list takes longer to write than all of W
                    "vocabulary": json.dumps(vectorizer.get_feature_names_out().tolist()),
                    "idf": torch.from_numpy(vectorizer.idf_) if vectorizer.use_idf else None,
                }
                for name, vectorizer in self._fitted().items()
            }
            names = {"class_names": self.class_names, "class_counts": self.class_counts, "oos_label": self.oos_label}
            self._state = names | {"vectorizers": vectorizers}
        return self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take all of that from a checkpoint, instead of fitting it."""
        if not isinstance(state, dict) or not state.get("vectorizers"):
            raise ValueError("the checkpoint holds no vocabulary, so it cannot read text; use one of a text run")
        try:
            self._class_names, self._class_counts = list(state["class_names"]), list(state["class_counts"])
            self.oos_label = state["oos_label"]
            self.ngrams = {name: Ngrams(**saved["options"]) for name, saved in state["vectorizers"].items()}
            self._vectorizers = {
                name: _restored(self.ngrams[name], json.loads(saved["vocabulary"]), saved["idf"])
                for name, saved in state["vectorizers"].items()
            }
            if len(self._class_names) != len(self._class_counts) or self.oos_label not in (None, *self._class_names):
                raise ValueError("names and counts of labels do not fit together")
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"the checkpoint's vocabulary is damaged ({error!r}); use one that fit has written"
            ) from error
        self._state = state

    # --- read and fitted once, when first asked for -----------------------------------------------------------------

    def _read(self) -> dict[str, Labelled]:
        if self._splits is None:
            self.prepare_data()
            self._splits = self.read_splits()
        return self._splits

    def _read_labels(self) -> None:
        splits = self._read()
        train = splits["train"][1]
        in_scope = sorted(set(train) - {self.oos_label})
        if len(in_scope) < 2:
            raise ValueError(f"expected at least 2 labels to tell apart, got {in_scope} in the training rows")
        names = in_scope + ([self.oos_label] if self.oos_label is not None else [])
        for split, (_, labels) in splits.items():
            unknown = sorted(set(labels) - set(names))
            if unknown:
                raise ValueError(
                    f"label {unknown[0]!r} is in the {split} rows but not in the training rows, so it cannot be "
                    "learned; add training rows or remove it"
                )
        if self.oos_label is not None and not any(self.oos_label in labels for _, labels in splits.values()):
            raise ValueError(f"oos_label {self.oos_label!r} is the label of no row; correct it or set it to null")
        self._class_names, self._class_counts = names, [train.count(name) for name in names]

    def _fitted(self) -> dict[str, Any]:
        if not self._vectorizers:
            texts = self._read()["train"][0]
            fitted, parts = {}, []
            for name, options in self.ngrams.items():
                vectorizer = _vectorizer(options)
                try:
                    parts.append(vectorizer.fit_transform(texts))
                except ValueError as error:  # scikit-learn's: an empty vocabulary, options out of range
                    raise ValueError(f"data.{name}: {error} (options: {asdict(options)})") from error
                fitted[name] = vectorizer
            self._vectorizers, self._train_matrix = fitted, _join(parts)
        return self._vectorizers

    def _texts_to_predict(self) -> list[str]:
        if self._to_predict is None:
            if self.predict_file is not None:
                self._to_predict = read_texts(self.predict_file, self.text_column)
            else:
                self._to_predict = self.texts if self.texts is not None else self._read()["test"][0]
            if not self._to_predict:
                raise ValueError("texts: expected at least one text, got an empty list")
        return self._to_predict


def _vectorizer(options: Ngrams, vocabulary: list[str] | None = None) -> Any:
    import numpy as np
    from sklearn.feature_extraction.text import TfidfVectorizer  # slow to import, so not at the top

    arguments = asdict(options) | {"ngram_range": tuple(options.ngram_range), "dtype": np.float32}
    if options.analyzer != "word":  # scikit-learn warns of options it will not use
        del arguments["token_pattern"], arguments["stop_words"]
    return TfidfVectorizer(**arguments, vocabulary=vocabulary)


def _restored(options: Ngrams, vocabulary: list[str], idf: torch.Tensor | None) -> Any:
    """A fitted vectorizer from what a checkpoint keeps of it."""
    vectorizer = _vectorizer(options, vocabulary=vocabulary)
    if options.use_idf:
        vectorizer.idf_ = idf.numpy()  # type: ignore[union-attr]
    else:
        vectorizer.fit([""])  # learns nothing: vocabulary and weights are fixed
    vectorizer.build_analyzer()  # refuses options that no vectorizer has
    return vectorizer


def _join(parts: list[Any]) -> Any:
    """Side by side, as CSR, each row's columns in ascending order."""
    from scipy.sparse import hstack

    matrix = parts[0] if len(parts) == 1 else hstack(parts, format="csr")
    # fit_transform and transform leave them in different orders; a resumed run must add, and drop out, in the same one.
    matrix.sort_indices()
    return matrix


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}


def _hold_out(rows: Labelled, fraction: float, seed: int, name: str) -> tuple[Labelled, Labelled]:
    """Split off a stratified share: the rest, and the share."""
    from sklearn.model_selection import train_test_split

    texts, labels = rows
    try:
        rest_x, held_x, rest_y, held_y = train_test_split(
            texts, labels, test_size=fraction, stratify=labels, random_state=seed
        )
    except ValueError as error:
        raise ValueError(
            f"cannot hold out {fraction:g} of {len(texts)} rows for {name}: {error}; raise {name}_fraction, "
            f"remove labels with a single row, or give a {name}_file"
        ) from error
    return (rest_x, rest_y), (held_x, held_y)
