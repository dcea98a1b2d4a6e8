"""Text: how fast is it from raw text to features and to labels, compared with scikit-learn's Pipeline?

10,000 sentences of CLINC150 at once, and 200 one by one, with the same vectorizer options and float32 for both. Ours is
what `predict` does (the datamodule's vectorizer and loader, probabilities, and labels by the out-of-scope threshold),
and `Classifier.predict` from Python. scikit-learn's is Pipeline([TfidfVectorizer, LogisticRegression]).predict. All end
with a list of label names. The weights don't affect the time, so the models are fitted for one epoch, or a few
iterations. At least 21 rounds, because they are close.
"""

import warnings
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

from benchmarks import measure

QUESTION = "Raw text to label: 10,000 sentences of CLINC150 at once, and one by one"
SENTENCES = 10_000
SINGLE = 200  # sentences asked about one by one


def main() -> None:
    """Measure, print, write."""
    arguments = measure.argument_parser(__doc__).parse_args()
    import numpy as np
    import torch
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from benchmarks import fits, loops
    from deploy.classifier import Classifier
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

    classifier = Classifier(model, data)

    def predict_classifier() -> None:
        predicted["Classifier"] = classifier.predict(batch)

    def one_by_one(predict: Callable[[list[str]], object]) -> Callable[[], None]:
        def run() -> None:
            for text in batch[:SINGLE]:
                predict([text])

        return run

    work: dict[str, Callable[[], None]] = {
        "vectorize, the same for all": vectorize,
        "ours: text to label": predict_ours,
        "ours: Classifier.predict": predict_classifier,
        "scikit-learn's Pipeline.predict": predict_sklearn,
    }
    single = {
        "one sentence: Classifier.predict": one_by_one(classifier.predict),
        "one sentence: Pipeline.predict": one_by_one(pipeline.predict),
    }
    contestants = {name: partial(measure.seconds, function) for name, function in (work | single).items()}
    values = measure.interleaved(contestants, max(arguments.rounds, 21))
    assert all(len(answers) == SENTENCES for answers in predicted.values())
    measurements = [measure.summarize(name, "texts/s", [SENTENCES / t for t in values[name]]) for name in work]
    measurements += [measure.summarize(name, "ms", [1e3 * t / SINGLE for t in values[name]]) for name in single]
    theirs, theirs_single = values["scikit-learn's Pipeline.predict"], values["one sentence: Pipeline.predict"]
    goals = [
        measure.Goal(f"{name} / Pipeline.predict, texts per second", measure.ratio(theirs, values[name]), at_least=2.0)
        for name in ("ours: text to label", "ours: Classifier.predict")
    ]
    speedup = measure.ratio(theirs_single, values["one sentence: Classifier.predict"])
    goals.append(measure.Goal("one sentence, times faster than Pipeline.predict", speedup, at_least=5.0))
    measure.publish("text_speed", QUESTION, measurements, goals, arguments.out)


if __name__ == "__main__":
    main()
