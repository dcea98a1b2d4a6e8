"""Tables of a few numbers per row: read or generated, split, standardised."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from datamodules.batches import BatchedDataModule, BatchedDataset
from datamodules.sampler import BatchIndices
from datamodules.splits import fingerprint, join_validation, require_same_rows, require_two_rows, stratified_split
from datamodules.table.recipe import chosen_penalty, number_of_epochs, numbers_of, penalty, size_of_batches, stable_rate

NAMES = ("feature_names", "class_names")
LARGEST = 1e30  # standard deviations: with weights, products and sums of them are numbers of a float32
MOST_TO_REFIT = 200_000  # rows, up to which a second fit on all of them is worth its time
STATE = (*NAMES, "class_counts", "mean", "scale")  # what a checkpoint keeps


class Table(NamedTuple):
    """A whole data set, before it is split.

    Attributes:
        x: (N, F) finite numbers, as an array, a tensor, a data frame or nested lists.
        target: (N,) class numbers from 0 to K - 1, in any of these forms.
        feature_names: F names.
        class_names: K names.
    """

    x: Any
    target: Any
    feature_names: Sequence[str]
    class_names: Sequence[str]


class TabularDataModule(BatchedDataModule):
    """Splits a table and standardises each column by the mean and standard deviation of the training rows.

    A subclass implements either `load_table`, which returns the whole data set, or `load_splits`, which returns it
    already split; the latter must also set `feature_names` and `class_names` in its constructor. Names, mean and scale
    are kept in the checkpoint, so that rows given for `predict` are scaled as the training rows were and need no data.

    Args:
        val_fraction: share of all rows to hold out for validation, in (0, 1).
        test_fraction: share of all rows to hold out for the test, in (0, 1).
        batch_size: rows per update, over all devices together; null goes by the number of training rows.
        seed: of the split and of the order of the rows; null takes the run's own (seed_everything), or else 42.
        stratified_batches: shuffle so that every training batch holds each class in its overall proportion.
        refit: train on the validation rows as well, and validate on none; see `train.py fit --refit true`.
        predict_inputs: raw rows for `predict`, one list of feature values each, as [[4.9, 1.7]]; null predicts the test
            rows.

    Attributes:
        feature_names: names of the F raw columns.
        class_names: names of the K classes.
        class_counts: training rows of each class, K numbers.
        mean, scale: what is subtracted from each of the D columns, and what it is divided by, (D,) each.

    Raises:
        ValueError: an option out of its range.
    """

    predict_file: str | None = None  # of subclasses that read rows to predict
    feature_names: list[str]
    class_counts: list[int]

    def __init__(
        self,
        val_fraction: float = 0.2,
        test_fraction: float = 0.2,
        batch_size: int | None = 16,
        seed: int | None = None,
        stratified_batches: bool = False,
        refit: bool = False,
        predict_inputs: list[list[float]] | None = None,
    ) -> None:
        super().__init__(16 if batch_size is None else batch_size, seed, stratified_batches, refit)
        if not (val_fraction > 0 and test_fraction > 0 and val_fraction + test_fraction < 1):
            raise ValueError(
                "val_fraction and test_fraction must be above 0 and leave rows to train on, "
                f"got {val_fraction} and {test_fraction}"
            )
        self.val_fraction, self.test_fraction, self.predict_inputs = val_fraction, test_fraction, predict_inputs
        self.given_batch_size = batch_size
        self.recipe: dict[str, Any] = {}
        self.mean: Tensor | None = None
        self.scale: Tensor | None = None
        self.fingerprint = ""  # of the training rows, in their order
        self._restored: str | None = None  # that of a checkpoint

    def load_table(self) -> Table:
        raise NotImplementedError("implement load_table, or load_splits and set feature_names and class_names")

    def load_splits(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Raw features (N, F) in float32 and target (N,) of "train", "val" and "test"."""
        x, target, feature_names, class_names = self._checked(self.load_table())
        self.feature_names, self.class_names = list(feature_names), list(class_names)
        require_two_rows([class_names[k] for k in target], round(len(x) * self.test_fraction), "test")
        rest, test = stratified_split(target.tolist(), round(len(x) * self.test_fraction), self.seed, "test")
        kept, held = stratified_split(target[rest].tolist(), round(len(x) * self.val_fraction), self.seed, "val")
        rows = {"train": [rest[i] for i in kept], "val": [rest[i] for i in held], "test": test}
        return {split: (x[indices], target[indices]) for split, indices in rows.items()}

    def is_drawn(self, split: str) -> bool:
        """Whether the rows of "val" or "test" are held out from those that the training rows are from."""
        return type(self).load_splits is TabularDataModule.load_splits

    def add_features(self, x: Tensor) -> Tensor:
        """Append derived columns to raw features: (N, F) to (N, D). The default adds none."""
        return x

    def setup(self, stage: str) -> None:
        """Read the rows, split and standardise them, once; `predict` of a user's own inputs needs none.

        Raises:
            ValueError: rows that cannot be used.
        """
        has_inputs = self.predict_inputs is not None or self.predict_file is not None
        if "splits" not in vars(self) and not (stage == "predict" and has_inputs):
            self.use_splits(self.load_splits())
        self.report_oddities(stage)

    def use_splits(self, splits: dict[str, tuple[Tensor, Tensor]]) -> None:
        """Take these rows; counts, mean and scale come from the training rows, or a checkpoint before."""
        self.splits = join_validation(splits) if self.trains_on_validation else splits
        x, target = self.splits["train"]
        self.fingerprint = fingerprint(len(x), x.numpy().tobytes(), target.numpy().tobytes())
        if self.mean is None:
            self.class_counts = torch.bincount(target, minlength=self.num_classes).tolist()
            self.fit_scale(x)
            # Functions, as what they choose takes time, and may be given; of training rows alone, for others judge.
            functions = {"model.l2": chosen_penalty, "model.lr": stable_rate}
            rows = (self.transform, x, target, self.seed)
            self.use_recipe(self._sizes(len(x)) | {name: partial(choose, *rows) for name, choose in functions.items()})

    def _sizes(self, rows: int) -> dict[str, Any]:
        batch_size, epochs = self.given_batch_size or size_of_batches(rows), number_of_epochs(rows)
        return {"refit": rows <= MOST_TO_REFIT, "data.batch_size": batch_size, "trainer.max_epochs": epochs}

    def use_recipe(self, recommended: dict[str, Any]) -> None:
        """Take the batch size, where the options leave it open; the command line sets those of model and Trainer."""
        self.recipe = recommended
        self.batch_size = self.given_batch_size or recommended["data.batch_size"]

    def fit_scale(self, x: Tensor) -> None:
        """Take mean and scale from raw training rows, (N, F)."""
        from sklearn.preprocessing import StandardScaler  # slow to import, so not at the top

        scaler = StandardScaler().fit(self.add_features(x).double().numpy())
        self.mean, self.scale = torch.from_numpy(scaler.mean_).float(), torch.from_numpy(scaler.scale_).float()

    @property
    def num_features(self) -> int:
        """D, the columns of what `transform` returns."""
        return len(self.scaling()[0])

    def points(self, split: str) -> tuple[Tensor, Tensor]:
        """Raw features (N, F), in their own units, and target (N,) of a split."""
        return self.splits[split]

    def contents(self, split: str) -> tuple[list[tuple[float, ...]], Tensor]:
        """Raw features of each row, to be compared with others, and target (N,)."""
        x, target = self.points(split)
        return [tuple(row) for row in x.tolist()], target

    def transform(self, x: Tensor) -> Tensor:
        """Raw features (N, F) to the model's, (N, D): derived columns added, each column standardised."""
        mean, scale = self.scaling()
        return ((self.add_features(x) - mean) / scale).clamp(-LARGEST, LARGEST)

    def encode(self, rows: Any) -> Tensor:
        """Raw rows (N, F), as an array, a tensor, a data frame or nested lists, to what the model takes, (N, D).

        Raises:
            ValueError: anything but F finite numbers in each row.
        """
        return self.transform(as_rows(rows, self.feature_names))

    def scaling(self) -> tuple[Tensor, Tensor]:
        """What `transform` subtracts from each column, and what it divides by: (D,) and (D,)."""
        if self.mean is None or self.scale is None:
            raise AttributeError(f"{type(self).__name__} has learned no scale yet: call .setup('fit') first")
        return self.mean, self.scale

    def sklearn_transformer(self) -> Any:
        """The fitted StandardScaler that makes x of raw rows.

        Raises:
            ValueError: there are derived columns, which it cannot make.
        """
        from sklearn.preprocessing import StandardScaler

        if self.num_features != len(self.feature_names):
            raise ValueError(
                f"scikit-learn's StandardScaler makes no derived columns, {type(self).__name__} has "
                f"{self.num_features - len(self.feature_names)}"
            )
        scaler = StandardScaler()
        scaler.mean_, scaler.scale_ = (column.double().numpy().copy() for column in self.scaling())
        scaler.var_, scaler.n_features_in_ = scaler.scale_**2, self.num_features
        return scaler

    def dataset(self, split: str) -> BatchedDataset:
        """The rows of a split, standardised."""
        self.require_known_rows(split)
        raw, target = self._raw(split)
        return BatchedDataset(partial(_rows, self.transform(raw)), target)

    def require_known_rows(self, split: str) -> None:
        """Refuse training rows other than those of the checkpoint, and rows held out from others.

        Raises:
            ValueError: gives both fingerprints, and what to do.
        """
        if split == "train" or (split != "predict" and self.is_drawn(split)):
            require_same_rows(self._restored, self.fingerprint)

    def describe(self, indices: Sequence[int], split: str) -> list[dict[str, Any]]:
        """The raw features of some rows of a split, by name."""
        x, _ = self._raw(split)
        return [
            {name: round(value, 4) for name, value in zip(self.feature_names, x[index].tolist(), strict=True)}
            for index in indices
        ]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: names and counts, mean and scale, and the fingerprint of the training rows."""
        own = {name: getattr(self, name) for name in STATE}
        chosen = numbers_of(self.recipe)
        return super().state_dict() | own | {"fingerprint": self._restored or self.fingerprint, "recipe": chosen}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take all of it from a checkpoint.

        Raises:
            ValueError: the checkpoint was trained on other features or classes.
        """
        super().load_state_dict(state)
        for name in NAMES:
            if name in vars(self) and state[name] != vars(self)[name]:
                raise ValueError(
                    f"the checkpoint was trained on {name} {state[name]!s:.300}, the configuration asks for "
                    f"{vars(self)[name]}; use the run's own config.yaml"
                )
        width = self.add_features(torch.zeros(1, len(state["feature_names"]))).shape[1]
        if len(state["mean"]) != width:
            raise ValueError(
                f"the checkpoint was trained on {len(state['mean'])} columns, the configuration makes {width}; "
                "use the run's own config.yaml"
            )
        for name in STATE:
            setattr(self, name, state[name])
        self._restored = state["fingerprint"]
        rows = sum(self.class_counts)  # what was given, and so never chosen, is not kept by a checkpoint
        unchosen = {"model.l2": partial(penalty, 1.0, rows), "model.lr": partial(float, 0.1)}
        self.use_recipe(self._sizes(rows) | unchosen | numbers_of(state.get("recipe", {})))

    def _raw(self, split: str) -> tuple[Tensor, Tensor]:
        """Raw features (N, F) and target (N,) of a split; those of "predict" are the inputs given, or the test rows."""
        if split != "predict" or self.predict_inputs is None:
            return self.points("test" if split == "predict" else split)
        if not self.predict_inputs:
            raise ValueError("predict_inputs: expected at least one point, got an empty list")
        x = as_rows(self.predict_inputs, self.feature_names)
        return x, torch.full((len(x),), -1)

    def _checked(self, table: Any) -> Table:
        """What `load_table` returns, as tensors and lists of plain str."""
        if not isinstance(table, tuple | list) or len(table) != len(Table._fields):
            got = f"{len(table)} values" if isinstance(table, tuple | list) else type(table).__name__
            raise ValueError(f"load_table: expected a Table of {', '.join(Table._fields)}, got {got}")
        feature_names, class_names = ([str(name) for name in each] for each in table[2:])
        x, target = as_rows(table[0], feature_names), np.asarray(table[1])
        if target.shape != (len(x),):
            raise ValueError(f"load_table: expected a class number for each of {len(x)} rows, got {target.shape}")
        if target.dtype.kind not in "biu" or not 0 <= target.min() <= target.max() < len(class_names):
            raise ValueError(
                f"load_table: expected whole class numbers from 0 to {len(class_names) - 1} as target, one for each of "
                f"the class names, got {', '.join(map(str, np.unique(target)[:10]))}"
            )
        for name, found in zip(NAMES, (feature_names, class_names), strict=True):
            if vars(self).get(name, found) != found:
                raise ValueError(f"the checkpoint was trained on {name} {vars(self)[name]}, the data has {found}")
        return Table(x, torch.tensor(target).long(), feature_names, class_names)


def as_rows(rows: Any, names: Sequence[str]) -> Tensor:
    """Rows (N, F), as an array, a tensor, a data frame or nested lists, in float32; a copy.

    Raises:
        ValueError: anything but a finite number for each of the F names in a row.
    """
    rows = in_order(rows, names)
    try:
        x = np.asarray(rows, dtype=np.float32).reshape(len(rows), len(names))
    except (TypeError, ValueError, OverflowError):
        got = f"an array of shape {rows.shape}" if hasattr(rows, "shape") else f"{rows!r:.100}"
        for number, row in enumerate(rows if isinstance(rows, list | tuple) else ()):
            if isinstance(row, list | tuple) and len(row) != len(names):
                got = f"{row!r:.100} in row {number}"
                break
        raise ValueError(f"expected rows of {len(names)} numbers ({', '.join(names)}), got {got}") from None
    if not np.isfinite(x).all():
        row = int((~np.isfinite(x)).any(axis=1).argmax())
        raise ValueError(f"expected finite numbers, got [{', '.join(map(str, x[row]))}] in row {row}")
    return torch.tensor(x)


def in_order(rows: Any, names: Sequence[str]) -> Any:
    """The columns of a data frame in the order of these names; anything else, or a frame without names, as it is.

    Raises:
        ValueError: the frame's columns have names, and one of these is not among them.
    """
    named = [*getattr(rows, "columns", ())]
    columns = list(map(str, named))
    if not set(columns) & set(names) and not any(isinstance(name, str) for name in named):
        return rows
    if absent := [name for name in names if name not in columns]:
        raise ValueError(f"expected a column {', '.join(map(repr, absent[:10]))}, got {', '.join(columns[:20])}")
    return np.asarray(rows, dtype=object)[:, [columns.index(name) for name in names]]


def _rows(x: Tensor, batch: BatchIndices) -> Tensor:  # no closure, so that worker processes can be handed it
    return x[batch.indices]
