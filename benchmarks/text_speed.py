"""Text: how many sentences per second, from raw text to features and to labels, compared with scikit-learn's Pipeline?

A batch of 10,000 sentences of CLINC150, with the same vectorizer options and float32 for both. Ours is what `predict`
does: the datamodule's vectorizer and loader, probabilities, and labels by the out-of-scope threshold. scikit-learn's is
Pipeline([TfidfVectorizer, LogisticRegression]).predict. Both end with a list of label names. The weights don't affect
the time, so the models are fitted for one epoch, or a few iterations. At least 21 rounds, because the two are close.
"""

import warnings
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

from benchmarks import measure

QUESTION = "Raw text to label: a batch of 10,000 sentences of CLINC150"
SENTENCES = 10_000


def main() -> None:
    """Measure, print, write."""
    arguments = measure.argument_parser(__doc__).parse_args()
    import numpy as np
    import torch
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from benchmarks import fits, loops
    from logreg.softmax import SoftmaxRegression

    warnings.filterwarnings("ignore", ".*failed to converge.*")
    data = loops.clinc150()
    texts, labels = data.load_splits()["train"]
    options = loops.model_options() | {"oos_class": data.oos_class, "threshold": 0.5}
    model = SoftmaxRegression(data.num_features, data.num_classes, **options)
    fits.minimal_fit(model, data, max_epochs=1)
    vectorizer = TfidfVectorizer(**asdict(data.ngrams["words"]) | {"ngram_range": (1, 2)}, dtype=np.float32)
    pipeline = make_pipeline(vectorizer, LogisticRegression(max_iter=3)).fit(texts, labels)
    batch = data.predict_inputs = texts[:SENTENCES]
    predicted: dict[str, list[str]] = {}

    def vectorize() -> None:
        data.vectorize(batch)

    @torch.no_grad()
    def predict_ours() -> None:
        classes = torch.cat([model.predict_label(model.predict_proba(x)) for x, _, _ in data.predict_dataloader()])
        predicted["ours"] = [data.class_names[number] for number in classes.tolist()]

    def predict_sklearn() -> None:
        predicted["scikit-learn"] = pipeline.predict(batch).tolist()

    work: dict[str, Callable[[], None]] = {
        "vectorize, the same for both": vectorize,
        "ours: text to label": predict_ours,
        "scikit-learn's Pipeline.predict": predict_sklearn,
    }
    contestants = {name: partial(measure.seconds, function) for name, function in work.items()}
    values = measure.interleaved(contestants, max(arguments.rounds, 21))
    assert len(predicted["ours"]) == len(predicted["scikit-learn"]) == SENTENCES
    measurements = [
        measure.summarize(name, "texts/s", [SENTENCES / t for t in times]) for name, times in values.items()
    ]
    speedup = measure.ratio(values["scikit-learn's Pipeline.predict"], values["ours: text to label"])
    goals = [measure.Goal("text to label, ours / Pipeline.predict, texts per second", speedup, at_least=1.0)]
    measure.publish("text_speed", QUESTION, measurements, goals, arguments.out)


if __name__ == "__main__":
    main()
