"""The command line behind train.py, and what the commands beside it share."""

import io
import logging
import os
import re
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import lightning as L
import torch.distributed as dist

from callbacks.terminal import relative
from cli.config import install_loader
from cli.errors import hide_user_errors_of_threads, is_user_error, one_line, place_of_bug
from cli.lightning_cli import TemplateCLI
from cli.refit import refit_arguments

# Warnings the user cannot act on, each with its cause.
HARMLESS_WARNINGS = (
    r".*isinstance\(treespec, LeafSpec\).*",  # Lightning 2.6 uses an old name of torch's
    r".*does not have many workers.*",  # the data is in memory: workers would only copy it
    r".*Using ModelCheckpoint with manual optimization.*",  # the state after the update is what a resume needs
    r".*Checkpoint directory .* exists and is not empty.*",  # the run directory was made for this run
    r".*callbacks used to create the checkpoint need to be provided.*",  # the configuration decides which there are
    r".*Total length of `list` across ranks is zero.*",  # a fit on all rows (data.refit) has none to validate on
    r".*is smaller than the logging interval.*",  # with few rows the points of a curve are some epochs apart
    r".*not supported by the model summary.*",  # of bf16-mixed: the size it prints, nothing else
    r".*No seed found, seed set to 0.*",  # without seed_everything; config.yaml has it
    r".*wandb run already in progress.*",  # `--test` goes on in that of the fit
    r".*Sparse CSR tensor support is in beta.*",  # a CSR tensor carries a batch; nothing beta is done with it
)

# Lines of Lightning's about the machine, and about what the command or its configuration names.
HIDDEN_LINES = re.compile(
    r"litlogger|^[GTH]PU available|CUDA_VISIBLE_DEVICES|^Seed set to|^Restor(ing|ed) .*checkpoint|^Loaded model weights"
    r"|^Trainer already configured with model summary|^`Trainer.fit` stopped: `max_(epochs|steps)="
)


def main() -> None:
    """Run the command line; bad input ends in one line on standard error and exit status 1."""
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(name).addFilter(lambda record: not HIDDEN_LINES.search(record.getMessage()))
    threading.excepthook = hide_user_errors_of_threads
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # escape characters that the output encoding lacks
            stream.reconfigure(errors="backslashreplace")
    with user_errors_in_one_line(), ExitStack() as on_exit:
        on_exit.callback(leave_processes)
        cli = TemplateCLI(on_exit)
        if cli.subcommand != "fit":
            return
        is_tested = cli.options.test
        if cli.options.refit:
            try:
                sys.argv[1:] = refit_arguments(cli.run.path, cli.trainer, cli.options.refit)
            except KeyboardInterrupt:
                sys.exit(f"interrupted; the first run is complete: {relative(cli.run.path)}")
            for logger in cli.trainer.loggers:  # Weights & Biases would log the second run into the first
                getattr(getattr(logger, "experiment", None), "finish", lambda: None)()
            started = time.monotonic()
            cli = TemplateCLI(on_exit)
            seconds = time.monotonic() - started
            print(f"the second fit took {seconds:.1f} s; --ckpt_path best is {relative(cli.run.path)}")
        if is_tested:
            sys.argv[1:] = test_arguments(cli.trainer)
            TemplateCLI(on_exit)


def leave_processes() -> None:
    """End the group of several processes, as Lightning does on GPUs alone; gloo may abort one that exits within it."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def test_arguments(trainer: L.Trainer) -> list[str]:
    """The command line that tests the best state of a fit, or its last one where nothing tells which is the best."""
    run = Path(trainer.strategy.broadcast(trainer.default_root_dir))  # the other processes do not know it
    checkpoint = run / "checkpoints/best.ckpt"
    checkpoint = checkpoint if checkpoint.is_file() else checkpoint.with_name("last.ckpt")
    return ["test", "--config", str(run / "config.yaml"), "--ckpt_path", str(checkpoint)]


@contextmanager
def user_errors_in_one_line() -> Iterator[None]:
    """Read configurations as this project does; leave out warnings and tracebacks that nobody can act on."""
    for message in HARMLESS_WARNINGS:
        warnings.filterwarnings("ignore", message)
    install_loader()
    try:
        yield
    except Exception as error:
        if os.environ.get("LOGREG_DEBUG") or not is_user_error(error):
            raise
        sys.exit(f"error: {one_line(error)}{place_of_bug(error)}")
