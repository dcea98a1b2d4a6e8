"""Labelled sentences in shards, more than memory holds: mapped from local disk, their n-grams hashed.

Any row can be read at any time, so the order of the rows stays a pure function of (seed, epoch), and with it come exact
resume, several processes and reports. Hashing needs no vocabulary: there is none to count, to hold or to save.
"""

import hashlib
import math
import shutil
import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from scipy.sparse import csr_matrix
from torch import Tensor

from datamodules.batches import BatchedDataModule, BatchedDataset
from datamodules.sampler import generator
from datamodules.splits import fingerprint, require_same_rows
from datamodules.text.features import Ngrams
from datamodules.text.mapped_rows import (
    HashedRows,
    MappedRows,
    class_numbers,
    ends_of,
    files_of,
    labels_of,
    mapped,
    require_text,
)
from datamodules.text.sparse_rows import SparseRows, as_tensor

SPLITS = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("predict",)}  # of a stage


class TextShardsDataModule(BatchedDataModule):
    """Labelled sentences of your own in any number of files, of which memory holds 12 bytes a row.

    Needs `pip install datasets`. Files are copied once, as Arrow, to the local disk.

    Args:
        train_files: .parquet, .jsonl or .csv files by a pattern, as "data/train-*.parquet", or a list; in the order of
            their names.
        val_files: likewise; null holds out rows of train_files, drawn by their numbers from the seed.
        test_files: likewise.
        predict_files: likewise, without labels; null takes the test rows.
        text_column: name of the column with the text.
        label_column: name of the column with the label.
        num_hashes: D, the numbers that n-grams are hashed to: well above the number of frequent ones.
        ngram_range: length of the shortest and of the longest n-gram of words.
        hash_once: keep hashed rows in files of 8 bytes an n-gram, which makes later epochs and fits several times
            cheaper; false hashes rows whenever they are read.
        cache_dir: folder on a local disk for both kinds of files; null takes that of `datasets`, HF_DATASETS_CACHE.
        val_fraction: share to hold out for validation where there are no val_files, in (0, 1).
        test_fraction: share to hold out for the test where there are no test_files, in (0, 1).
        batch_size: rows per update, over all devices together.
        seed: of the rows held out and of the order; null takes the run's own (seed_everything), or else 42.

    Raises:
        ValueError: an option out of its range.
    """

    eval_batch_size = 1024  # 16 batches are read together, and texts may be long

    def __init__(
        self,
        train_files: str | list[str] | None = None,
        val_files: str | list[str] | None = None,
        test_files: str | list[str] | None = None,
        predict_files: str | list[str] | None = None,
        text_column: str = "text",
        label_column: str = "label",
        num_hashes: int = 2**18,
        ngram_range: tuple[int, int] = (1, 2),
        hash_once: bool = False,
        cache_dir: str | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        batch_size: int = 1024,
        seed: int | None = None,
    ) -> None:
        super().__init__(batch_size, seed)
        if not 1 <= num_hashes < 2**31:
            raise ValueError(f"num_hashes must be at least 1 and below 2^31, got {num_hashes}")
        ngrams = Ngrams(ngram_range=ngram_range)  # refuses a wrong one
        if not (0 < val_fraction < 1 and 0 < test_fraction < 1):
            raise ValueError(f"val_fraction and test_fraction must be in (0, 1), got {val_fraction}, {test_fraction}")
        self.files = {"train": train_files, "val": val_files, "test": test_files, "predict": predict_files}
        self.text_column, self.label_column = text_column, label_column
        self.hashing: dict[str, Any] = {"num_hashes": num_hashes, "ngram_range": list(ngrams.ngram_range)}
        self.hash_once, self.cache_dir = hash_once, cache_dir
        self.fractions = {"test": test_fraction, "val": val_fraction}
        self._rows: dict[str, MappedRows] = {}  # by split, from setup on
        self._datasets: dict[str, BatchedDataset] = {}
        self._trained_on: str | None = None  # fingerprint of the training rows, where a checkpoint has one
        self._unlike = ""  # the checkpoint's hashing, where the options are others

    def setup(self, stage: str) -> None:
        """Map the files of a stage, number the labels and, with `hash_once`, hash the rows.

        Raises:
            ValueError: files, columns or labels that cannot be used.
        """
        for split in SPLITS[stage]:
            if split not in self._datasets:
                self._datasets[split] = self._read(split)

    def _read(self, split: str) -> BatchedDataset:
        source = "test" if split == "predict" and not self.files["predict"] else split
        kind = "train" if self.is_drawn(source) else source
        option, paths = f"{kind}_files", files_of(f"{kind}_files", self.files[kind])
        table, contents = mapped(option, paths, self.cache_dir), [part for path in paths for part in ends_of(path)]
        require_text(option, table, self.text_column)
        places = self._drawn(source, len(table)) if kind == "train" else None
        self._rows[split] = rows = MappedRows(table, places, self.text_column, self.vectorize)
        if kind == "train":
            drawn = [(name, share, self.seed) for name, share in self.fractions.items() if self.is_drawn(name)]
            how = f"{self.text_column} {self.label_column} {drawn}"
            self.fingerprint = fingerprint(len(table), *contents, how.encode())
        if split == "predict":
            return BatchedDataset(SparseRows(rows).gather, torch.full((len(rows),), -1, dtype=torch.int32))
        learns = split == "train" and self._trained_on is None
        if learns:
            chunks = labels_of(option, table, self.label_column)
            self.class_names = sorted({name for chunk in chunks for name in chunk.unique().to_pylist()})
            if len(self.class_names) < 2:
                raise ValueError(f"train_files: expected at least 2 labels to tell apart, got {self.class_names}")
        labels = labels_of(option, table, self.label_column)
        target = class_numbers(split, labels, self.class_names, len(table))
        target = target if places is None else target[places]
        if learns:
            self.class_counts = target.bincount(minlength=self.num_classes).tolist()
        if self.hash_once:
            rows.hashed = HashedRows(self._hashed(table, contents), self.num_features)
        return BatchedDataset(SparseRows(rows).gather, target)

    def is_drawn(self, split: str) -> bool:
        """Whether the rows of "val" or "test" are held out from train_files."""
        return split in self.fractions and not self.files[split]

    def _drawn(self, split: str, number: int) -> np.ndarray | None:
        """Numbers of the rows of train_files that belong to a split, ascending; None for all of them."""
        shares, left = [], number
        for name, share in self.fractions.items():
            shares.append(math.ceil(share * left) if self.is_drawn(name) else 0)
            left -= shares[-1]
        if left < 1:
            raise ValueError(f"cannot hold out {sum(shares)} of {number} rows: give val_files and test_files")
        if left == number:
            return None
        order = torch.randperm(number, dtype=torch.int32, generator=generator(self.seed, 0, stream=2))
        part = order.split([*shares, left])[("test", "val", "train").index(split)]
        return part.sort().values.numpy()

    def _hashed(self, table: Any, contents: list[bytes]) -> Path:
        """The folder with the hashed rows of these files, made once; of several processes by one."""
        from datasets import config

        key = hashlib.sha256(b"\0".join([*contents, f"{self.text_column} {self.hashing}".encode()])).hexdigest()[:16]
        folder = Path(self.cache_dir or config.HF_DATASETS_CACHE) / f"hashed-{key}"
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                rank_zero_only(print)(f"note: hashes {len(table):,} rows once, into {folder}", file=sys.stderr)
                unfinished = folder.with_suffix(".part")
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir()
                HashedRows.write(unfinished, MappedRows(table, None, self.text_column, self.vectorize))
                unfinished.rename(folder)
        return folder

    def dataset(self, split: str) -> BatchedDataset:
        """The rows of a split, read when they are asked for."""
        self.require_known_rows(split)
        return self._datasets[split]

    def require_known_rows(self, split: str) -> None:
        """Refuse to train with another hashing, or on other rows, than a checkpoint's own."""
        if split == "train" and self._unlike:
            raise ValueError(
                f"the checkpoint was trained with {self._unlike}: to resume, use the run's own config.yaml; for other "
                "options, start a new run"
            )
        if split == "train" or self.is_drawn(split):
            require_same_rows(self._trained_on, self.fingerprint)

    @cached_property
    def vectorizer(self) -> Any:
        """scikit-learn's HashingVectorizer, which learns nothing; a row has length 1."""
        from sklearn.feature_extraction.text import HashingVectorizer  # slow to import, so not at the top

        ngrams = tuple(self.hashing["ngram_range"])
        options = {"n_features": self.num_features, "ngram_range": ngrams, "dtype": np.float32}
        return HashingVectorizer(alternate_sign=False, **options)

    def vectorize(self, texts: Sequence[str]) -> csr_matrix:
        """Texts to CSR (N, D) in float32, each row's columns in ascending order."""
        if not len(texts):  # of which scikit-learn makes nothing; a process may hold no row of the last batch
            return csr_matrix((0, self.num_features), dtype=np.float32)
        matrix = self.vectorizer.transform(texts)
        matrix.sort_indices()
        return csr_matrix((matrix.data, matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32)), matrix.shape)

    @property
    def num_features(self) -> int:
        return self.hashing["num_hashes"]

    def describe(self, indices: Sequence[int], split: str) -> list[dict[str, Any]]:
        return [{"text": text} for text in self._rows[split].texts(indices)]

    def input_table(self, indices: Sequence[int]) -> Any:
        """All columns of some rows to predict, a `pyarrow.Table`."""
        return self._rows["predict"].table(indices)

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Any number of sentences to what the model takes, a sparse CSR tensor (N, D)."""
        return as_tensor(self.vectorize(texts))

    def sklearn_transformer(self) -> Any:
        """The HashingVectorizer that makes x of sentences."""
        return self.vectorizer

    def state_dict(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("class_names", "class_counts", "hashing")}
        return super().state_dict() | own | {"fingerprint": self._trained_on or self.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        differ = {name: value for name, value in self.hashing.items() if value != state["hashing"][name]}
        self._unlike += "; ".join(f"{n} {state['hashing'][n]}, the configuration has {v}" for n, v in differ.items())
        self.class_names, self.class_counts = state["class_names"], state["class_counts"]
        self.hashing, self._trained_on = state["hashing"], state["fingerprint"]
