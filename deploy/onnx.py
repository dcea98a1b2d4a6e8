"""Export of a trained linear model as an ONNX graph."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import StandardScaler

from callbacks.files import write_then_rename
from callbacks.protocols import offers
from deploy.classifier import Classifier

try:
    import onnx
    from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
except ModuleNotFoundError as error:
    raise ImportError(f"{error}: pip install -e '.[export]'") from error

OPSET, IR_VERSION = 17, 8  # both of 2022, which onnxruntime reads from 1.12 on
# Token patterns with Unicode's \w, and the same for RE2, the regular expressions of onnxruntime.
TOKENS = {r"(?u)\b\w+\b": r"[\p{L}\p{N}_]+", r"(?u)\b\w\w+\b": r"[\p{L}\p{N}_]{2,}"}


def to_onnx(classifier: Classifier, path: str | Path) -> None:
    """Write an ONNX model to `path`: from `text` (N,) or `rows` (N, D) to `label` (N,) and `probabilities` (N, K).

    N is at least 1. It predicts as `classifier` does. Texts are split by onnxruntime's own com.microsoft.Tokenizer, and
    folded to lower case letter by letter, where Python makes two characters of a few letters, such as İ.

    Raises:
        ValueError: the model is not linear, or the features are neither word n-grams nor standardised columns.
    """
    W, b = classifier.coefficients
    graph, transformer, names = _Graph(), classifier.sklearn_transformer(), classifier.class_names
    if isinstance(transformer, TfidfVectorizer):
        x = _add_tfidf(graph, transformer)
        source = make_tensor_value_info("text", onnx.TensorProto.STRING, ["N"])
    elif isinstance(transformer, StandardScaler):
        x = graph.add("Sub", "rows", transformer.mean_.astype(np.float32))
        x = graph.add("Div", x, transformer.scale_.astype(np.float32))
        source = make_tensor_value_info("rows", onnx.TensorProto.FLOAT, ["N", len(W)])
    else:
        kind = type(transformer).__name__
        remedy = ": train with --data.preset words" if kind == "FeatureUnion" else ""
        raise ValueError(f"expected n-grams of words alone or standardised columns, for ONNX, got a {kind}{remedy}")
    if W.shape[1] == 1:
        W, b = torch.cat([-W, W], dim=1) / 2, torch.cat([-b, b]) / 2  # σ(z) is the softmax of −z/2 and z/2
    logits = graph.add("Add", graph.add("MatMul", x, W.numpy()), b.numpy())
    if offers(classifier.model, "predict_proba_per_class"):
        logits = graph.add("Neg", graph.add("Softplus", graph.add("Neg", logits)))  # log σ(z)
    scaled = graph.add("Div", logits, np.float32(classifier.temperature))
    proba = graph.add("Softmax", scaled, axis=-1, output="probabilities")
    if classifier.threshold is None:
        number = graph.add("ArgMax", proba, axis=1, keepdims=0)
    else:
        oos_class = classifier.data.oos_class
        in_scope = graph.add("Sub", proba, 2 * np.eye(len(names), dtype=np.float32)[oos_class])
        confidence = graph.add("ReduceMax", in_scope, axes=[1], keepdims=0)
        below = graph.add("Less", confidence, np.float32(classifier.threshold))
        number = graph.add("Where", below, np.int64(oos_class), graph.add("ArgMax", in_scope, axis=1, keepdims=0))
    graph.add("Gather", np.array(names, dtype=object), number, output="label")
    outputs = [
        make_tensor_value_info("label", onnx.TensorProto.STRING, ["N"]),
        make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["N", len(names)]),
    ]
    domains = [make_opsetid("", OPSET), make_opsetid("com.microsoft", 1)]
    body = make_graph(graph.nodes, "classifier", [source], outputs, graph.constants)
    model = make_model(body, opset_imports=domains, ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    write_then_rename(Path(path), lambda temporary: onnx.save(model, str(temporary)))


class _Graph:
    """Nodes and constants of an ONNX graph, each named by a number."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operator: str, *inputs: Any, output: str = "", **attributes: Any) -> str:
        """Add a node of inputs by name, or constant ones as arrays; its output's name."""
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        output = output or f"value_{len(self.nodes)}"
        self.nodes.append(make_node(operator, names, [output], **attributes))
        return output

    def _constant(self, value: Any) -> str:
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(value), f"constant_{len(self.constants)}"))
        return self.constants[-1].name


def _add_tfidf(graph: _Graph, vectorizer: Any) -> str:
    """TF-IDF rows (N, D) of the input `text`, as scikit-learn's TfidfVectorizer computes them."""
    needed: dict[str, Any] = {"analyzer": ["word"], "token_pattern": [*TOKENS]}
    for option, values in {**needed, "strip_accents": [None], "stop_words": [None]}.items():
        if getattr(vectorizer, option) not in values:
            raise ValueError(f"ONNX gets n-grams of words of {option} {values}, got {getattr(vectorizer, option)!r}")
    case = "LOWER" if vectorizer.lowercase else "NONE"
    # Without a locale onnxruntime takes en_US, which most containers lack.
    text = graph.add("StringNormalizer", "text", case_change_action=case, is_case_sensitive=1, locale="C.UTF-8")
    tokens, domain = TOKENS[vectorizer.token_pattern], "com.microsoft"
    words = graph.add("Tokenizer", text, domain=domain, tokenexp=tokens, mark=0, mincharnum=1, pad_value="")
    ngrams = [(ngram.split(" "), column) for ngram, column in vectorizer.vocabulary_.items()]
    ngrams.sort(key=lambda ngram: (len(ngram[0]), ngram))  # the operator wants those of one length together
    longest = len(ngrams[-1][0])
    sizes = [n * sum(len(words) == n for words, _ in ngrams) for n in range(1, longest + 1)]
    x = graph.add(
        "TfIdfVectorizer",
        words,
        mode="TF",
        min_gram_length=vectorizer.ngram_range[0],
        max_gram_length=min(vectorizer.ngram_range[1], longest),
        max_skip_count=0,
        ngram_counts=[0, *np.cumsum(sizes[:-1]).tolist()],
        ngram_indexes=[column for _, column in ngrams],
        pool_strings=[word for words, _ in ngrams for word in words],
    )
    if vectorizer.binary:
        x = graph.add("Sign", x)
    if vectorizer.sublinear_tf:  # 1 + log(count), and 0 for none
        x = graph.add("Add", graph.add("Log", graph.add("Max", x, np.float32(1))), graph.add("Sign", x))
    if vectorizer.use_idf:
        x = graph.add("Mul", x, vectorizer.idf_)
    if vectorizer.norm:
        length = graph.add(f"Reduce{vectorizer.norm.upper()}", x, axes=[1], keepdims=1)
        x = graph.add("Div", x, graph.add("Max", length, np.float32(1e-12)))
    return x
