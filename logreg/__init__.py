"""Logistic regression: the mathematics (`logreg.functional`) and the LightningModules around it."""

from logreg.binary import BinaryLogit, LogisticRegression
from logreg.one_vs_all import OneVsAll
from logreg.softmax import SoftmaxRegression

__all__ = ["BinaryLogit", "LogisticRegression", "OneVsAll", "SoftmaxRegression"]
