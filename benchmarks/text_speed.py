"""Text: how many sentences a second, from raw text to features and to label, beside scikit-learn's Pipeline?

A batch of 10,000 sentences of CLINC150, the same vectorizer options and float32 for both. Ours is what `predict` does:
the datamodule's vectorize, its loader, probabilities, and the answer with the threshold. Theirs is
Pipeline([TfidfVectorizer, LogisticRegression]).predict. Both end with a list of label names. The weights do not matter
for the time: ours and theirs are fitted for one epoch, or a few iterations. At least 21 rounds, for it is close.
"""

import warnings
from dataclasses import asdict

from benchmarks import measure

QUESTION = "Raw text to label: a batch of 10,000 sentences of CLINC150"
SENTENCES = 10_000


def main() -> None:
    """Measure, print, write."""
    arguments = measure.options(__doc__).parse_args()
    import numpy as np
    import torch
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from benchmarks import fits, loops
    from logreg import SoftmaxRegression

    warnings.filterwarnings("ignore", ".*failed to converge.*")
    data = loops.clinc150()
    texts, labels = data.read_splits()["train"]
    model = SoftmaxRegression(data.num_features, data.num_classes, **loops.MODEL, oos_class=data.oos_class)
    fits.slim_fit(model, data, max_epochs=1)
    model.threshold = 0.5
    vectorizer = TfidfVectorizer(**asdict(data.ngrams["words"]) | {"ngram_range": (1, 2)}, dtype=np.float32)
    pipeline = make_pipeline(vectorizer, LogisticRegression(max_iter=3)).fit(texts, labels)
    batch = data.texts = texts[:SENTENCES]  # what the predict loader takes
    answers: dict[str, list[str]] = {}

    def vectorize() -> None:
        data.vectorize(batch)

    @torch.no_grad()
    def ours() -> None:
        found = torch.cat([model.answer(model.predict_proba(x)) for x, _, _ in data.predict_dataloader()])
        answers["ours"] = [data.class_names[number] for number in found.tolist()]

    def theirs() -> None:
        answers["theirs"] = pipeline.predict(batch).tolist()

    race = {
        "vectorize, the same for both": vectorize,
        "ours: text to label": ours,
        "scikit-learn's Pipeline.predict": theirs,
    }
    timed = {name: (lambda work=work: measure.seconds(work)) for name, work in race.items()}  # type: ignore[misc]
    taken = measure.interleaved(timed, max(arguments.rounds, 21))
    assert len(answers["ours"]) == len(answers["theirs"]) == SENTENCES
    figures = [measure.figure(name, "texts/s", [SENTENCES / t for t in times]) for name, times in taken.items()]
    faster = measure.ratio(taken["scikit-learn's Pipeline.predict"], taken["ours: text to label"])
    goals = [measure.Goal("text to label, ours / Pipeline.predict, texts per second", faster, at_least=1.0)]
    measure.publish("text_speed", QUESTION, figures, goals, arguments.out)


if __name__ == "__main__":
    main()
