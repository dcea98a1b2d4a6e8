"""Data: where rows come from, how they are split and scaled. Knows nothing of models or pictures."""

from datamodules.clinc150 import CLINC150DataModule
from datamodules.iris import IrisDataModule
from datamodules.text import Ngrams, TextDataModule
from datamodules.xor import XORDataModule

__all__ = ["CLINC150DataModule", "IrisDataModule", "Ngrams", "TextDataModule", "XORDataModule"]
