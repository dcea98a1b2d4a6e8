"""Options by the number of training rows: n-grams, batches, rate, epochs."""

import pytest

from datamodules.text.recipe import FEW, is_unspaced, ngrams_for, recipe

CHINESE, THAI, JAPANESE = "今天会下雨吗", "พรุ่งนี้ฝนจะตกไหม", "明日は雨が降りますか"
SPACED = ("will it rain today", "내일 비가 올까요", "завтра будет дождь", "क्या कल बारिश होगी", "12:30", "")


@pytest.mark.parametrize("rows", [10, 1_000, 10_000, 10**5, 10**6])
def test_a_fit_takes_no_less_than_a_few_hundred_steps_nor_more_than_some_thousand(rows):
    found = recipe(rows, 2)
    steps = -(-rows // found["data.batch_size"]) * found["trainer.max_epochs"]
    assert min(rows, 100) <= 4 * steps
    assert steps <= 3_000


def test_more_rows_never_take_a_smaller_batch_or_more_epochs():
    found = [recipe(rows, 2) for rows in (100, 1_000, 3_000, 10_000, 30_000, 10**5, 3 * 10**5, 10**6, 10**7)]
    batches, epochs = ([each[name] for each in found] for name in ("data.batch_size", "trainer.max_epochs"))
    assert batches == sorted(batches)
    assert epochs == sorted(epochs, reverse=True)


def test_the_rate_goes_with_a_batch_size_that_is_given():
    own, given = recipe(1_000, 150), recipe(1_000, 150, batch_size=32)
    assert given["data.batch_size"] == 32
    assert given["model.lr"] / 32 == pytest.approx(own["model.lr"] / own["data.batch_size"])


def test_the_rate_is_lower_for_few_labels_and_never_above_that_of_many():
    rates = [recipe(1_000, labels)["model.lr"] for labels in (2, 6, 21, 22, 150)]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1] / 3
    assert rates[-2] == rates[-1]


def test_characters_and_a_second_fit_stop_above_fifty_thousand_rows():
    few, many = ["will it rain"] * FEW, ["will it rain"] * (FEW + 1)
    assert list(ngrams_for(few)) == ["words", "chars"]
    assert list(ngrams_for(many)) == ["words"]
    assert ngrams_for(many)["words"].max_features == 100_000
    assert (recipe(FEW, 2)["refit"], recipe(FEW + 1, 2)["refit"]) == (True, False)


@pytest.mark.parametrize("text", [CHINESE, THAI, JAPANESE, f"iPhone 手机 {CHINESE}"])
def test_texts_without_spaces_are_taken_by_characters(text):
    assert is_unspaced([text])
    for rows in (10, FEW + 1):
        assert list(ngrams_for([text] * rows)) == ["chars"]


@pytest.mark.parametrize("text", SPACED)
def test_other_texts_have_spaces(text):
    assert not is_unspaced([text])


def test_files_sorted_by_language_are_sampled_throughout():
    assert is_unspaced(["rain"] * 2_000 + [CHINESE] * 3_000)
    assert not is_unspaced([CHINESE] * 1_000 + ["will it rain today"] * 3_000)
