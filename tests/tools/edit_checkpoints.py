"""Change one thing in a checkpoint, and see what the command line makes of it.

python tests/tools/edit_checkpoints.py --edits 2000 iris_binary iris_ova

Every edit must be harmless (the same answer), refused (one line that begins with "error: ", no file changed), or put
another valid value where nothing else in the file says what it should be: a weight, a name. The answer is what
`predict` or `test` writes, or, for `fit`, all that a resumed run ends with.
"""

import argparse
import contextlib
import copy
import io
import itertools
import logging
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

from kill_and_resume import differences, outcome

ROOT = Path(__file__).parents[2]
SECONDS = 30  # after which an edit has made a command hang
QUIET = ("--trainer.callbacks", "null", "--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary")
QUIET += ("false", "--figures.enabled", "false")  # which take seconds of each edit
# Config, and how its run ends: after an epoch, or within one.
RUNS = {
    "text_csv": ("--trainer.max_steps", "5", "--data.batch_size", "32"),
    "iris_binary": ("--trainer.max_epochs", "2"),
    "iris_ova": ("--trainer.max_steps", "8"),
    "xor_mlp": ("--trainer.max_epochs", "2"),
    "table_csv": ("--trainer.max_epochs", "2"),
}
# Where another value of the same kind is as good: nothing else in the file tells which is right.
FREE = (
    r"state_dict/",
    r"optimizer_states/0/state/",
    r"\w+DataModule/(class_names|feature_names|class_counts|mean|scale|vectorizers)",
    r"callbacks/\w+/(best|best_state|kept)",
)
FOR_FIT_ALONE = ("loops", "optimizer_states", "lr_schedulers", "callbacks", "epoch", "global_step")


class Edit(NamedTuple):
    """One change.

    Attributes:
        path: keys and positions from the checkpoint down to the place.
        what: the change, in words.
        valid: whether the new value is of the same kind as the old, such as another finite number.
        apply: changes a container at a key.
    """

    path: tuple[Any, ...]
    what: str
    valid: bool
    apply: Callable[[Any, Any], None]

    @property
    def place(self) -> str:
        return "/".join(map(str, self.path))


def put(value: Any) -> Callable[[Any, Any], None]:
    """Replace what is there."""

    def apply(container: Any, key: Any) -> None:
        container[key] = value

    return apply


def deep(value: Any, depth: int = 100) -> Any:
    """A value in a list in a list ..."""
    for _ in range(depth):
        value = [value]
    return value


NUMBERS = ("a number in a tensor", "an empty tensor")
GARBAGE: dict[str, Any] = {
    "None": None,
    "True": True,
    "zero": 0,
    "minus one": -1,
    "a huge int": 10**30,
    "2**62": 2**62,
    "a half": 0.5,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "a complex number": 1j,
    "no text": "",
    "text": "../../x\x1b[31m\n",
    "bytes": b"\xff\x00",
    "an empty list": [],
    "an empty map": {},
    "a set": {1, 2},
    "a list of numbers": [1, 2, 3],
    "nested lists": deep(1),
    "a map of maps": {"a": {1: {None: [{}]}}},
    "a dtype": torch.float32,
    "a device": torch.device("cuda"),
    NUMBERS[0]: torch.tensor(1.0),
    NUMBERS[1]: torch.zeros(0),
    "a class_path": {"class_path": "os.mkdir", "init_args": {"path": "/x"}},
}


def tensor_edits(value: Tensor) -> Iterator[tuple[str, bool, Any]]:
    """Other tensors: (in words, whether of the same kind, the tensor)."""
    floats = value.is_floating_point()
    yield "halved", floats, value / 2
    yield "negated", True, -value
    for number in ("nan", "inf", "-inf"):
        if floats:
            spoilt = value.flatten().clone()
            spoilt[:1] = float(number)
            yield f"one {number}", False, spoilt.reshape(value.shape)
    yield "all zero", True, torch.zeros_like(value)
    yield "as float64", True, value.double()
    yield "as float16", True, value.half()
    yield "beyond float32", False, value.double() * 0 + 1e300
    yield "as int64", False, value.long()
    yield "as bool", False, value.bool()
    yield "complex", False, value.to(torch.complex64)
    yield "flat", value.ndim < 2, value.reshape(-1)
    yield "one dimension more", False, value.unsqueeze(0)
    yield "sparse", True, value.to_sparse() if value.ndim else torch.sparse_coo_tensor((10**9, 10**9))
    yield "without storage", False, torch.empty(value.shape, device="meta")
    yield "a terabyte without storage", False, torch.empty(10**12, device="meta")
    yield "a terabyte by strides of 0", False, torch.zeros(1).expand(10**6, 10**6)
    yield "its shape by strides of 0", value.numel() < 2, torch.tensor(0.0).expand(value.shape)
    yield "quantised", False, torch.quantize_per_tensor(value.float(), 0.1, 0, torch.qint8)
    yield "requires gradients", True, value.double().float().requires_grad_()
    yield "a parameter", True, torch.nn.Parameter(value) if floats else value
    named = value.clone()
    named.isfinite = 3  # type: ignore[assignment, method-assign]
    yield "with attributes", True, named
    if value.ndim:
        yield "a row less", False, value[1:]
        yield "a row more", False, torch.cat([value, value[:1]])
        yield "transposed", True, value.T.contiguous() if value.ndim == 2 else value
        yield "in another order", True, value.flip(0)


def edits_of(value: Any) -> Iterator[tuple[str, bool, Any]]:
    """Other values for one value: (in words, whether of the same kind, the value)."""
    if isinstance(value, Tensor):
        yield from tensor_edits(value)
        yield "its list", False, value.tolist()
    elif isinstance(value, bool):
        yield "negated", True, not value
        yield "as int", False, int(value)
    elif isinstance(value, int):
        yield from ((f"{value + d}", True, value + d) for d in (1, -1, 2, 1000))
        yield "as float", False, float(value)
        yield "as text", False, str(value)
        yield "as tensor", False, torch.tensor(value)
    elif isinstance(value, float):
        yield "halved", True, value / 2
        yield "negated", True, -value
        yield "as text", False, str(value)
        yield "as int", False, int(value)
        yield "as tensor", False, torch.tensor(value)
        yield "1e300", True, 1e300
    elif isinstance(value, str):
        yield from text_edits(value)
    elif isinstance(value, list | tuple):
        yield from list_edits(value)
    elif isinstance(value, dict):
        yield "an entry more", False, {**value, "stranger": 1}
        yield "an entry more by number", False, {**value, 7: [1]}
        yield "an entry that is a method", False, {**value, "reset": 1, "load_state_dict": 1}
        yield "as list", False, list(value.items())
        for key in value:
            yield f"with {key} under another name", False, {(f"{k} x" if k == key else k): v for k, v in value.items()}


def text_edits(value: str) -> Iterator[tuple[str, bool, Any]]:
    """Other texts; of a vocabulary and of a token pattern, other ones of these."""
    yield "another name", True, f"{value} x"
    yield "cut", True, value[:-1]
    yield "as bytes", False, value.encode()
    yield "in a list", False, [value]
    yield "of a megabyte", True, value * (1 + 10**6 // (len(value) + 1))
    if value.startswith("["):
        yield "no JSON", False, value[1:]
        yield "deep JSON", False, "[" * 10**5
        yield "a word twice", False, value.replace('["', '["a", "a", "', 1)
        yield "a word more", False, value.replace('["', '["zzz zzz", "', 1)
    if value.startswith("(?u)"):
        for pattern in (
            r"(?u)(\w+)+\b!",
            r"(a|a)*b",
            r"\w{1,60000}" * 3,
            "(" * 200,
            "",
            "(x)(y)",
            r"(\w*)*(\w*)*$x",
        ):
            yield f"the pattern {pattern[:12]}", True, pattern


def list_edits(value: Any) -> Iterator[tuple[str, bool, Any]]:
    """Other lists or tuples."""
    kind = type(value)
    if len(value):
        yield "an item less", False, kind(value[1:])
        yield "an item twice", False, kind([*value, value[0]])
        yield "all items the same", kind is tuple, kind([value[0]] * len(value))
        yield "in another order", True, kind(value[::-1])
        yield "of 100,000 items", False, kind([value[0]] * 100_000)
    yield "a stranger more", False, kind([*value, "stranger"])
    yield "as the other kind of list", False, (tuple if kind is list else list)(value)
    yield "as text", False, str(value)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every place in nested maps and lists, and what is there."""
    if path:
        yield path, value
    items: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def all_edits(checkpoint: dict[str, Any]) -> list[Edit]:
    """Every single edit."""
    found = []
    for path, value in places(checkpoint):
        # A parameter that is never used leaves nothing with the optimizer.
        unused = len(path) == 4 and path[:3] == ("optimizer_states", 0, "state")
        found.append(Edit(path, "deleted", unused, lambda container, key: container.__delitem__(key)))
        for what, valid, new in edits_of(value):
            found.append(Edit(path, what, valid, put(new)))
        scalar = isinstance(value, Tensor) and value.ndim == 0  # for which a number in a tensor is no garbage
        found += [Edit(path, what, scalar and what in NUMBERS, put(new)) for what, new in GARBAGE.items()]
    return found


class Judge:
    """One finished run of a config, and the answers that its checkpoint gives.

    Args:
        config: one of RUNS.
        folder: to work in.
        cli: runs a command line.
    """

    def __init__(self, config: str, folder: Path, cli: Callable[..., None]) -> None:
        self.config, self.folder, self.cli = config, folder, cli
        self.run = folder / "run"
        arguments = ("--config", f"configs/{config}.yaml", *QUIET, *RUNS[config])
        self._quietly("fit", *arguments, "--trainer.default_root_dir", self.run)
        self.checkpoint = torch.load(self.run / "checkpoints/last.ckpt", weights_only=True)
        self.edits = all_edits(self.checkpoint)
        self.answers = {command: self.answer(command, self._copy("right")) for command in ("fit", "test", "predict")}

    def commands_for(self, edit: Edit) -> tuple[str, ...]:
        """What an edit may matter to."""
        return ("fit",) if edit.path[0] in FOR_FIT_ALONE else ("fit", "test", "predict")

    def judge(self, edit: Edit, command: str) -> tuple[str, str]:
        """What became of the edit, in a word, and if that is not what should be, why."""
        before = self.put(edit)
        return self.verdict(edit, command, before, lambda: self.answer(command, self.folder / "edited/run"))

    def judge_all(self, edits: list[Edit], command: str, report: Callable[[Edit, str, str], None]) -> None:
        """The same for many edits, each in a process of its own, forked where the command line opens the checkpoint."""
        from cli.lightning_cli import TemplateCLI

        verdict, parse = self.folder / "verdict", TemplateCLI._parse_ckpt_path
        current: dict[str, Any] = {}

        def fork_here(cli: TemplateCLI) -> None:
            for edit in edits:
                current.update(edit=edit, before=self.put(edit))
                child = os.fork()
                if not child:
                    return parse(cli)
                end = time.monotonic() + SECONDS
                while not (ended := os.waitpid(child, os.WNOHANG)[0]) and time.monotonic() < end:
                    time.sleep(0.005)
                if not ended:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                became, why = (
                    verdict.read_text().split("\n", 1) if verdict.is_file() else ("died or hung", "no verdict")
                )
                verdict.unlink(missing_ok=True)
                report(edit, became, why)
            raise KeyboardInterrupt  # all done; ends the command line

        parent = os.getpid()
        TemplateCLI._parse_ckpt_path = fork_here
        try:
            self._copy("edited")
            answer = partial(self.answer, command, self.folder / "edited/run")
            end: Callable[[], Any]
            try:
                found = answer()
                end = lambda: found  # noqa: E731
            except BaseException as error:
                if os.getpid() == parent:
                    return
                end = partial(throw, error)
            verdict.write_text("\n".join(self.verdict(current["edit"], command, current["before"], end)))
            os._exit(0)
        finally:
            if os.getpid() != parent:
                os._exit(1)
            TemplateCLI._parse_ckpt_path = parse

    def put(self, edit: Edit) -> dict[str, bytes]:
        """Make a run with the edited checkpoint; returns all files."""
        checkpoint = copy.deepcopy(self.checkpoint)
        container: Any = checkpoint
        for key in edit.path[:-1]:
            container = container[key]
        edit.apply(container, edit.path[-1])
        torch.save(checkpoint, self._copy("edited") / "checkpoints/last.ckpt")
        return contents(self.folder)

    def verdict(self, edit: Edit, command: str, before: dict[str, bytes], answer: Callable[[], Any]) -> tuple[str, str]:
        """What became of the edit, in a word, and if that is not what should be, why."""
        try:
            changed = differences(self.answers[command], answer())
        except SystemExit as exit:
            line, after = str(exit.code), contents(self.folder)
            harmed = sorted(name for name, content in before.items() if after.get(name) != content)
            if "not finite any more" in line and self._is_free(edit):  # trained on from another value, and diverged
                return "another value", ""
            if not line.startswith("error: ") or "\n" in line or len(line) > 1000:
                return "refused", f"not in one line: {line[:300]!r}"
            return "refused", f"changed {harmed}: {line}" if harmed else ""
        except BaseException as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            return "raised", f"{type(error).__name__}: {str(error)[:150]!r} in {last.filename[-50:]}:{last.lineno}"
        if not changed:
            return "harmless", ""
        if self._is_free(edit):
            return "another value", ""
        return "changed", "; ".join(changed[:3])

    def _is_free(self, edit: Edit) -> bool:
        return edit.valid and any(re.match(pattern, edit.place) for pattern in FREE)

    def _copy(self, name: str) -> Path:
        run = self.folder / name / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(self.run, run)
        return run

    def answer(self, command: str, run: Path) -> Any:
        """What a command makes of the last checkpoint of a run: of `fit`, how it ends; else, the files it writes."""
        further = ("--trainer.max_epochs", "4", "--trainer.max_steps", "-1") if command == "fit" else ()
        place = ("--config", run / "config.yaml", "--ckpt_path", run / "checkpoints/last.ckpt")
        self._quietly(command, *place, *further)
        if command == "fit":
            return outcome(run)
        return {path.name: path.read_text() for path in run.glob("*") if path.suffix in (".json", ".jsonl", ".csv")}

    def _quietly(self, *arguments: object) -> None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            self.cli(*arguments)


def throw(error: BaseException) -> Any:
    """Raise it."""
    raise error


def chosen(edits: list[Edit], number: int, chance: Any = random) -> list[Edit]:
    """A random choice, in turn from each part of the checkpoint: most edits are of the loops' many counts."""
    parts: dict[Any, list[Edit]] = {}
    for edit in chance.sample(edits, len(edits)):
        parts.setdefault(edit.path[0], []).append(edit)
    rounds = itertools.zip_longest(*parts.values())
    return [edit for part in rounds for edit in part if edit is not None][:number]


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def in_process(*arguments: object) -> None:
    """`python train.py ...` in this process."""
    from cli.main import main

    os.environ.pop("PL_GLOBAL_SEED", None)
    sys.argv = ["train.py", *map(str, arguments)]
    main()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", choices=RUNS)
    parser.add_argument("--edits", type=int, default=2000, help="of each config")
    parser.add_argument("--seed", type=int, default=0, help="of the choice")
    parser.add_argument("--match", default="", help="only edits whose place and words match this regular expression")
    options = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    random.seed(options.seed)
    wrong = [try_edits(config, options.edits, options.match) for config in options.configs]
    sys.exit(any(wrong))


def try_edits(config: str, number: int, match: str) -> int:
    """Judge some edits of a config's checkpoint, and print what is wrong; returns how many are."""
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    out = sys.stdout  # which the command line's own output does not reach

    def report(command: str, edit: Edit, became: str, why: str) -> None:
        counts[became] += 1
        if counts.total() % 100 == 0:
            print(f"{config}: {dict(counts)}", file=out, flush=True)
        if why:
            wrong.append(why)
            print(f"{config} {command}: {edit.place}: {edit.what}: {became}, {why}", file=out, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        judge = Judge(config, Path(folder), in_process)
        edits = [edit for edit in judge.edits if re.search(match, f"{edit.place}: {edit.what}")]
        of_command: dict[str, list[Edit]] = {}
        for edit in chosen(edits, number, random):
            of_command.setdefault(random.choice(judge.commands_for(edit)), []).append(edit)
        for command, some in of_command.items():
            judge.judge_all(some, command, partial(report, command))
    print(f"{config}: {counts.total()} of {len(judge.edits)} edits: {dict(counts)}", flush=True)
    return len(wrong)


if __name__ == "__main__":
    main()
