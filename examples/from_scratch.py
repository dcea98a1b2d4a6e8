"""Article 2's training loop: softmax regression with nothing but tensors, autograd and arithmetic, and no Lightning.

    python examples/from_scratch.py             # made-up points in three clusters, in a second
    python examples/from_scratch.py --clinc150  # CLINC150 (downloaded), 10 of the article's 100 epochs: 2 min, 1.5 GB

`logreg/softmax.py` is the same six steps under the Lightning Trainer; tests and benchmarks compare with this loop.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor


class Step(NamedTuple):
    """After one update: the loss with its penalty, mean |W| and mean |gradient of W|, and copies of the parameters."""

    loss: float
    mean_weight: float
    mean_gradient: float
    W: Tensor
    b: Tensor


def train(
    batches: Iterable[tuple[Tensor, Tensor]], d: int, c: int, lr: float, l2: float, seed: int, init_scale: float = 0.01
) -> Iterator[Step]:
    """Update W (d, c) and b (c,) once for each batch of dense rows x (n, d) and classes y (n,)."""
    generator = torch.Generator().manual_seed(seed)
    W = (torch.randn(d, c, generator=generator) * init_scale).requires_grad_()
    b = torch.zeros(c, requires_grad=True)
    for x, y in batches:
        logits = x @ W + b  # 2. forward: (n, c)
        shifted = logits - logits.max(dim=1, keepdim=True).values  # 3. loss; exp of this cannot overflow
        log_probs = shifted - shifted.exp().sum(dim=1, keepdim=True).log()
        loss = -log_probs[torch.arange(len(y)), y].mean() + l2 * (W**2).sum()
        loss.backward()  # 4. backward
        assert W.grad is not None and b.grad is not None
        gradient = W.grad.abs().mean()  # before it is zeroed
        with torch.no_grad():  # 5. update
            W -= lr * W.grad
            b -= lr * b.grad
        W.grad.zero_()  # 6. zero
        b.grad.zero_()
        yield Step(loss.item(), W.detach().abs().mean().item(), gradient.item(), W.detach().clone(), b.detach().clone())


def shuffled(x: Tensor, y: Tensor, batch_size: int, epochs: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches in a new random order each epoch; x may be sparse CSR, the batches are dense."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for rows in torch.randperm(len(y), generator=generator).split(batch_size):  # 1. shuffle
            yield x[rows], y[rows]


def toy_points() -> tuple[Tensor, Tensor]:
    """300 points x (300, 3) in three clusters that overlap a little, and their clusters y (300,)."""
    y = torch.arange(3).repeat(100)
    return 3 * torch.eye(3)[y] + torch.randn(300, 3, generator=torch.Generator().manual_seed(0)), y


def main() -> None:
    """Train on the toy points, or on CLINC150."""
    if "--clinc150" in sys.argv[1:]:
        sys.path.insert(0, str(Path(__file__).parents[1]))
        from datamodules.sampler import BatchIndices
        from datamodules.text.clinc150 import CLINC150DataModule

        data = CLINC150DataModule()
        data.setup("fit")
        train_rows = data.dataset("train")
        x, y = train_rows[BatchIndices(torch.arange(len(train_rows)), epoch=0)][:2]
        x, d, c, lr, l2, batch_size, epochs = x.to_dense(), data.num_features, data.num_classes, 0.1, 1e-4, 256, 10
    else:
        x, y = toy_points()
        d, c, lr, l2, batch_size, epochs = 3, 3, 0.1, 1e-3, 100, 10

    steps = -(-len(y) // batch_size)
    for number, step in enumerate(train(shuffled(x, y, batch_size, epochs, seed=42), d, c, lr, l2, seed=42), 1):
        if number == 1 or number % steps == 0:
            print(
                f"step {number:4}  loss {step.loss:.4f}  "
                f"mean |W| {step.mean_weight:.4f}  mean |grad| {step.mean_gradient:.2e}"
            )
    accuracy = ((x @ step.W + step.b).argmax(dim=1) == y).float().mean()
    print(f"training accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
