"""Labelled sentences of your own, from files as people have them."""

from functools import partial
from typing import Any

from datamodules.files.cells import as_label
from datamodules.files.readers import read_labelled, read_splits, require_files
from datamodules.splits import hold_out
from datamodules.text.tfidf import LabelledTexts, TfidfDataModule


class TextDataModule(TfidfDataModule):
    """Labelled sentences of your own, from one file or from up to three.

    Args:
        train_file: .csv, .tsv, .json (a list of objects), .jsonl or .parquet, also compressed (.csv.gz); of several
            files a list. In UTF-8, or UTF-16 with a mark, columns separated by `,` `;` or tabs.
        val_file: likewise; null holds out a stratified share of the training rows.
        test_file: likewise; null holds out a stratified share of the training rows.
        text_column: name of the column or field with the text.
        label_column: name of the column or field with the label.
        oos_label: the label that means "none of the others" (out of scope); null if there is none.
        val_fraction: share to hold out for validation where there is no val_file, in (0, 1).
        test_fraction: share to hold out for the test where there is no test_file, in (0, 1).
        groups_file: a file of the same kind with the columns `label` and `group`, for a picture of which groups are
            mistaken for each other; null if labels have no groups.
        drop_unlabelled: leave out rows of these files that have no label, or the only row of one, instead of refusing
            them.
        options: as in TfidfDataModule.

    Raises:
        ValueError: an option out of its range, or files that are not what they should be.
    """

    def __init__(
        self,
        train_file: str | list[str] | None = None,
        val_file: str | list[str] | None = None,
        test_file: str | list[str] | None = None,
        text_column: str | int = "text",
        label_column: str | int = "label",
        oos_label: str | int | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        groups_file: str | None = None,
        drop_unlabelled: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if not (0 < val_fraction < 1 and 0 < test_fraction < 1):
            raise ValueError(f"val_fraction and test_fraction must be in (0, 1), got {val_fraction}, {test_fraction}")
        self.files = {"train": train_file, "val": val_file, "test": test_file}
        self.fractions = {"test": test_fraction, "val": val_fraction}
        self.text_column, self.label_column = str(text_column), str(label_column)  # YAML reads the name 0 as a number
        self.oos_label = as_label(oos_label)
        self.groups_file, self.drop_unlabelled = groups_file, drop_unlabelled

    def class_groups(self) -> list[str] | None:
        """The group of each label in groups_file.

        Raises:
            ValueError: a label that groups_file does not list.
        """
        if self.groups_file is None:
            return None
        require_files("groups_file", self.groups_file)
        group_of = dict(zip(*read_labelled(self.groups_file, "label", "group", self.drop_unlabelled), strict=True))
        if missing := [name for name in self.class_names if name not in group_of]:
            raise ValueError(f"{self.groups_file}: expected a group for each label, got none for {', '.join(missing)}")
        return [group_of[name] for name in self.class_names]

    def is_drawn(self, split: str) -> bool:
        return not self.files[split]

    def load_splits(self) -> dict[str, LabelledTexts]:
        """Read the files, and hold out what there is no file for."""
        columns = {"text_column": self.text_column, "label_column": self.label_column}
        read = partial(read_labelled, **columns, drop_unlabelled=self.drop_unlabelled)
        return hold_out(read_splits(self.files, read), self.fractions, self.seed, self.drop_unlabelled)
