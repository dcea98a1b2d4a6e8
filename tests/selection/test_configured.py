"""A fit within a command: nothing is chosen on the rows that judge, and Ctrl-C is the caller's."""

import signal
from unittest.mock import Mock

import lightning as L
import numpy as np
import pytest

from cli.main import run_as_command
from selection.configured import Configured
from selection.sample import Sample

TEXT = ("--config", "configs/text_csv.yaml", "--trainer.max_epochs", "3", "--model.calibrate", "true")


@pytest.fixture
def sample():
    """`sample("--data.words", ...)`: the training and validation rows of text_csv with these options."""
    pytest.importorskip("datamodules.text.sentences")
    return lambda *options: Sample(Configured([*TEXT, *options]), "train", "val")


def test_no_threshold_and_no_temperature_is_chosen_on_rows_that_will_judge(sample):
    model = sample().fit(np.arange(60)).model_
    assert model.decision.threshold is None
    assert model.calibration.temperature == 1


def test_all_rows_are_judged_whatever_the_limits_of_the_config(sample):
    limits = ("--trainer.limit_val_batches", "0", "--trainer.limit_predict_batches", "0")
    fitted = sample(*limits).fit(np.arange(60))
    assert len(fitted.predict_proba(np.arange(60, 80))) == 20
    assert fitted.evaluate("validate", np.arange(60, 80), verbose=False)[0]["val/loss"] > 0


def test_what_is_odd_about_the_data_is_left_to_fit(sample, capsys):
    sample().fit(np.arange(5, 81)).predict(np.arange(5))
    assert capsys.readouterr().err == ""


def test_rows_are_split_by_the_seed_of_the_run_as_in_train_py(sample):
    assert sample("--seed_everything", "1").x == sample("--data.seed", "1").x != sample().x


def test_ctrl_c_is_a_keyboard_interrupt_and_the_next_one_too(sample):
    class CtrlC(L.Callback):
        def on_train_batch_end(self, *_):
            signal.raise_signal(signal.SIGINT)

    rows = sample()
    rows.callbacks = [CtrlC()]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                rows.fit(np.arange(60))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_command_that_is_stopped_says_so_in_one_line(monkeypatch):
    monkeypatch.setattr("cli.main.install_loader", lambda: None)
    monkeypatch.setattr("cli.main.logging", Mock())

    def main(arguments):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit, match="stopped; nothing was written"):
        run_as_command(main, [])
