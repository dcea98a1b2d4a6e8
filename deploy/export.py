"""A trained model for elsewhere: as a scikit-learn Pipeline, as ONNX, as a torch.export program.

Each file gives the answers of `Classifier`, an out-of-scope threshold and a temperature included; what a format has no
means for is refused in one line. N rows, D features, K classes.
"""

import io
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from callbacks.files import write_then_rename
from callbacks.protocols import offers
from datamodules.table.tabular import TabularDataModule
from deploy.classifier import Classifier

OPSET, IR_VERSION = 17, 8  # of ONNX, both of 2022, which onnxruntime reads from 1.12 on
# What RE2, the regular expressions of onnxruntime, has for the token patterns whose \w are Unicode's.
TOKENS = {r"(?u)\b\w+\b": r"[\p{L}\p{N}_]+", r"(?u)\b\w\w+\b": r"[\p{L}\p{N}_]{2,}"}


def to_sklearn(classifier: Classifier, path: str | Path) -> Any:
    """Write a fitted scikit-learn Pipeline to `path`, which skops.io.load reads, and return it.

    Raises:
        ValueError: the model is not linear, or answers by a rule that scikit-learn has not.
        ImportError: skops is missing.
    """
    from sklearn.pipeline import Pipeline

    skops = _optional("skops.io")
    W, b, temperature = _linear(classifier)
    threshold, _ = _rejection(classifier.model)
    if threshold is not None:
        raise ValueError(
            f"scikit-learn's LogisticRegression has no out-of-scope threshold, the model has {threshold:.4g}: "
            'leave it out with Classifier.load(path, threshold="none")'
        )
    if offers(classifier.model, "predict_proba_per_class"):
        final = _one_vs_rest(W, b, temperature, classifier.class_names)
    else:
        W, b = W / temperature, b / temperature
        if W.shape[1] == 2:  # scikit-learn keeps one logit, the difference
            W, b = W[:, 1:] - W[:, :1], b[1:] - b[:1]
        final = _logistic_regression(W, b, classifier.class_names)
    pipeline = Pipeline([("features", _transformer(classifier)), ("model", final)])
    write_then_rename(Path(path), lambda temporary: skops.dump(pipeline, temporary))
    return pipeline


def to_onnx(classifier: Classifier, path: str | Path) -> None:
    """Write an ONNX model to `path`: from `text` (N,) or `rows` (N, D) to `label` (N,) and `probabilities` (N, K).

    N may differ from call to call. Texts are split by onnxruntime's own operator com.microsoft.Tokenizer, and folded to
    lower case letter by letter, where Python makes two characters of a few letters, such as İ.

    Raises:
        ValueError: the model is not linear, or the features are neither word n-grams nor standardised columns.
        ImportError: onnx is missing.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import StandardScaler

    onnx = _optional("onnx")
    W, b, temperature = _linear(classifier)
    graph, transformer = _Graph(onnx), _transformer(classifier)
    if isinstance(transformer, TfidfVectorizer):
        x = _add_tfidf(graph, transformer)
        source = onnx.helper.make_tensor_value_info("text", onnx.TensorProto.STRING, ["N"])
    elif isinstance(transformer, StandardScaler):
        centred = graph.add("Sub", "rows", graph.constant(transformer.mean_.astype("float32")))
        x = graph.add("Div", centred, graph.constant(transformer.scale_.astype("float32")))
        source = onnx.helper.make_tensor_value_info("rows", onnx.TensorProto.FLOAT, ["N", len(W)])
    else:
        kind = type(transformer).__name__
        raise ValueError(f"expected n-grams of words alone or standardised columns, for ONNX, got a {kind}")
    if W.shape[1] == 1:
        W, b = torch.cat([-W, W], dim=1) / 2, torch.cat([-b, b]) / 2  # σ(z) is the softmax of −z/2 and z/2
    logits = graph.add("Add", graph.add("MatMul", x, graph.constant(W.numpy())), graph.constant(b.numpy()))
    if offers(classifier.model, "predict_proba_per_class"):
        logits = graph.add("Neg", graph.add("Softplus", graph.add("Neg", logits)))  # log σ(z)
    scaled = graph.add("Div", logits, graph.constant(torch.tensor(temperature).numpy()))
    proba = graph.add("Softmax", scaled, axis=-1, output="probabilities")
    _add_decision(graph, proba, classifier)
    outputs = [
        onnx.helper.make_tensor_value_info("label", onnx.TensorProto.STRING, ["N"]),
        onnx.helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["N", len(classifier.class_names)]),
    ]
    domains = [onnx.helper.make_opsetid("", OPSET), onnx.helper.make_opsetid("com.microsoft", 1)]
    body = onnx.helper.make_graph(graph.nodes, "classifier", [source], outputs, graph.constants)
    model = onnx.helper.make_model(body, opset_imports=domains, ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    write_then_rename(Path(path), lambda temporary: onnx.save(model, str(temporary)))


def to_torch(classifier: Classifier, path: str | Path) -> torch.export.ExportedProgram:
    """Write a program to `path`, which torch.export.load reads, and return it; any model can be exported, also a net.

    It takes raw rows (N, F) of tables of numbers; of other data what its `encode` makes of inputs, (N, D), dense.
    It returns probabilities (N, K) and class numbers (N,), and has the names of the classes beside it in the file, as
    `class_names.json`.
    """
    data = classifier.data
    if isinstance(data, TabularDataModule) and type(data).encode is TabularDataModule.encode:
        program, width = _Answers(classifier.on_cpu, data.transform), len(data.feature_names)
    else:
        program, width = _Answers(classifier.on_cpu, lambda x: x), data.num_features
    shapes = {"x": {0: torch.export.Dim("N", max=2**62)}}  # without a bound torch 2.6 refuses some models
    exported = torch.export.export(program, (torch.zeros(2, width),), dynamic_shapes=shapes)
    names = {"class_names.json": json.dumps(classifier.class_names)}
    file = io.BytesIO()  # given a path that does not end in .pt2, torch warns
    torch.export.save(exported, file, extra_files=names)
    write_then_rename(Path(path), lambda temporary: temporary.write_bytes(file.getvalue()))
    return exported


class _Answers(nn.Module):
    """What a torch.export program computes."""

    def __init__(self, model: Any, transform: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.transform = model, transform

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        proba = self.model.predict_proba(self.transform(x))
        return proba, self.model.predict_label(proba)


# --- what a model consists of -----------------------------------------------------------------------------------------


def _linear(classifier: Classifier) -> tuple[Tensor, Tensor, float]:
    """W, b and the temperature, which divides log-probabilities: 1 where the model has none."""
    calibration: Any = dict(classifier.model.named_children()).get("calibration")
    return *classifier.coefficients, 1.0 if calibration is None else calibration.temperature


def _rejection(model: nn.Module) -> tuple[float | None, int]:
    """The out-of-scope threshold, None where the most probable class is the answer, and the out-of-scope class."""
    decision: Any = dict(model.named_children()).get("decision")
    return (None, -1) if decision is None else (decision.threshold, decision.oos_class)


def _transformer(classifier: Classifier) -> Any:
    if not offers(classifier.data, "sklearn_transformer"):
        kind = type(classifier.data).__name__
        raise ValueError(f"expected data that scikit-learn can encode, {kind} has no sklearn_transformer() -> Any")
    return classifier.data.sklearn_transformer()


def _optional(module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ImportError(f"{error}: pip install -e '.[export]'") from error


# --- scikit-learn -----------------------------------------------------------------------------------------------------


def _logistic_regression(W: Tensor, b: Tensor, classes: list[Any]) -> Any:
    """A LogisticRegression of these weights, (D, K) and (K,), or (D, 1) and (1,) for two classes."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression()
    model.coef_, model.intercept_ = W.T.numpy().copy(), b.numpy().copy()
    model.classes_, model.n_features_in_ = np.array(classes), len(W)
    return model


def _one_vs_rest(W: Tensor, b: Tensor, temperature: float, class_names: list[str]) -> Any:
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.multiclass import OneVsRestClassifier

    if temperature != 1:
        raise ValueError(f"scikit-learn's OneVsRestClassifier has no temperature, the model has {temperature:.4g}")
    if len(b) == 2:
        raise ValueError("scikit-learn's OneVsRestClassifier keeps one classifier for two classes, the model has two")
    rest = OneVsRestClassifier(LogisticRegression()).fit(np.zeros(W.T.shape), class_names)  # for all but the weights
    rest.estimators_ = [
        _logistic_regression(W[:, k : k + 1], b[k : k + 1], [0, 1]) for k in map(class_names.index, rest.classes_)
    ]
    return rest


# --- ONNX -------------------------------------------------------------------------------------------------------------


class _Graph:
    """Nodes and constants of an ONNX graph, each named by a number."""

    def __init__(self, onnx: Any) -> None:
        self.onnx, self.nodes, self.constants = onnx, [], []  # type: ignore[var-annotated]

    def constant(self, array: Any) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        output = output or f"value_{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, list(inputs), [output], **attributes))
        return output


def _add_tfidf(graph: _Graph, vectorizer: Any) -> str:
    """TF-IDF rows (N, D) of the input `text`, as scikit-learn's TfidfVectorizer computes them."""
    import numpy as np

    for option, possible in (
        ("analyzer", ["word"]), ("token_pattern", [*TOKENS]), ("strip_accents", [None]), ("stop_words", [None])
    ):  # fmt: skip
        if getattr(vectorizer, option) not in possible:
            raise ValueError(f"ONNX gets n-grams of words of {option} {possible}, got {getattr(vectorizer, option)!r}")
    case = "LOWER" if vectorizer.lowercase else "NONE"
    # Without a locale onnxruntime takes en_US, which most containers lack.
    text = graph.add("StringNormalizer", "text", case_change_action=case, is_case_sensitive=1, locale="C.UTF-8")
    tokens, domain = TOKENS[vectorizer.token_pattern], "com.microsoft"
    words = graph.add("Tokenizer", text, domain=domain, tokenexp=tokens, mark=0, mincharnum=1, pad_value="")
    ngrams = sorted((ngram.split(" "), column) for ngram, column in vectorizer.vocabulary_.items())
    ngrams.sort(key=lambda ngram: len(ngram[0]))  # the operator wants those of one length together
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
        one = graph.constant(np.float32(1))
        x = graph.add("Add", graph.add("Log", graph.add("Max", x, one)), graph.add("Sign", x))
    if vectorizer.use_idf:
        x = graph.add("Mul", x, graph.constant(vectorizer.idf_))
    if vectorizer.norm:
        length = graph.add(f"Reduce{vectorizer.norm.upper()}", x, axes=[1], keepdims=1)
        x = graph.add("Div", x, graph.add("Max", length, graph.constant(np.float32(1e-12))))
    return x


def _add_decision(graph: _Graph, proba: str, classifier: Classifier) -> None:
    """The output `label`: the most probable class, or out of scope below the threshold."""
    import numpy as np

    threshold, oos_class = _rejection(classifier.model)
    if threshold is None:
        number = graph.add("ArgMax", proba, axis=1, keepdims=0)
    else:
        penalty = np.zeros(len(classifier.class_names), np.float32)
        penalty[oos_class] = 2
        in_scope = graph.add("Sub", proba, graph.constant(penalty))
        confidence = graph.add("ReduceMax", in_scope, axes=[1], keepdims=0)
        below = graph.add("Less", confidence, graph.constant(np.float32(threshold)))
        label = graph.add("ArgMax", in_scope, axis=1, keepdims=0)
        number = graph.add("Where", below, graph.constant(np.int64(oos_class)), label)
    graph.add("Gather", graph.constant(np.array(classifier.class_names, dtype=object)), number, output="label")
