"""Predictions as Parquet files, for more rows than lines of text are good for; each process writes its own."""

import shutil
from pathlib import Path
from typing import Any

import lightning as L

from callbacks.rows import ClassifiedBatch
from callbacks.tables import disambiguate

ROWS_OF_GROUP = 2**16  # that are written together
ROWS_OF_FILE = 2**20
NAMES = ("row", "label", "probability", "second_label", "second_probability")


class PredictionShards:
    """Parquet files of a folder, which replaces an earlier one at the end: all columns of the data, and the prediction.

    The data must have `input_table` and `class_names`.
    """

    def __init__(self, folder: Path, data: Any, trainer: L.Trainer) -> None:
        self.folder, self.data, self.trainer = folder, data, trainer
        self.unfinished = folder.with_name(f".{folder.name}")
        self._tables: list[Any] = []  # to be written together
        self._writer: Any = None
        self._num_files = self._rows_of_file = 0
        if trainer.is_global_zero:
            shutil.rmtree(self.unfinished, ignore_errors=True)
            self.unfinished.mkdir(parents=True)
        trainer.strategy.barrier()

    def write(self, rows: ClassifiedBatch) -> None:
        import pyarrow as pa

        names = pa.array(self.data.class_names)
        top = rows.proba.float().topk(2, dim=1)
        first = (top.indices[:, 0] == rows.label).long().unsqueeze(1)  # the column of the other class
        second, second_p = (part.gather(1, first).squeeze(1).cpu().numpy() for part in (top.indices, top.values))
        label, p = rows.label.cpu().numpy(), rows.confidence.float().cpu().numpy()
        table = self.data.input_table(rows.indices.tolist())
        columns = (rows.indices.cpu().numpy(), names.take(pa.array(label)), p, names.take(pa.array(second)), second_p)
        for name, column in zip(disambiguate(NAMES, table.column_names, "predicted_"), columns, strict=True):
            table = table.append_column(name, pa.array(column))
        self._tables.append(table)
        if sum(map(len, self._tables)) >= ROWS_OF_GROUP:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter

        table, self._tables = pa.concat_tables(self._tables), []
        if self._writer is None:
            name = f"{self.trainer.global_rank:03}-{self._num_files:05}.parquet"
            self._writer = ParquetWriter(self.unfinished / name, table.schema)
        self._writer.write_table(table)
        self._rows_of_file += len(table)
        if self._rows_of_file >= ROWS_OF_FILE:
            self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer, self._rows_of_file, self._num_files = None, 0, self._num_files + 1

    def finish(self, problem: str | None) -> None:
        """Give the folder its name, and tell where it is; with a problem, remove it."""
        from pyarrow.parquet import read_metadata

        if self._tables:
            self._flush()
        self._close()
        self.trainer.strategy.barrier()
        if not self.trainer.is_global_zero:
            return
        if problem is not None:
            self.abandon()
            return print(f"`predict` leaves out its predictions: {problem}")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.unfinished.rename(self.folder)
        rows = [read_metadata(file).num_rows for file in self.folder.glob("*.parquet")]
        print(f"{sum(rows)} predictions in {len(rows)} file{'' if len(rows) == 1 else 's'}, {self.folder}/*.parquet")

    def abandon(self) -> None:
        """After an error, leave an earlier folder as it was."""
        shutil.rmtree(self.unfinished, ignore_errors=True)
