"""Data: where samples come from, how they are split, scaled and batched. Independent of models and callbacks."""

from importlib import import_module
from typing import Any

# Imported on first use: `import datamodules` is cheap, and deleting a file removes that data set and nothing else.
_EXPORTS = {
    "BatchedDataModule": "batches",
    "CLINC150DataModule": "text.clinc150",
    "DigitsDataModule": "table.digits",
    "IrisDataModule": "table.iris",
    "Ngrams": "text.features",
    "TableDataModule": "table.files",
    "TextDataModule": "text.sentences",
    "TextShardsDataModule": "text.shards",
    "XORDataModule": "table.xor",
}


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
