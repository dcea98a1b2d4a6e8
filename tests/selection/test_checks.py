"""scikit-learn's own suite: without an expected failure at full batch, in 64 bits; as shipped with two."""

from pathlib import Path

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from selection import LightningClassifier

pytest.importorskip("pandas", reason="without it scikit-learn leaves out some checks in silence")
FULL = {"data.batch_size": 1_000_000, "trainer.precision": "64-true"}
FAST = ["configs/table_csv.yaml"]
SLOW = ["configs/iris_binary.yaml", "configs/iris_ova.yaml"]
# What table_csv chooses by its rows looks at each once, whatever its weight.
GIVEN = {"model.l2": 1e-3, "model.lr": 0.5, "trainer.max_epochs": 25}
REPEATED = "a row of weight 2 is not two rows in two mini-batches; scikit-learn expects it of its own SGDClassifier"


def there(*configs):
    return [config for config in configs if Path(config).is_file()]  # others were deleted with their tasks


@parametrize_with_checks([LightningClassifier(config, **FULL, **GIVEN) for config in there(*FAST)])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_softmax_at_full_batch(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([LightningClassifier(config, **FULL, **{"trainer.max_epochs": 25}) for config in there(*SLOW)])
def test_the_other_models_at_full_batch(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(
    [LightningClassifier(config) for config in there("configs/clinc150.yaml")],
    expected_failed_checks=lambda estimator: {
        "check_sample_weight_equivalence_on_dense_data": REPEATED,
        "check_sample_weight_equivalence_on_sparse_data": REPEATED,
    },
)
def test_as_shipped(estimator, check):
    check(estimator)
