"""Labelled sentences as TF-IDF rows that stay sparse, from files as people have them."""

import json
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

import torch
from torch import Tensor

from datamodules.batches import BatchedDataModule, BatchedDataset
from datamodules.checks import few_to_choose_by, folded, label_oddities
from datamodules.files.readers import read_inputs, require_files
from datamodules.sampler import BatchIndices
from datamodules.splits import fingerprint, join_validation, listed, require_same_rows
from datamodules.text.features import ALL_WORDS, PRESETS, Ngrams, TfidfFeatures
from datamodules.text.recipe import as_options, is_unspaced, ngrams_for, numbers_of, recipe
from datamodules.text.sparse_rows import SparseRows, as_tensor

LabelledTexts = tuple[list[str], list[str]]  # texts, labels
BY_CHARACTERS = "--data.words null --data.chars '{analyzer: char, ngram_range: [1, 2]}'"


class TfidfDataModule(BatchedDataModule):
    """Sentences with a label each.

    A subclass implements `load_splits`. The vocabulary is fitted on the training sentences alone and kept in the
    checkpoint together with the label names: predicting needs neither the data nor the network.

    Args:
        words: n-grams of words; null leaves them out.
        chars: n-grams of characters, joined to those of words; null leaves them out.
        preset: n-grams that have proved good, in place of those of words and chars: "words", single ones and pairs; or
            "words+chars", those and two to four characters, with a feature_dropout of 0.5 to 0.7. "auto" goes by the
            training texts (recipe.py) where words and chars are null. null takes words and chars as they are.
        feature_dropout: share of each training row's n-grams to leave out at random, anew in every epoch, in [0, 1).
        batch_size: rows per update, over all devices together; null goes by the number of training rows.
        seed: of the split, of the order of the rows and of feature_dropout; null takes the run's own (seed_everything),
            or else 42.
        stratified_batches: shuffle so that every batch holds each label in the proportion that all training rows do,
            instead of leaving it to chance: with many labels fewer epochs are needed.
        refit: train on the validation rows as well, and validate on none; see `train.py fit --refit true`.
        predict_inputs: sentences for `predict`, as ["will it snow"].
        predict_file: sentences for `predict`: a .txt file with one sentence a line, a file of any kind that trains,
            with the text in the same column, or "-" for standard input; without either, `predict` takes the test rows.

    Raises:
        ValueError: an option out of its range.
    """

    oos_label: str | None = None  # the label that means "none of the others" (out of scope)
    text_column = "text"  # of predict_file

    def __init__(
        self,
        words: Ngrams | None = Ngrams(ngram_range=(1, 2)),  # noqa: B008 - never changed
        chars: Ngrams | None = None,
        preset: Literal["auto", "words", "words+chars"] | None = None,
        feature_dropout: float = 0.0,
        batch_size: int | None = 256,
        seed: int | None = None,
        stratified_batches: bool = False,
        refit: bool = False,
        predict_inputs: list[str] | None = None,
        predict_file: str | None = None,
    ) -> None:
        super().__init__(256 if batch_size is None else batch_size, seed, stratified_batches, refit)
        if not 0 <= feature_dropout < 1:
            raise ValueError(f"feature_dropout must be at least 0 and below 1, got {feature_dropout}")
        if preset not in (None, "auto", *PRESETS):
            raise ValueError(f"preset must be auto, {', '.join(PRESETS)} or null, got {preset}")
        if words is None and chars is None and preset is None:
            raise ValueError("expected n-grams of words, of chars or of both; got words: null and chars: null")
        if predict_inputs is not None and predict_file is not None:
            raise ValueError("expected predict_inputs or predict_file, got both; leave one out")
        if predict_inputs is not None and not all(text.strip() for text in predict_inputs):
            raise ValueError(f"predict_inputs: expected no empty text, got {predict_inputs}")
        given = {name: options for name, options in (("words", words), ("chars", chars)) if options is not None}
        self.ngrams = PRESETS.get(preset or "", given)  # none yet, if they go by the texts
        self.given_batch_size, self.feature_dropout = batch_size, feature_dropout
        self.predict_inputs, self.predict_file = predict_inputs, predict_file
        self._train_matrix: Any = None  # TF-IDF of the training texts, where they were fitted in this process
        self._state: dict[str, Any] | None = None  # what goes into a checkpoint, or came from one
        self._trained_on: str | None = None  # fingerprint of the training rows, where a checkpoint has one
        self._unlike: list[str] = []  # options that are others than those of the checkpoint

    def load_splits(self) -> dict[str, LabelledTexts]:
        """Texts and labels of "train", "val" and "test"."""
        raise NotImplementedError

    def is_drawn(self, split: str) -> bool:
        """Whether the rows of "val" or "test" are held out from the training file."""
        return False

    def setup(self, stage: str) -> None:
        """Read and split the texts, and fit the vocabulary, once; `predict` of a user's own texts needs none.

        Raises:
            ValueError: texts or labels that cannot be used.
        """
        has_inputs = self.predict_inputs is not None or self.predict_file is not None
        if "splits" not in vars(self) and not (stage == "predict" and has_inputs):
            self.use_splits(self.load_splits())
        self.report_oddities(stage)

    def use_splits(self, splits: dict[str, LabelledTexts]) -> None:
        """Take these rows; labels and vocabulary come from the training rows, or a checkpoint before."""
        self.splits = join_validation(splits) if self.trains_on_validation else splits
        texts, labels = self.splits["train"]
        self.fingerprint = fingerprint(len(texts), json.dumps([texts, labels]).encode())
        if self._state is None:
            self.class_names = self._names_of_classes()
            count = Counter(labels)
            self.class_counts = [count[name] for name in self.class_names]
            ngrams = {} if self.ngrams else ngrams_for(texts)
            self.use_recipe(len(texts), len(self.class_names), ngrams)
            self.ngrams = self.ngrams or ngrams
            self.features = TfidfFeatures(self.ngrams)
            try:
                self._train_matrix = self.features.fit_transform(texts)
            except ValueError as error:
                remedy = rf"; for words of one character --data.words.token_pattern '{ALL_WORDS}', without words "
                is_empty = "empty vocabulary" in str(error) and "token_pattern" in str(error)
                raise ValueError(f"data.{error}{(remedy + BY_CHARACTERS) * is_empty}") from error

    def use_recipe(
        self, rows: int, classes: int, ngrams: dict[str, Ngrams], before: dict[str, Any] | None = None
    ) -> None:
        """Recommend options for so many training rows and classes, or those of a fit `before`; take the batch size.

        The command line gives the model and the Trainer theirs; n-grams, where they go by the texts, to config.yaml.
        """
        numbers = recipe(rows, classes, self.given_batch_size) | (before or {})
        self.recipe = numbers | (as_options(ngrams) if ngrams else {})
        self.batch_size = self.given_batch_size or numbers["data.batch_size"]

    def oddities(self, stage: str) -> list[str]:
        if stage != "fit" or self.refit:
            return []
        held_out = self.splits["val"][0]
        notes = few_to_choose_by(len(held_out))
        if "data.chars" in self.recipe and is_unspaced(self.splits["train"][0]):
            notes.append("texts without spaces between words: n-grams of characters, in place of words")
        warnings = label_oddities([label for _, labels in self.splits.values() for label in labels])
        sample = held_out[:1_000]
        unknown = int((self.vectorize(sample).getnnz(axis=1) == 0).sum())
        if unknown > len(sample) / 2:
            warnings.append(
                f"{unknown} of {len(sample)} validation texts have no n-gram that a training text has; a language "
                f"written without spaces needs n-grams of characters: {BY_CHARACTERS}"
            )
        return [f"note: {line}" for line in notes] + [f"warning: {line}" for line in warnings]

    def _names_of_classes(self) -> list[str]:
        """The labels of the training rows, sorted, the out-of-scope label last."""
        in_scope = sorted(set(self.splits["train"][1]) - {self.oos_label})
        if len(in_scope) < 2:
            raise ValueError(f"expected at least 2 labels to tell apart, got {in_scope} in the training rows")
        names = in_scope + ([self.oos_label] if self.oos_label is not None else [])
        for split, (_, labels) in self.splits.items():
            unknown = sorted(set(labels) - set(names))
            if unknown:
                similar = [name for name in names if folded(name) == folded(unknown[0])]
                remedy = f"{similar[0]!r} is: make them one" if similar else "add training rows or remove it"
                others = f" (likewise {listed(unknown[1:])})" if unknown[1:] else ""
                raise ValueError(
                    f"label {unknown[0]!r} is in the {split} rows but not in the training rows, so it cannot be "
                    f"learned; {remedy}{others}"
                )
        if self.oos_label is not None and not any(self.oos_label in labels for _, labels in self.splits.values()):
            similar = [name for name in in_scope if folded(name) == folded(self.oos_label)]
            remedy = f"there is {similar[0]!r}" if similar else "correct it or set it to null"
            raise ValueError(f"oos_label {self.oos_label!r} is the label of no row; {remedy}")
        return names

    @property
    def num_features(self) -> int:
        return len(self.feature_names)

    @property
    def feature_names(self) -> list[str]:
        """The n-gram of each column."""
        return self.features.feature_names

    @property
    def oos_class(self) -> int | None:
        """Number of the out-of-scope class, if there is one."""
        return None if self.oos_label is None else self.class_names.index(self.oos_label)

    def vectorize(self, texts: Sequence[str]) -> Any:
        """TF-IDF of texts: an (N, D) scipy CSR matrix in float32."""
        return self.features.transform(texts)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Any number of sentences to what the model takes, a sparse CSR tensor (N, D).

        Raises:
            ValueError: a single string, a map or a data frame, or something in the list that is no string.
        """
        if isinstance(texts, str):
            raise ValueError(f"expected a list of sentences, got one string: [{texts!r:.60}]")
        if isinstance(texts, Mapping) or hasattr(texts, "columns"):  # of which `list` would make the names
            raise ValueError(f"expected a list of sentences, got a {type(texts).__name__}: give its column of texts")
        for number, text in enumerate(texts := list(texts)):
            if not isinstance(text, str):
                raise ValueError(f"expected a list of sentences, got {text!r:.60} as number {number}")
        return self.features.encode_one(texts[0]) if len(texts) == 1 else as_tensor(self.vectorize(texts))

    def unseen(self, texts: Sequence[str]) -> list[list[str]]:
        """Of each text one line if no word of it is known, or, without n-grams of words, no n-gram."""
        x, words = self.encode(texts), self.features.num_words  # their columns come first
        known = x.col_indices() < (words or self.num_features)
        counts = [int(part.sum()) for part in known.split(x.crow_indices().diff().tolist())]
        what = "word" if words else "n-gram"
        return [[] if count else [f"no training text has any {what} of it"] for count in counts]

    def sklearn_transformer(self) -> Any:
        """The fitted TfidfVectorizer, or a FeatureUnion of several, that makes x of sentences."""
        return self.features.sklearn_transformer()

    def dataset(self, split: str) -> BatchedDataset:
        """The rows of a split: TF-IDF, sparse."""
        if split == "predict":
            if "inputs" not in vars(self):  # standard input can be read only once
                self.inputs = self._read_inputs()
            return BatchedDataset(self._gather_inputs, torch.full((len(self.inputs[0]),), -1))
        self.require_known_rows(split)
        texts, target = self.splits[split][0], self._target(split)
        if split != "train":
            return BatchedDataset(SparseRows(self.vectorize(texts)).gather, target)
        matrix = self.vectorize(texts) if self._train_matrix is None else self._train_matrix
        return BatchedDataset(SparseRows(matrix, self.feature_dropout, self.seed).gather, target)

    def _gather_inputs(self, batch: BatchIndices) -> Tensor:
        """Batch by batch: the vectors of a million texts would not fit."""
        texts = [self.inputs[0][index] for index in batch.indices.tolist()]
        return as_tensor(self.vectorize(texts))

    def contents(self, split: str) -> tuple[list[str | None], Tensor]:
        """Each text, whatever its case, space and punctuation, None where it has nothing else; target (N,)."""
        texts = self.splits[split][0]
        signs = {sign for sign in set().union(*texts) if unicodedata.category(sign)[0] in "PZC"}  # emoji are no such
        blank = dict.fromkeys(map(ord, signs), " ")
        return [" ".join(text.translate(blank).casefold().split()) or None for text in texts], self._target(split)

    def _target(self, split: str) -> Tensor:
        labels = self.splits[split][1]
        number = {name: n for n, name in enumerate(self.class_names)}
        return torch.tensor([number[label] for label in labels])

    def require_known_rows(self, split: str) -> None:
        """Refuse labels that the model does not know, and to train on other rows or n-grams than a checkpoint's own.

        Raises:
            ValueError: names the labels or options, or gives both fingerprints, and says what to do.
        """
        if split == "train" and self._unlike:
            raise ValueError(
                f"the checkpoint was trained with {'; '.join(self._unlike)}: to resume, use the run's own config.yaml; "
                "for other options, start a new run"
            )
        names = self.class_names
        unknown = sorted(set(self.splits[split][1]) - set(names))
        if unknown:  # the model is from a checkpoint, and these files are others than it was trained on
            raise ValueError(
                f"label {listed(unknown)} of the {split} rows is none of the {len(names)} that the model was trained "
                f"on ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''}): use the run's config.yaml, remove "
                "these rows, or train a new model on them"
            )
        if split == "train" or self.is_drawn(split):
            require_same_rows(self._trained_on, self.fingerprint)

    def describe(self, indices: Sequence[int], split: str) -> list[dict[str, Any]]:
        texts = self.inputs[0] if split == "predict" else self.splits[split][0]
        return [{"text": texts[index]} for index in indices]

    def input_rows(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """All columns of some rows to predict, as they are in predict_file."""
        texts, rows = self.inputs
        return [{self.text_column: texts[index]} if rows is None else rows[index] for index in indices]

    def is_empty(self, index: int) -> bool:
        """Whether a row to predict has no text."""
        return not self.inputs[0][index]

    def state_dict(self) -> dict[str, Any]:
        """Label names and counts, and each vectorizer's options, vocabulary and idf: strings, numbers and tensors."""
        if self._state is None:  # it never changes, and listing a large vocabulary at every checkpoint would take time
            self._state = super().state_dict() | {
                "class_names": self.class_names,
                "class_counts": self.class_counts,
                "oos_label": self.oos_label,
                "fingerprint": self.fingerprint,
                "vectorizers": self.features.state_dict(),
                "recipe": numbers_of(self.recipe),
            }
        return self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state is self._state:  # by the command line, before Lightning does
            return
        super().load_state_dict(state)
        features = TfidfFeatures(self.ngrams)
        features.load_state_dict(state["vectorizers"])
        self._unlike += _differences(features.ngrams, self.ngrams) if self.ngrams else []
        ngrams = {} if self.ngrams else features.ngrams
        classes, before = len(state["class_names"]), numbers_of(state.get("recipe", {}))
        self.use_recipe(sum(state["class_counts"]), classes, ngrams, before)
        if state["oos_label"] != self.oos_label:
            self._unlike.append(f"oos_label {state['oos_label']}, the configuration asks for {self.oos_label}")
        self.class_names, self.class_counts = state["class_names"], state["class_counts"]
        self.oos_label, self._trained_on = state["oos_label"], state["fingerprint"]
        self.features, self.ngrams, self._train_matrix, self._state = features, features.ngrams, None, state

    def _read_inputs(self) -> tuple[Sequence[str], Sequence[dict[str, Any]] | None]:
        if self.predict_file is not None:
            require_files("predict_file", self.predict_file)
            return read_inputs(self.predict_file, self.text_column)
        texts = self.splits["test"][0] if self.predict_inputs is None else self.predict_inputs
        if not texts:
            raise ValueError("predict_inputs: expected at least one text, got an empty list")
        return texts, None


def _differences(trained: dict[str, Ngrams], asked: dict[str, Ngrams]) -> list[str]:
    """The options of n-grams that two configurations do not share, by their names."""
    names, shared = sorted(trained | asked), sorted(trained.keys() & asked.keys())
    pairs = [(name, *("n-grams" if name in each else "null" for each in (trained, asked))) for name in names]
    for name in shared:
        before, now = asdict(trained[name]), asdict(asked[name])
        pairs += [(f"{name}.{option}", before[option], now[option]) for option in before]
    return [f"{name} {before}, the configuration asks for {now}" for name, before, now in pairs if before != now]
