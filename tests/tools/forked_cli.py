"""`train.py` in forked processes: as if started anew, without the seconds for importing torch and Lightning."""

import faulthandler
import os
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only

sys.path.insert(0, str(Path(__file__).parents[2]))
torch.set_num_threads(1)

from cli.main import main  # noqa: E402 - only now can it be found

ON_ONE_CPU = ("--trainer.accelerator", "cpu", "--trainer.devices", "1")  # unless the arguments say otherwise


def nothing() -> None:
    pass


def run_cli(
    arguments: list[str],
    log: Path,
    ranks: int = 1,
    first: Callable[[], None] = nothing,
    last: Callable[[], None] = nothing,
) -> list[int]:
    """Run one command line, in several processes if it is to train on several ranks.

    Args:
        arguments: of train.py.
        log: file to append the output to.
        ranks: number of processes.
        first: called in each process before the command line.
        last: called after it.

    Returns:
        The exit statuses, as `os.waitpid` gives them.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(ranks):
        child = os.fork()
        if child:
            children.append(child)
            continue
        try:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1), os.dup2(output, 2)
            faulthandler.enable()  # in DDP a crash below Python would leave no trace but a broken connection
            sys.argv = ["train.py", arguments[0], *ON_ONE_CPU, *arguments[1:]]
            if arguments[0] == "fit" and "--refit" not in arguments:
                sys.argv += ["--refit", "false"]
            if ranks > 1:
                sys.argv += ["--trainer.devices", str(ranks), "--trainer.strategy", "ddp"]
                rank_zero_only.rank = rank  # a fresh process would have read it from LOCAL_RANK while importing
                os.environ |= {"LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            first()
            main()
            last()
            sys.stdout.flush()
            os._exit(0)
        except BaseException as error:
            traceback.print_exc()
            print(error, file=sys.stderr, flush=True)
            os._exit(1)
    return [os.waitpid(child, 0)[1] for child in children]
