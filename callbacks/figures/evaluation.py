"""Pictures of an evaluation: for which model and data they are drawn, when, and where they go."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import CombinedLoader
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from callbacks.figures.canvas import publish
from callbacks.figures.curves import Array, confused_pairs
from callbacks.figures.loss_curve import draw as draw_losses
from callbacks.figures.loss_curve import loss_curves
from callbacks.figures.plots import EvaluatedRows, pictures
from callbacks.linear import class_scores, name_of
from callbacks.protocols import CLASSIFIER, LABELLED_DATA, datamodule_of, lack, offers, optional_of
from callbacks.rows import RowCollector, SampledRows, batch_parts, evaluating
from callbacks.run.checkpoint_io import weights_of
from callbacks.run.checkpoints import own_checkpoint
from callbacks.run.loggers import ResumableCSVLogger
from callbacks.tables import atomic_write_csv
from callbacks.terminal import relative

CSV_FEATURES = 20  # of each class, in top_features.csv


class Figures(L.Callback):
    """After `test`: pictures in figures/, confusions.csv and top_features.csv, in the run directory.

    Of more than 100,000 rows the pictures show a random sample, and their captions tell its size.

    The pictures also go to all loggers; in TensorBoard they are a run of their own, `test/` in the run directory. What
    a model or its data does not offer is left out; all of it where `test_step` returns no probabilities.

    After `fit`: figures/loss.png, of any model and data; and the same pictures of the validation rows, as the model in
    best.ckpt classifies them, in figures/val_*.png and among the images of the run; without groups of classes, which
    may have to be downloaded. They cost one more pass over these rows, because the best epoch is known only at the end,
    and a resumed run may begin after it.

    Args:
        enabled: false draws nothing.
        classes: names of the classes in the picture of the strongest features; null takes those with the most errors.

    Raises:
        ValueError: from the hooks: `classes` names one that the data has not.
    """

    def __init__(self, enabled: bool = True, classes: list[str] | None = None) -> None:
        super().__init__()
        self.enabled, self.classes = enabled, classes

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Refuse what cannot be drawn, before anything runs; a model without labels or names has no pictures."""
        data = datamodule_of(trainer)
        self._rows, self._labels = SampledRows(type(self).__name__), RowCollector(type(self).__name__)
        self._groups: Sequence[str] | None = None
        self._applies = self.enabled and stage in ("fit", "test") and not trainer.fast_dev_run  # type: ignore[attr-defined]
        self._applies = self._applies and (lack(pl_module, CLASSIFIER) or lack(data, LABELLED_DATA)) is None
        if not self._applies:
            return
        if unknown := set(self.classes or []) - set(data.class_names):
            raise ValueError(f"figures.classes: expected names of classes, got {sorted(unknown)}")
        try:
            self._groups = data.class_groups() if stage == "test" and offers(data, "class_groups") else None
        except OSError as error:
            print(f"the pictures are without groups of classes: {error}")

    def on_test_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, *rest: Any
    ) -> None:
        if self._applies:
            self._keep(trainer, pl_module, outputs, batch, "test_step")

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        of_all = self._labels.gather()
        rows = self._evaluated(trainer, pl_module, "test rows", of_all)
        if rows is None:
            return
        run = Path(trainer.default_root_dir)
        write_confusions(run / "confusions.csv", rows.names, *(column.numpy() for column in of_all[1:]))
        if rows.scores is not None:
            write_top_features(run / "top_features.csv", rows)
        step = trainer.fit_loop.epoch_loop._batches_that_stepped  # that of the metrics
        number = sum(publish(trainer, name, draw, step) for name, draw in pictures(rows, self.classes).items())
        print(f"{number} pictures in {relative(run / 'figures')}")

    def on_fit_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        """Draw the validation rows; also where a resume finds that the training had been completed."""
        self._draw_losses(trainer)
        best = own_checkpoint(trainer)
        saved = best is not None and Path(best.best_model_path).is_file()
        # All processes or none, because they share the rows; of machines without a common folder only one has the file.
        if not self._applies or not trainer.strategy.reduce_boolean_decision(saved) or best is None:
            return
        with isolate_rng(), evaluating(pl_module), weights_of(best.best_model_path, pl_module):
            try:
                for batch in validation_batches(trainer):
                    with trainer.precision_plugin.forward_context():
                        proba = pl_module.predict_proba(batch_parts(batch)[0])
                    self._keep(trainer, pl_module, proba, batch, "predict_proba")
            except ValueError as error:  # of batches that `test` will refuse; the fit is done, and is none the worse
                return rank_zero_only(print)(f"no pictures of the validation rows: {error}")
            which = f"validation rows, answered by best.ckpt of {best.best_state}"
            rows = self._evaluated(trainer, pl_module, which, self._labels.gather())
        if rows is None:
            return
        for name, draw in pictures(rows, self.classes).items():
            publish(trainer, f"val_{name}", draw, trainer.global_step)

    def _draw_losses(self, trainer: L.Trainer) -> None:
        """Of any module, where it logs a loss; a resumed run goes on in the metrics.csv of the earlier ones."""
        for logger in trainer.loggers if self.enabled and trainer.is_global_zero else []:
            if isinstance(logger, ResumableCSVLogger):
                logger.flush()
                if curves := loss_curves(logger.path):
                    publish(trainer, "loss", partial(draw_losses, curves), trainer.global_step)

    def _keep(self, trainer: L.Trainer, model: Any, outputs: Any, batch: Any, step: str) -> None:
        """Keep the true classes of a batch and the predicted ones; of a sample the probabilities, for pictures."""
        rows = self._rows.classify(trainer, model, outputs, batch, step)
        if rows is not None and rows.target is not None:
            self._rows.add(rows.indices, rows.target, rows.label, rows.proba.float())
            self._labels.add(rows.indices.int(), rows.target.int(), rows.label.int())

    def _evaluated(self, trainer: L.Trainer, model: Any, which: str, of_all: Sequence[Tensor]) -> EvaluatedRows | None:
        """The rows to draw, of all processes; None on others than the first, and where there is nothing."""
        columns, data = self._rows.gather(), datamodule_of(trainer)
        if not columns or not trainer.is_global_zero or self._rows.problem is not None:
            return None
        indices, target, predicted, proba = (column.numpy() for column in columns)
        if len(target) < len(of_all[0]):
            which = f"of {len(of_all[0]):,} {which}, at random"
        rows = EvaluatedRows(target, predicted, proba, data.class_names, f"{len(target):,} {which}", self._groups)
        rows.oos_class, rows.threshold = optional_of(data, "oos_class"), optional_of(model, "threshold")
        rows.temperature = optional_of(model, "temperature") or 1.0
        linear = offers(model, "coefficients") and not offers(data, "image_shape")  # of which WeightImages tells more
        if linear and offers(data, "feature_names"):
            with torch.no_grad():  # at the temperature, as coefficients.csv is
                rows.scores = class_scores(model, model.coefficients()[0]).cpu().float() / rows.temperature
            rows.standardised = offers(data, "scaling")
            names = data.feature_names
            rows.feature_names = [name_of(names, column) for column in range(len(rows.scores))]
        if trainer.testing:  # `describe` knows no validation rows
            rows.example = lambda place: in_words(data.describe([int(indices[place])], "test")[0])
        if linear and rows.scores is None:
            print("without the strongest features of each class: the features have no names")
        return rows


def in_words(description: dict[str, Any]) -> str:
    """The values of a row's columns in one line."""
    return " ".join(", ".join(map(str, description.values())).split())


def validation_batches(trainer: L.Trainer) -> Iterator[Any]:
    """The batches that a validation within the fit takes on this process, in the precision of the model."""
    if not trainer.enable_validation:
        return
    trainer.fit_loop.epoch_loop.val_loop.setup_data()  # a resume that finds the training completed has no loader yet
    loader = CombinedLoader(trainer.val_dataloaders, "sequential")
    loader.limits = trainer.num_val_batches
    for batch, *_ in loader:
        yield trainer.precision_plugin.convert_input(batch)


def write_confusions(path: Path, names: Sequence[str], target: Array, predicted: Array) -> None:
    """Every pair of a true class and another predicted one, its rows, and their share of the rows of that class."""
    total = Counter(target.tolist())
    pairs = confused_pairs(target, predicted)
    lines = ((names[t], names[p], count, f"{count / total[t]:.4f}") for t, p, count in pairs)
    atomic_write_csv(path, ("target", "predicted", "rows", "share"), lines)


def write_top_features(path: Path, rows: EvaluatedRows) -> None:
    """The features that raise each class most, those with the highest coefficients first."""
    assert rows.scores is not None
    top = rows.scores.topk(min(CSV_FEATURES, len(rows.scores)), dim=0)  # (20, K) each
    lines = (
        (name, rank, rows.feature_names[int(feature)], f"{float(amount):.4f}")
        for k, name in enumerate(rows.names)
        for rank, (feature, amount) in enumerate(zip(top.indices[:, k], top.values[:, k], strict=True), start=1)
    )
    atomic_write_csv(path, ("label", "rank", "feature", "coefficient"), lines)
