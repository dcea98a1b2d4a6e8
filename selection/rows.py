"""Rows of a caller's own, in place of those that a datamodule reads."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.preprocessing import StandardScaler

from datamodules.batches import BatchedDataset
from datamodules.sampler import BatchIndices
from datamodules.table.matrix import MatrixDataModule
from datamodules.table.recipe import chosen_penalty, number_of_epochs, stable_rate
from datamodules.table.tabular import TabularDataModule

# By a filled datamodule.
HELD = ("load_splits", "oddities", "prepare_data", "dataset", "rows", "splits", "_train_matrix", "recipe")


class Rows(NamedTuple):
    """N rows: texts, an array or a CSR matrix (N, F); class numbers (N,); K and F names; weights (N,) or None."""

    x: Any
    target: NDArray[Any]
    class_names: list[str]
    feature_names: list[str]
    weight: NDArray[Any] | None


def fill(data: Any, rows: Rows) -> Any:
    """A datamodule with these training rows: the given one, or one of its options where the rows do not suit it.

    Texts keep the given one, and so do arrays, if it standardises columns and does no more. Any other array goes into a
    plain TabularDataModule; matrices for a model of texts, and sparse ones, into a MatrixDataModule.
    """
    is_text, names = hasattr(data, "vectorize"), rows.class_names
    options = {name: vars(data)[name] for name in ("batch_size", "seed", "stratified_batches") if name in vars(data)}
    if not isinstance(rows.x, list) and (is_text or issparse(rows.x)):
        options["feature_dropout"] = getattr(data, "feature_dropout", 0.0)
        if is_text:
            data.use_recipe(len(rows.target), len(names), {})
            options["batch_size"] = data.batch_size
        matrix: Any = MatrixDataModule(rows.x, rows.target, names, not is_text, rows.weight, **options)
        matrix.recipe = data.recipe if is_text else _recipe(matrix)
        return weigh(matrix, rows)
    if is_text:
        data.oos_label = data.oos_label if data.oos_label in names else None
        train: tuple[Any, Any] = rows.x, [names[k] for k in rows.target]
    else:
        if getattr(type(data), "transform", None) is not TabularDataModule.transform:
            options |= {"batch_size": getattr(data, "given_batch_size", data.batch_size)}
            data = TabularDataModule(**options)
        own = vars(data).get("class_names", names)
        data.class_names, data.feature_names = own if sorted(own) == sorted(names) else names, rows.feature_names
        train = torch.from_numpy(rows.x), torch.tensor([data.class_names.index(name) for name in names])[rows.target]
    none = train[0][:0], train[1][:0]
    data = replace_rows(data, {"train": train, "val": none, "test": none})
    data.setup("fit")
    return weigh(data, rows)


def _recipe(matrix: MatrixDataModule) -> dict[str, Any]:
    """What the rows of a table's matrix recommend; they become dense a sample at a time."""
    target, rows = matrix.rows.target, torch.arange(len(matrix.rows))[:, None]

    def dense(numbers: torch.Tensor) -> torch.Tensor:
        return matrix.rows.gather(BatchIndices(numbers.flatten(), 0)).to_dense()

    return {
        "trainer.max_epochs": number_of_epochs(len(target)),
        "model.l2": partial(chosen_penalty, dense, rows, target, matrix.seed),
        "model.lr": partial(stable_rate, dense, rows, target, matrix.seed),
    }


def weigh(data: Any, rows: Rows) -> Any:
    """Let rows count by their weights, of a mean of 1, in loss, classes and scale; a penalty keeps its strength."""
    if rows.weight is None:
        return data
    weight, dataset = rows.weight / rows.weight.mean(), data.dataset
    millionths = np.rint(1e6 * np.bincount(rows.target, weight)).astype(int).tolist()  # models take whole numbers
    data.class_counts = [millionths[rows.class_names.index(name)] for name in data.class_names]
    if isinstance(data, TabularDataModule):
        x = data.add_features(torch.from_numpy(rows.x)).double().numpy()
        scaler = StandardScaler().fit(x, sample_weight=weight)
        data.mean, data.scale = torch.from_numpy(scaler.mean_).float(), torch.from_numpy(scaler.scale_).float()

    def weighted(split: str) -> BatchedDataset:
        plain = dataset(split)
        return BatchedDataset(plain.gather, plain.target, torch.from_numpy(weight))

    data.dataset = weighted
    return data


def replace_rows(data: Any, splits: dict[str, Any]) -> Any:
    """The datamodule with these rows; it neither fetches its own nor looks for mistakes in them."""
    data.load_splits, data.prepare_data, data.oddities = lambda: splits, lambda: None, lambda stage: []
    return data


def forget(model: Any, data: Any) -> None:
    """Leave what predicting needs: no row, no Trainer, and nothing that pickle refuses."""
    model.trainer = data.trainer = model.optimizer = model.lr_scheduler = None
    model.zero_grad()
    for name in HELD:
        vars(data).pop(name, None)
