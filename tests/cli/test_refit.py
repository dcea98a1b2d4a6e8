"""A fit within a command: nothing is kept, nothing is chosen on the rows that judge, and Ctrl-C is the caller's."""

import signal
from unittest.mock import Mock

import lightning as L
import pytest

from cli.main import run_as_command
from cli.refit import Refit, predict


@pytest.fixture
def text():
    pytest.importorskip("datamodules.text.sentences")
    short = ("--trainer.max_epochs", "3", "--model.calibrate", "true")
    refit = Refit(["--config", "configs/text_csv.yaml", *short])
    return refit, refit.build()[1].load_splits()


def test_no_threshold_and_no_temperature_is_chosen_on_rows_that_will_judge(text):
    refit, splits = text
    _, model, _ = refit.fit(splits)
    assert model.decision.threshold is None
    assert model.calibration.temperature == 1


def test_all_rows_are_judged_whatever_the_limits_of_the_config(text):
    refit, splits = text
    refit.config.trainer.limit_val_batches = refit.config.trainer.limit_predict_batches = 0
    trainer, model, data = refit.fit(splits)
    assert len(predict(trainer, model, data, "val")[0]) == len(splits["val"][0])


def test_what_is_odd_about_the_data_is_left_to_fit(text, capsys):
    refit, splits = text
    refit.fit(splits | {"val": splits["train"]})  # of which fit would say that they leak
    assert capsys.readouterr().err == ""


def test_ctrl_c_is_a_keyboard_interrupt_and_the_next_one_too(text):
    class CtrlC(L.Callback):
        def on_train_batch_end(self, *_):
            signal.raise_signal(signal.SIGINT)

    refit, splits = text
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                refit.fit(splits, callbacks=[CtrlC()])
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
