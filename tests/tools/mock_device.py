"""A device that is none: its tensors are computed on the CPU but may not meet the CPU's own, and waits are counted.

It is a "gpu", or an "mps": a GPU without CSR tensors, float64 and copies that nobody waits for. It needs torch 2.10,
the first with devices in Python.
"""

import json
import multiprocessing
import os
import sys
import traceback
import warnings
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.accelerators import AcceleratorRegistry, CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy, StrategyRegistry
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

sys.path.insert(0, str(Path(__file__).parent))

from forked_cli import run_cli

ROOT = Path(__file__).parents[2]
LARGEST = 2**13  # numbers of a batch that the mock of an Apple GPU takes: 20 rows of 400 features
OURS = ("callbacks/", "datamodules/", "logreg/")
DEVICE = torch.device("cpu")  # until `install`
# Where a GPU takes a tensor of the CPU as well, and where the CPU has to know a number that the GPU computes.
TAKE_BOTH = {"copy_", "_to_copy", "index", "index_put", "index_put_", "_index_put_impl_"}
WAIT = {"_local_scalar_dense", "nonzero", "_unique2", "_coalesce", "equal", "bincount", "masked_select"}
waits: Counter[str] = Counter()  # by operator and place


class OnDevice(torch.Tensor):
    """A tensor on the mock device; `on_cpu` holds its numbers."""

    on_cpu: torch.Tensor

    @staticmethod
    def __new__(cls, inner):
        sparse = inner.layout != torch.strided
        layout = {"layout": inner.layout, "dispatch_layout": True} if sparse else {"strides": inner.stride()}
        self = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, device=DEVICE, **layout)
        self.on_cpu = inner
        return self

    @classmethod
    def __torch_dispatch__(cls, operator, types, args=(), kwargs=None):
        return compute(operator, args, kwargs or {})

    def tolist(self):
        count_wait("tolist")
        return self.on_cpu.tolist()

    def __format__(self, spec):
        count_wait("__format__")
        return format(self.on_cpu, spec)


class Everywhere(TorchDispatchMode):
    """Sees operators that make tensors of numbers alone, with device="mock"."""

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        return compute(operator, args, kwargs or {})


def count_wait(name: str, times: int = 1) -> None:
    """Count it at the innermost line of the project's own; others are Lightning's."""
    stack = [(frame.filename.removeprefix(f"{ROOT}/"), frame.lineno) for frame in traceback.extract_stack()]
    places = [f"{file}:{line}" for file, line in stack if file.startswith(OURS)]
    waits[f"{name} {places[-1] if places else '(Lightning)'}"] += times


def compute(operator: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What the operator computes, on the device where it would be, or what a GPU would refuse."""
    if operator is torch.ops.prim.layout.default:
        return args[0].on_cpu.layout
    name = operator.overloadpacket.__name__
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    there = {id(tensor.on_cpu): tensor for tensor in tensors if isinstance(tensor, OnDevice)}
    strangers = [tensor for tensor in tensors if not isinstance(tensor, OnDevice) and tensor.ndim]
    takes_both = name in TAKE_BOTH and (isinstance(args[0], OnDevice) or "index" not in name)
    if there and strangers and not takes_both:
        raise RuntimeError(f"{name}: expected all tensors on one device, got {DEVICE} and cpu")
    device = kwargs.get("device")
    goes_there = bool(there) if device is None else torch.device(device).type == DEVICE.type
    if name == "copy_":
        goes_there = isinstance(args[0], OnDevice)
    copies = name in ("copy_", "_to_copy") and goes_there != bool(there)
    if copies and not kwargs.get("non_blocking"):
        count_wait("copy", 3 if tensors[-1].layout == torch.sparse_csr else 1)
    elif there and name in WAIT:
        count_wait(name)
    args, kwargs = tree_map(lambda leaf: leaf.on_cpu if isinstance(leaf, OnDevice) else leaf, (args, kwargs))
    result = operator(*args, **(kwargs if device is None else kwargs | {"device": "cpu"}))
    if goes_there and is_apple:
        for tensor in filter(torch.is_tensor, tree_leaves(result)):
            refuse_on_mps(tensor, copies, bool(kwargs.get("non_blocking")))
    wrap = lambda leaf: OnDevice(leaf) if goes_there and isinstance(leaf, torch.Tensor) else leaf  # noqa: E731
    return tree_map(lambda leaf: there[id(leaf)] if id(leaf) in there else wrap(leaf), result)


is_apple = False


def refuse_on_mps(tensor: torch.Tensor, copied: bool, non_blocking: bool) -> None:
    """Raise what torch does on Apple's GPUs; a copy without waiting can go wrong there, which nobody would notice."""
    if tensor.dtype == torch.float64:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
    if tensor.layout == torch.sparse_csr:
        raise NotImplementedError("Could not run an operator with arguments from the 'SparseCsrMPS' backend")
    if copied and tensor.ndim == 2 and tensor.shape[1] > 100 and tensor.numel() > LARGEST:  # no grid of points, no W
        raise MemoryError(f"a dense batch {tuple(tensor.shape)} of more than {LARGEST} numbers")
    if copied and non_blocking:
        raise RuntimeError("a copy to an Apple GPU that nobody waits for may send other numbers")


class MockAccelerator(CPUAccelerator):
    def setup_device(self, device):
        pass

    @staticmethod
    def get_parallel_devices(devices):
        return [DEVICE]


class MockStrategy(SingleDeviceStrategy):
    """torch.save brings tensors of a GPU to the CPU, but knows no other kinds of tensor."""

    def save_checkpoint(self, checkpoint, filepath, storage_options=None):
        super().save_checkpoint(to_cpu(checkpoint), filepath, storage_options)


def to_cpu(value: Any) -> Any:
    return tree_map(lambda leaf: leaf.on_cpu if isinstance(leaf, OnDevice) else leaf, value)


def install(device: str) -> None:
    """Make "mock" a device of torch, and `--trainer.accelerator mock` one of Lightning, in this process."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    global DEVICE, is_apple, library
    _setup_privateuseone_for_python_backend("mock")
    DEVICE, is_apple = torch.device("mock:0"), device == "mps"
    # torch's inference mode hides from Python what happens to a tensor.
    torch.inference_mode = lambda mode=True: torch.no_grad() if mode else torch.enable_grad()
    library = torch.library.Library("aten", "IMPL")  # what torch.tensor(..., device="mock") needs below Python
    for name, kernel in {
        "empty_strided": lambda size, stride, dtype=None, **_: OnDevice(torch.empty_strided(size, stride, dtype=dtype)),
        "empty.memory_format": lambda size, dtype=None, **_: OnDevice(torch.empty(size, dtype=dtype)),
        "_copy_from": lambda source, target, non_blocking=False: (to_cpu(target).copy_(to_cpu(source)), target)[1],
    }.items():
        library.impl(name, kernel, "PrivateUse1")
    from callbacks.run import checkpoint_io

    checkpoint_io.LEAVES.add(OnDevice)  # a trial of what can be saved meets them before `save_checkpoint` above
    if is_apple:
        from lightning.fabric.utilities import apply_func

        from datamodules import batches

        batches.WITHOUT_CSR.add("mock")
        batches.LARGEST_DENSE = LARGEST
        apply_func._BLOCKING_DEVICE_TYPES += ("mock",)
    AcceleratorRegistry.register("mock", MockAccelerator, "")
    StrategyRegistry.register("mock", MockStrategy, device=DEVICE)
    Everywhere().__enter__()


def run_on(device: str, arguments: list[str], log: Path) -> str:
    """Run `train.py` in a process forked from this one, on the real "cpu" or a mock; the output of one that failed.

    On a mock it leaves waits.json in its run directory: how often the CPU would have waited for the GPU, by the place
    in the code.
    """
    run = Path(arguments[arguments.index("--trainer.default_root_dir") + 1])

    def first() -> None:
        if device != "cpu":
            install(device)
            sys.argv += ["--trainer.accelerator", "mock", "--trainer.devices", "1", "--trainer.strategy", "mock"]

    def last() -> None:
        if device != "cpu":
            (run / "waits.json").write_text(json.dumps(waits, indent=1))

    [status] = run_cli(arguments, log, first=first, last=last)
    return f"{device} {arguments}: status {status}\n{log.read_text()[-4000:]}" if status else ""


def start_server() -> Connection:
    """Fork a process that takes the arguments of `run_on` and sends what it returns, until this process ends.

    To be called before anything is differentiated: after its first backward pass, torch's autograd takes no new device.
    """
    ours, theirs = multiprocessing.Pipe()

    def serve() -> None:
        ours.close()
        os.chdir(ROOT)
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__  # else pytest keeps what belongs in the log
        while True:
            theirs.send(run_on(*theirs.recv()))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a fork beside threads
        multiprocessing.get_context("fork").Process(target=serve, daemon=True).start()
    return ours
