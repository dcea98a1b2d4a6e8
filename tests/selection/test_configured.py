"""A fit within a command: nothing is chosen on the rows that judge, and Ctrl-C is the caller's."""

import signal
from unittest.mock import Mock

import lightning as L
import numpy as np
import pytest

from selection.command import run_as_command
from selection.configured import Configured
from selection.sample import Sample

TEXT = ("--config", "configs/text_csv.yaml", "--trainer.max_epochs", "3", "--model.calibrate", "true")


@pytest.fixture
def sample():
    """`sample("--data.words", ...)`: the training and validation rows of text_csv with these options."""
    pytest.importorskip("datamodules.text.sentences")
    return lambda *options, callbacks=(): Sample(Configured([*TEXT, *options]), "train", "val", callbacks=callbacks)


def test_no_threshold_and_no_temperature_is_chosen_on_rows_that_will_judge(sample):
    class Fitted(L.Callback):
        def on_fit_end(self, trainer, model):
            self.model = model

    fitted = Fitted()
    rows = sample(callbacks=[fitted])
    rows.judge(np.arange(60), np.arange(60, 80))
    assert fitted.model.decision.threshold is None
    assert fitted.model.calibration.temperature == 1


def test_all_rows_are_judged_whatever_the_limits_of_the_config(sample, capsys):
    limits = ("--trainer.limit_val_batches", "0", "--trainer.limit_predict_batches", "0")
    fold = sample(*limits).judge(np.arange(60), np.arange(60, 80))
    assert len(fold.proba) == 20
    assert fold.metrics["loss"] > 0
    assert capsys.readouterr().err == ""  # mistakes in the data are left to fit


def test_rows_held_out_take_no_part_in_a_fit_of_a_refitted_run(sample):
    """Its config.yaml has data.refit, by which the validation rows are trained on."""
    seen, held_out = np.arange(60), np.arange(60, 80)
    plain, refit = (sample(*refit).judge(seen, held_out) for refit in ((), ("--data.refit", "true")))
    assert np.array_equal(plain.proba, refit.proba)


def test_rows_are_split_by_the_seed_of_the_run_as_in_train_py(sample):
    assert sample("--seed_everything", "1").x == sample("--data.seed", "1").x != sample().x


def test_ctrl_c_is_a_keyboard_interrupt_and_the_next_one_too(sample):
    class CtrlC(L.Callback):
        def on_train_batch_end(self, *_):
            signal.raise_signal(signal.SIGINT)

    rows = sample(callbacks=[CtrlC()])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                rows.judge(np.arange(60), np.arange(60, 80))
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
