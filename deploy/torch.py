"""Export of any trained model as a torch.export program."""

import io
import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from callbacks.files import write_then_rename
from datamodules.table.tabular import TabularDataModule
from deploy.classifier import Classifier


def to_torch(classifier: Classifier, path: str | Path) -> torch.export.ExportedProgram:
    """Write a program to `path`, which torch.export.load reads; it predicts as `classifier` does.

    It takes raw rows (N, F) of tables of numbers; of other data what its `encode` makes of inputs, (N, D), dense. It
    returns probabilities (N, K) and class indices (N,); the file holds the names of the classes as `class_names.json`.
    """
    data, model = classifier.data, deepcopy(classifier.model).cpu()
    if isinstance(data, TabularDataModule) and type(data).encode is TabularDataModule.encode:
        program, width = _Program(model, data.transform), len(data.feature_names)
    else:
        program, width = _Program(model, lambda x: x), data.num_features
    shapes = {"x": {0: torch.export.Dim("N", max=2**62)}}  # without a bound torch 2.6 refuses some models
    exported = torch.export.export(program, (torch.zeros(2, width),), dynamic_shapes=shapes)
    file = io.BytesIO()  # given a path that does not end in .pt2, torch warns
    torch.export.save(exported, file, extra_files={"class_names.json": json.dumps(classifier.class_names)})
    write_then_rename(Path(path), lambda temporary: temporary.write_bytes(file.getvalue()))
    return exported


class _Program(nn.Module):
    def __init__(self, model: Any, transform: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.transform = model, transform

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        proba = self.model.predict_proba(self.transform(x))
        return proba, self.model.predict_label(proba)
