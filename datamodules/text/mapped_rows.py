"""Rows in files mapped into memory, from Parquet, JSON Lines or CSV files, and their labels.

`datasets` (Hugging Face) copies the files as Arrow to the local disk once, and maps the copy.
"""

import csv
import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from datamodules.splits import listed

SUFFIXES = (".parquet", ".jsonl", ".csv")
PARTS = {"starts": np.int64, "columns": np.int32, "values": np.float32}  # files of hashed rows, as in scipy's CSR
CHUNK = 4096  # rows that are hashed together
ROWS_OF_CHUNK = 10_000  # of the Arrow files; each chunk takes 3 kB of memory
ENDS = 2**16  # bytes at either end of a file that its fingerprint reads


class MappedRows:
    """Rows of a split in mapped files; those at an array of indices (n,) as CSR (n, D), as SparseRows takes them.

    Args:
        rows: a `datasets.Dataset`, all rows of the files.
        places: numbers of the split's rows among these, (N,); None for all of them.
        column: name of the one with the texts.
        vectorize: from texts to CSR.
    """

    def __init__(self, rows: Any, places: np.ndarray | None, column: str, vectorize: Any) -> None:
        self.rows, self.places, self.column, self.vectorize = rows.with_format("arrow"), places, column, vectorize
        self._texts = self.rows.select_columns([column])
        self.hashed: HashedRows | None = None  # in place of `vectorize`

    def __len__(self) -> int:
        return len(self.rows) if self.places is None else len(self.places)

    def __getitem__(self, indices: np.ndarray) -> csr_matrix:
        return self.vectorize(self.texts(indices)) if self.hashed is None else self.hashed[self._at(indices)]

    def texts(self, indices: Sequence[int] | np.ndarray) -> list[str]:
        """The texts of rows of the split, "" where one has none."""
        texts = self._texts[self._at(indices)][self.column].to_pylist()
        return [text or "" for text in texts]

    def table(self, indices: Sequence[int] | np.ndarray) -> Any:
        """All columns of rows of the split, a `pyarrow.Table`."""
        return self.rows[self._at(indices)]

    def _at(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        numbers = np.asarray(indices, dtype=np.int64)  # an empty list has floats
        return numbers if self.places is None else self.places[numbers]


class HashedRows:
    """Rows that were hashed before, in mapped files, indexed likewise."""

    def __init__(self, folder: Path, num_features: int) -> None:
        self.num_features = num_features
        mapped = (np.memmap(folder / name, dtype, "r") for name, dtype in PARTS.items())
        self.starts, self.columns, self.values = (np.asarray(part) for part in mapped)

    def __getitem__(self, indices: np.ndarray) -> csr_matrix:
        starts = self.starts[indices]
        sizes = self.starts[indices + 1] - starts
        ends = np.concatenate(([0], sizes.cumsum()))
        cells = np.arange(ends[-1]) + np.repeat(starts - ends[:-1], sizes)
        parts = self.values[cells], self.columns[cells], ends.astype(np.int32)
        return csr_matrix(parts, shape=(len(indices), self.num_features), copy=False)

    @staticmethod
    def write(folder: Path, rows: MappedRows) -> None:
        """Hash rows into files of a folder."""
        starts, columns, values = ((folder / name).open("wb") for name in PARTS)
        with starts, columns, values:
            total = np.zeros(1, np.int64)
            total.tofile(starts)
            for start in range(0, len(rows), CHUNK):
                matrix = rows[np.arange(start, min(start + CHUNK, len(rows)))]
                (total + matrix.indptr[1:]).tofile(starts)
                matrix.indices.tofile(columns)
                matrix.data.tofile(values)
                total += matrix.nnz
            np.zeros(1, np.int32).tofile(columns)  # an empty file cannot be mapped
            np.zeros(1, np.float32).tofile(values)


def files_of(option: str, patterns: str | list[str] | None) -> list[str]:
    """The files that patterns name, each pattern's in the order of their names; they must be of one kind."""
    if not patterns:
        raise ValueError(f"{option}: expected files, got none; --data.{option} 'FOLDER/*.parquet'")
    files: list[str] = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        found = sorted(glob.glob(os.path.expandvars(os.path.expanduser(pattern))))
        if not found:
            raise FileNotFoundError(f"{option}: no file fits {pattern}; --data.{option} 'FOLDER/*.parquet'")
        files += found
    kinds = {Path(file).suffix.lower() for file in files}
    if len(kinds) > 1 or not kinds <= set(SUFFIXES):
        raise ValueError(f"{option}: expected files that all end in one of {', '.join(SUFFIXES)}, got {sorted(kinds)}")
    return files


def mapped(option: str, files: list[str], cache_dir: str | None) -> Any:
    """All rows of some files, a mapped `datasets.Dataset`; copied as Arrow into the cache, unless they are there."""
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise ValueError("text in shards needs the package datasets: pip install datasets") from error
    datasets.disable_progress_bars()
    read, options = datasets.Dataset.from_parquet, {"writer_batch_size": ROWS_OF_CHUNK}
    if files[0].lower().endswith(".jsonl"):
        read = datasets.Dataset.from_json
    elif files[0].lower().endswith(".csv"):  # all cells are text: a label may be NA, or 01
        with open(files[0], newline="", encoding="utf-8") as file:
            header = next(csv.reader(file), [])
        texts = datasets.Features({name: datasets.Value("string") for name in header})
        read = datasets.Dataset.from_csv
        options |= {"features": texts, "keep_default_na": False}
    try:
        rows = read(files, cache_dir=cache_dir, **options)
    except (datasets.exceptions.DatasetGenerationError, ValueError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise ValueError(f"{option}: expected files of rows with the same columns: {reason:.300}") from error
    if not len(rows):
        raise ValueError(f"{option}: expected at least one row, got none")
    return rows


def require_text(option: str, rows: Any, column: str) -> None:
    """Refuse rows without a column of text."""
    column_of(option, rows, column, "text_column")
    if (kind := rows.features[column].dtype) not in ("string", "large_string"):
        raise ValueError(f"{option}: expected text in {column!r}, got {kind}")


def labels_of(option: str, rows: Any, column: str) -> Iterator[Any]:
    """The labels of all rows, text or whole numbers, as text in arrays of Arrow; each row must have one."""
    import pyarrow as pa

    labels = column_of(option, rows, column, "label_column")
    if labels.null_count:
        raise ValueError(f"{option}: expected a label in {column!r} of each row, {labels.null_count} have none")
    if names := getattr(rows.features[column], "names", None):  # of `datasets`' own ClassLabel
        return (pa.array(names).take(chunk) for chunk in labels.chunks)
    if not any(is_kind(labels.type) for is_kind in (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer)):
        raise ValueError(f"{option}: expected text or whole numbers in {column!r}, got {labels.type}")
    return (chunk.cast(pa.string()) for chunk in labels.chunks)


def column_of(option: str, rows: Any, column: str, name: str) -> Any:
    """A column of all rows, a `pyarrow.ChunkedArray`."""
    if column not in rows.column_names:
        raise ValueError(f"{option}: expected a column {column!r}, got {listed(rows.column_names)}; set --data.{name}")
    return rows.data.column(column)


def class_numbers(split: str, labels: Iterable[Any], class_names: Sequence[str], number: int) -> Tensor:
    """Class numbers of that many labels, (N,) in int32; each must be a class."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names, target, start = pa.array(class_names), torch.empty(number, dtype=torch.int32), 0
    for chunk in labels:
        numbers = pc.index_in(chunk, names)
        if numbers.null_count:
            unknown = sorted(set(chunk.to_pylist()) - set(class_names))
            raise ValueError(
                f"label {listed(unknown)} of the {split} rows is none of the {len(class_names)} of the training rows: "
                "use the run's config.yaml, remove these rows, or train a new model on them"
            )
        target[start : start + len(chunk)] = torch.from_numpy(numbers.to_numpy().copy())
        start += len(chunk)
    return target


def ends_of(path: str) -> tuple[bytes, bytes]:
    """The length of a file, and its first and last 64 KiB, where a Parquet file has statistics of its columns."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        start = file.read(ENDS)
        file.seek(max(size - ENDS, 0))
        return str(size).encode(), start + file.read()
