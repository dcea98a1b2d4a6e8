"""Break logistic regression on purpose: each lesson is one command, one expectation, and what happened.

    python -m examples.lessons                  # lists the lessons
    python -m examples.lessons forget_to_zero   # runs one, in seconds, without a network

The arithmetic is article 2's loop (examples/from_scratch.py) and the formulas of logreg/functional.py. The data is made
up, or scikit-learn's 1,797 handwritten digits of 8 x 8 pixels.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score
from torch import Tensor, nn
from torch.utils.data import WeightedRandomSampler

from examples.from_scratch import Step, shuffled, toy_points, train
from logreg.functional import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    class_weights,
    cross_entropy,
    log_softmax,
    sigmoid,
)

Rows = list[Mapping[str, str | float]]  # what a lesson observed: a table, row by row


# --- the loop -------------------------------------------------------------------------------------------------------


def forget_to_zero() -> Rows:
    """Step 6 left out: `backward` adds each gradient to the sum of all before it, and W follows that sum.

    Expect three fates, none of them NaN, for the softmax gradient of a row x is at most √2 · |x|. All rows at once, on
    clusters that overlap: the loss swings like a pendulum without friction. Batches of 10: their noise piles up too,
    and the loss grows, unevenly, as the article has it. The digits, which planes can separate: it ends near 0, for a
    sum of gradients is momentum that nothing brakes.
    """

    def losses(x: Tensor, y: Tensor, size: int, zero: bool) -> list[float]:
        W, of_epochs = torch.zeros(x.shape[1], int(y.max()) + 1, requires_grad=True), []
        for rows, target in shuffled(x, y, size, epochs=300, seed=0):
            loss = cross_entropy(rows @ W, target)
            loss.backward()
            of_epochs.append(loss.item() * len(target) / len(y))
            with torch.no_grad():
                W -= 0.1 * W.grad
            if zero:
                W.grad.zero_()
        steps = -(-len(y) // size)
        return [sum(of_epochs[start : start + steps]) for start in range(0, len(of_epochs), steps)]

    points, of_digits = toy_points(), digits()[:2]
    columns = {
        "all at once, zeroed": losses(*points, 300, zero=True),
        "all at once": losses(*points, 300, zero=False),
        "batches of 10": losses(*points, 10, zero=False),
        "digits": losses(*of_digits, 32, zero=False),
    }
    epochs = (1, 10, 50, 100, 200, 300)
    return [{"epoch": n} | {name: values[n - 1] for name, values in columns.items()} for n in epochs]


def sorted_rows() -> Rows:
    """No shuffling on rows sorted by class: batch after batch of zeros, then of ones, and so on to the nines.

    Expect a loss that swings within each epoch, for a batch of a class not seen for long costs several times as much,
    and a model that has half forgotten the first classes and answers the last one too often: of 500 held-out digits 48
    are nines.
    """
    x, y, x_val, y_val = digits()
    order = y.argsort(stable=True)
    x, y = x[order], y[order]
    in_order = [(x[rows], y[rows]) for _ in range(10) for rows in torch.arange(len(y)).split(32)]
    rows: Rows = []
    for name, batches in (("shuffled", shuffled(x, y, 32, epochs=10, seed=0)), ("sorted", in_order)):
        *_, step = steps = list(train(batches, 64, 10, lr=0.5, l2=0.0, seed=0))
        of_last_epoch = [s.loss for s in steps[-41:]]
        row = {"order": name, "its smallest loss": min(of_last_epoch), "its largest loss": max(of_last_epoch)}
        answers = (x_val @ step.W + step.b).argmax(dim=1)
        right = (answers == y_val).float().mean().item()
        rows.append(row | {"validation accuracy": right, "answers 9": int((answers == 9).sum())})
    return rows


def init_scale() -> Rows:
    """W starts from 0.01 · N(0, 1). A hundred times as much, and the model is sure of itself before it has seen a row.

    Expect a first loss far above ln 10 = 2.30, the loss of a blind guess among ten classes, and a worse model after ten
    epochs. The gradients neither vanish nor explode: they are larger, and first have to undo the start.
    """
    x, y, x_val, y_val = digits()
    rows: Rows = []
    for scale in (0.01, 1.0, 10.0):
        first, *_, end = train(shuffled(x, y, 32, epochs=10, seed=0), 64, 10, lr=0.1, l2=0.0, seed=0, init_scale=scale)
        row = {"scale": scale, "first loss": first.loss, "first mean |grad|": first.mean_gradient}
        rows.append(row | {"last loss": end.loss, "validation accuracy": accuracy(end, x_val, y_val)})
    return rows


def learning_rate() -> Rows:
    """The rate is the length of a step: ten times too long, a thousand times too short.

    Expect 3 to be there after ten steps, 30 to jump over the minimum and back, and 0.003 to have hardly left.
    """
    x, y = toy_points()
    rates = (0.003, 3.0, 30.0)
    losses = [[s.loss for s in train(shuffled(x, y, 300, 200, seed=0), 3, 3, lr, l2=0.0, seed=0)] for lr in rates]
    rows: Rows = []
    names = [f"loss at {lr:g}" for lr in rates]
    for step in (1, 2, 10, 50, 100, 200):
        rows.append({"step": step} | {name: loss[step - 1] for name, loss in zip(names, losses, strict=True)})
    return [*rows, {"step": "highest"} | {name: max(loss) for name, loss in zip(names, losses, strict=True)}]


def batch_size() -> Rows:
    """All rows at once, 256, or a single one: how good is the gradient, and what does it cost?

    Expect an exact gradient from all rows, one that is off by half its length from 256, and from a single row mostly
    noise. In five epochs many poor steps get further than five exact ones, so the noise is no harm, but they take far
    longer. The memory of a step is that of its rows, and of what autograd keeps of them.
    """
    x, y, x_val, y_val = digits()
    rows: Rows = []
    for size, lr in ((len(y), 0.5), (256, 0.5), (1, 0.1)):
        start = time.process_time()  # of this process alone, whatever else the machine does
        *_, step = steps = list(train(shuffled(x, y, size, epochs=5, seed=0), 64, 10, lr, l2=0.0, seed=0))
        seconds = time.process_time() - start
        row = {"rows in a batch": size, "gradient's error": gradient_error(x, y, size), "steps": len(steps)}
        row |= {"kB of a batch": size * x[0].nbytes / 1000}
        row |= {"ms a step": 1000 * seconds / len(steps), "s in all": seconds}
        rows.append(row | {"validation accuracy": accuracy(step, x_val, y_val)})
    return rows


def l2() -> Rows:
    """The penalty l2 · ΣW², off, right and far too large, on 200 digits of which every fifth has a wrong label.

    Expect the model without a penalty to learn the wrong labels by heart and to fail on new rows; with 0.003 to get
    fewer training rows "right" and more new ones. With 1, W is pressed to zero and the bias, which no penalty touches,
    is left: whatever the picture, the answer is the commonest training label.
    """
    x, y, x_val, y_val = digits()
    x, y = x[:200], y[:200].clone()
    y[::5] = torch.randint(10, (40,), generator=torch.Generator().manual_seed(0))
    rows: Rows = []
    for strength, lr in ((0.0, 2.0), (0.003, 2.0), (1.0, 0.45)):  # 2 · lr · l2 must stay below 1
        step = last(train(shuffled(x, y, 200, epochs=1000, seed=0), 64, 10, lr, strength, seed=0))
        row = {"l2": strength, "mean |W|": step.mean_weight, "training accuracy": accuracy(step, x, y)}
        counts = (x_val @ step.W + step.b).argmax(dim=1).bincount(minlength=10)
        row |= {"validation accuracy": accuracy(step, x_val, y_val), "commonest answer": int(counts.argmax())}
        rows.append(row | {"given, of 500": int(counts.max())})
    return rows


def random_labels() -> Rows:
    """Article 2's toy printout: 50 random rows of 10 features, and labels that have nothing to do with them.

    Expect the loss to start at ln 3 = 1.099 and |grad| to shrink, and the loss to stay far from 0: there is nothing to
    learn but these 50 rows. |grad| is read before it is zeroed; read after, as in the article, it is always 0.
    """
    torch.manual_seed(0)
    x, y = torch.randn(50, 10), torch.randint(3, (50,))
    steps = list(train([(x, y)] * 2000, 10, 3, lr=0.1, l2=0.0, seed=0))
    return [
        {"step": n, "loss": s.loss, "mean |W|": s.mean_weight, "mean |grad|": s.mean_gradient}
        for n in (1, 5, 10, 20, 200, 2000)
        for s in [steps[n - 1]]
    ]


# --- losses ---------------------------------------------------------------------------------------------------------


def double_sigmoid() -> Rows:
    """A sigmoid before BCEWithLogits, which has one inside: it takes p in (0, 1) for a logit and sees σ(p) < 0.74.

    Expect a loss that cannot come near 0 however good the model is, and almost no gradient for a row that is badly
    wrong.
    """
    x, y = toy_points()
    target = (y == 0).long()
    wrong = torch.tensor([8.0], requires_grad=True)  # logit of a row of class 0: p = 0.9997 for class 1
    rows: Rows = []
    for name, prepare in (("logits", lambda z: z), ("sigmoid(logits)", sigmoid)):
        w, b = torch.zeros(3, requires_grad=True), torch.zeros((), requires_grad=True)
        for _ in range(1000):
            loss = binary_cross_entropy_with_logits(prepare(x @ w + b), target)
            for p, gradient in zip((w, b), torch.autograd.grad(loss, (w, b)), strict=True):
                p.data -= gradient
        (gradient,) = torch.autograd.grad(binary_cross_entropy_with_logits(prepare(wrong), torch.tensor([0])), wrong)
        rows.append({"the loss is given": name, "loss, 1000 steps": loss.item(), "gradient at z = 8": gradient.item()})
    return rows


def epsilon() -> Rows:
    """Article 1's ε = 1e-7 keeps log(0) away, and caps the loss of a row at −ln ε = 16.1.

    Expect both forms to agree up to z = 10; beyond, the ε form stops growing and its gradient vanishes, so that the
    worst rows teach nothing. The form on logits keeps a gradient of 1.
    """
    rows: Rows = []
    for logit in (1.0, 5.0, 10.0, 15.0, 20.0, 30.0):
        z, y = torch.tensor([logit], dtype=torch.float64, requires_grad=True), torch.tensor([0])
        exact, capped = binary_cross_entropy_with_logits(z, y), binary_cross_entropy(sigmoid(z), y)
        row = {"z of a row of class 0": logit, "loss from z": exact.item(), "loss with ε": capped.item()}
        (steep,), (flat,) = torch.autograd.grad(exact, z), torch.autograd.grad(capped, z)
        rows.append(row | {"gradient from z": steep.item(), "gradient with ε": flat.item()})
    return rows


def raw_softmax() -> Rows:
    """exp(z) / Σ exp(z) as it stands on the page, against log-sum-exp, which subtracts the largest logit first.

    Expect nan at a logit of 1,000, where exp is inf, and −inf where a probability underflows to 0 before its logarithm
    is taken. log_softmax is exact in both. The article's 1e-30 does no harm yet: float32 reaches down to 1.4e-45.
    """
    rows: Rows = []
    for logits in ([2.0, 1.0, -1.0], [1000.0, 0.0, 0.0], [0.0, -1000.0, 0.0], [0.0, -69.0, -69.0]):
        z = torch.tensor([logits])
        raw = z.exp() / z.exp().sum(dim=1, keepdim=True)
        texts = {"softmax, raw": raw, "its logarithm": raw.log(), "log_softmax": log_softmax(z)}
        rows.append({"logits": listed(z)} | {name: listed(value) for name, value in texts.items()})
    return rows


def majority_class() -> Rows:
    """190 rows of one class, 10 of the other: accuracy flatters whoever forgets the ten.

    Expect accuracy 0.95 and recall 0 from a model that always answers the majority, and training as usual to end close
    to it. Class weights give up accuracy and find nine of the ten rare rows.
    """
    x, target = overlapping()
    rows: Rows = []
    for choice in ("always the majority", "none", "balanced"):
        w, b = torch.zeros((), requires_grad=True), torch.zeros((), requires_grad=True)
        weights = class_weights("balanced" if choice == "balanced" else "none", [190, 10], num_classes=2)
        for _ in range(0 if choice == "always the majority" else 500):
            loss = binary_cross_entropy_with_logits(w * x + b, target, None if weights is None else weights[target])
            for p, gradient in zip((w, b), torch.autograd.grad(loss, (w, b)), strict=True):
                p.data -= gradient
        answers = (w * x + b > 0).long()
        scores = {"accuracy": accuracy_score(target, answers), "recall": recall_score(target, answers)}
        scores |= {"precision": precision_score(target, answers, zero_division=0), "F1": f1_score(target, answers)}
        rows.append({"class weights": choice} | scores)
    return rows


# --- autograd -------------------------------------------------------------------------------------------------------


def nudge() -> Rows:
    """W.grad[i, j] is what the loss changes by, per unit, when W[i, j] alone is nudged.

    Expect autograd's derivative, and the measured change of the loss divided by ε = 1e-6, to differ by less than 1e-6.
    """
    x, y = toy_points()
    x, nudged = x.double(), 1e-6
    W = torch.randn(3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    loss = cross_entropy(x @ W, y)
    loss.backward()
    rows: Rows = []
    for i, j in ((0, 0), (0, 1), (1, 1), (2, 0), (2, 2)):
        V = W.detach().clone()
        V[i, j] += nudged
        change = (cross_entropy(x @ V, y) - loss).item()
        gradient, ratio = W.grad[i, j].item(), change / nudged
        row = {"i": i, "j": j, "W.grad[i, j]": gradient, "change of the loss / ε": ratio}
        rows.append(row | {"difference": abs(gradient - ratio)})
    return rows


def graph() -> Rows:
    """The graph that autograd recorded, read from the loss back to W and b.

    Expect one node for each operation of the forward pass, last operation first. AccumulateGrad is where a gradient is
    added to W.grad or b.grad.
    """
    x, y = toy_points()
    W, b = torch.zeros(3, 3, requires_grad=True), torch.zeros(3, requires_grad=True)
    loss = -torch.log_softmax(x @ W + b, dim=1)[torch.arange(len(y)), y].mean()

    def below(node: torch.autograd.graph.Node, depth: int) -> Rows:
        row: dict[str, str | float] = {"node": "  " * depth + node.name().removesuffix("0").rpartition(":")[2]}
        parents = [parent for parent, _ in node.next_functions if parent is not None]
        return [row] + [deeper for parent in parents for deeper in below(parent, depth + 1)]

    return below(loss.grad_fn, 0)


def forgotten_flags() -> Rows:
    """What PyTorch does when requires_grad or no_grad is forgotten, or W is replaced instead of changed.

    Expect a loud error without requires_grad; one without no_grad where W is changed in place; none where `.data` is,
    as in the article: `.data` is the tensor without its history, so no_grad around it changes nothing. And W = W − ...
    makes a new W that is no leaf of the graph: its grad stays None, which one step later is the beginner's TypeError.
    """
    x, y = toy_points()

    def in_place(W: Tensor) -> Tensor:
        W -= 0.1 * W.grad
        return W

    def data_in_place(W: Tensor) -> Tensor:
        W.data -= 0.1 * W.grad
        W.grad.zero_()
        return W

    rows: Rows = []
    for line, requires_grad, update in (
        ("W = torch.zeros(3, 3)", False, in_place),
        ("W -= lr * W.grad", True, in_place),
        ("W.data -= lr * W.grad", True, data_in_place),
        ("W = W - lr * W.grad", True, lambda W: W - 0.1 * W.grad),
    ):
        W, losses = torch.zeros(3, 3, requires_grad=requires_grad), []
        answer = "nothing"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the warning names the same mistake: the grad of a tensor that is no leaf
            try:
                for _ in range(3):
                    loss = cross_entropy(x @ W, y)
                    losses.append(f"{loss:.4f}")
                    loss.backward()
                    W = update(W)
            except (RuntimeError, TypeError) as error:
                answer = f"{type(error).__name__}: {error}"
        rows.append({"the line": line, "losses": ", ".join(losses), "PyTorch says": answer})
    return rows


def accumulate() -> Rows:
    """Gradients add up on purpose: four batches of 75 rows, then one update, for the memory of 75 rows.

    Expect the gradient of all 300 rows, if each batch's loss counts a quarter.
    """
    x, y = toy_points()
    W = torch.zeros(3, 3, requires_grad=True)
    rows: Rows = []
    (whole,) = torch.autograd.grad(cross_entropy(x @ W, y), W)
    for number, batch in enumerate(torch.arange(300).split(75), 1):
        (cross_entropy(x[batch] @ W, y[batch]) / 4).backward()
        distance = (W.grad - whole).abs().max().item()
        rows.append({"batches added": number, "largest difference from the gradient of 300 rows": distance})
    return rows


def predict() -> Rows:
    """For an answer, no gradient and no softmax are needed.

    Expect autograd to keep memory for a backward pass that never comes, unless it is told not to; hardly any time, for
    the product takes nearly all of it; and the same answers from logits as from probabilities, since softmax keeps
    their order.
    """
    x = torch.randn(256, 10_000, generator=torch.Generator().manual_seed(0))
    W = torch.randn(10_000, 151, generator=torch.Generator().manual_seed(0), requires_grad=True)
    rows: Rows = []
    for name, enabled in (("with autograd", True), ("under no_grad", False)):
        kept: list[Tensor] = []
        hooks = torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t) or t, lambda t: t)
        with torch.set_grad_enabled(enabled), hooks:
            times = []
            for _ in range(5):
                kept.clear()
                start = time.process_time()
                logits = x @ W
                times.append(time.process_time() - start)
            size = sum(tensor.nbytes for tensor in kept) / 1e6
            same = torch.equal(logits.argmax(dim=1), log_softmax(logits).exp().argmax(dim=1))
        row = {"predicted": name, "MB kept for backward": size, "ms": 1000 * min(times)}
        rows.append(row | {"argmax of logits = of softmax": str(same)})
    return rows


# --- beside the libraries, and what stays the same ------------------------------------------------------------------


def libraries() -> Rows:
    """nn.Linear, optim.SGD and CrossEntropyLoss take the place of the lines by hand, one at a time; then scikit-learn.

    Expect no difference beyond rounding after 30 steps from the same start: the helpers are those lines. scikit-learn
    finds the optimum by another way, where the loop by hand arrives after 3,000 steps. Its C is 1 / (2 · N · l2).
    """
    x, y = toy_points()
    batches = list(shuffled(x, y, 100, epochs=10, seed=42))
    by_hand = last(train(batches, 3, 3, lr=0.5, l2=0.0, seed=42))

    def W_with(*swapped: str) -> Tensor:
        W = (torch.randn(3, 3, generator=torch.Generator().manual_seed(42)) * 0.01).requires_grad_()
        b = torch.zeros(3, requires_grad=True)
        layer = nn.Linear(3, 3)  # its weight is (K, D), ours (D, K)
        with torch.no_grad():
            layer.weight.copy_(W.T), layer.bias.zero_()
        parameters = list(layer.parameters()) if "nn.Linear" in swapped else [W, b]
        optimizer = torch.optim.SGD(parameters, lr=0.5)
        for rows, target in batches:
            logits = layer(rows) if "nn.Linear" in swapped else rows @ W + b
            loss = nn.CrossEntropyLoss() if "CrossEntropyLoss" in swapped else cross_entropy
            loss(logits, target).backward()
            if "optim.SGD" in swapped:
                optimizer.step()
            else:
                with torch.no_grad():
                    for p in parameters:
                        p -= 0.5 * p.grad
            optimizer.zero_grad()
        return layer.weight.T if "nn.Linear" in swapped else W

    names = ("nn.Linear", "optim.SGD", "CrossEntropyLoss")
    rows: Rows = []
    for swapped in (*((name,) for name in names), names):
        difference = (W_with(*swapped) - by_hand.W).abs().max().item()
        rows.append({"in place of the lines by hand": ", ".join(swapped), "largest difference of W": difference})
    l2 = 0.01
    at_optimum = last(train(shuffled(x, y, 300, epochs=3000, seed=0), 3, 3, lr=0.5, l2=l2, seed=0))
    theirs = LogisticRegression(C=1 / (2 * len(y) * l2), tol=1e-8, max_iter=1000).fit(x.numpy(), y.numpy())
    difference = (torch.tensor(theirs.coef_.T) - at_optimum.W).abs().max().item()
    rows.append({"in place of the lines by hand": "scikit-learn, one fit()", "largest difference of W": difference})
    return rows


def seed() -> Rows:
    """W starts from 0.01 · N(0, 1) and the rows come in a random order; both follow from the seed.

    Expect two runs of seed 42 to be equal to the last bit, and seed 43 to start elsewhere, take the rows in another
    order and end close by. b starts at zero in all of them.
    """
    x, y = toy_points()
    rows: Rows = []
    ends: list[Tensor] = []
    for number in (42, 42, 43):
        generator = torch.Generator().manual_seed(number)
        start = torch.randn(3, 3, generator=generator) * 0.01
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(number))[:4].tolist()
        ends.append(last(train(shuffled(x, y, 100, 10, number), 3, 3, lr=0.5, l2=0.0, seed=number)).W)
        row = {"seed": number, "W[0] at the start": listed(start[:1], 4), "first rows": ", ".join(map(str, order))}
        rows.append(row | {"end, largest difference from the first run": (ends[-1] - ends[0]).abs().max().item()})
    return rows


def shapes() -> Rows:
    """The article's tensors at its size: 256 rows, 10,000 features, 151 classes.

    Expect W.grad in the shape of W, and b, spread over 256 rows, to take no more room than b: its stride of 0 says that
    the next row is the same memory. That is broadcasting.
    """
    x = torch.randn(256, 10_000, generator=torch.Generator().manual_seed(0))
    W, b = torch.zeros(10_000, 151, requires_grad=True), torch.zeros(151, requires_grad=True)
    logits = x @ W + b
    cross_entropy(logits, torch.arange(256) % 151).backward()
    tensors = {"x": x, "W": W, "x @ W": x @ W, "b": b, "b.expand(256, 151)": b.expand(256, 151)}
    tensors |= {"x @ W + b": logits, "W.grad": W.grad, "b.grad": b.grad}
    return [
        {
            "tensor": name,
            "shape": str(tuple(t.shape)),
            "stride": str(t.stride()),
            "kB": t.untyped_storage().nbytes() / 1000,
        }
        for name, t in tensors.items()
    ]


def bias() -> Rows:
    """190 rows of one class, 10 of the other, and a strong penalty: on w alone, and on w and b.

    Expect the bias that no penalty touches to keep the share of the rare class, 0.05, where w is pressed to zero. A
    penalised bias is pulled towards 0 too, and with it every probability towards one half.
    """
    x, target = overlapping()
    rows: Rows = []
    for name, on_bias in (("w", 0.0), ("w and b", 1.0)):
        w, b = torch.zeros((), requires_grad=True), torch.zeros((), requires_grad=True)
        for _ in range(2000):
            loss = binary_cross_entropy_with_logits(w * x + b, target) + w**2 + on_bias * b**2
            for p, gradient in zip((w, b), torch.autograd.grad(loss, (w, b)), strict=True):
                p.data -= 0.3 * gradient
        mean = sigmoid(w * x + b).mean().item()
        rows.append({"penalised": name, "w": w.item(), "b": b.item(), "mean probability of the rare class": mean})
    return rows


def resampling() -> Rows:
    """The ten rare rows drawn as often as the 190 others, instead of weighing more.

    Expect an epoch with about as many rows of either class, and the recall that class weights give.
    """
    x, target = overlapping()
    balanced = class_weights("balanced", [190, 10], num_classes=2)
    assert balanced is not None
    rows: Rows = []
    for name in ("rows as they are", "class weights", "resampling"):
        w, b = torch.zeros((), requires_grad=True), torch.zeros((), requires_grad=True)
        weight = balanced[target] if name == "class weights" else None
        sampler = WeightedRandomSampler(balanced[target].tolist(), 200, generator=torch.Generator().manual_seed(0))
        for _ in range(500):
            drawn = torch.tensor(list(sampler)) if name == "resampling" else torch.arange(200)
            loss = binary_cross_entropy_with_logits(w * x[drawn] + b, target[drawn], weight)
            for p, gradient in zip((w, b), torch.autograd.grad(loss, (w, b)), strict=True):
                p.data -= gradient
        answers = (w * x + b > 0).long()
        row = {"": name, "rare rows in the last epoch": int(target[drawn].sum())}
        row |= {"accuracy": accuracy_score(target, answers), "recall": recall_score(target, answers)}
        rows.append(row | {"precision": precision_score(target, answers, zero_division=0)})
    return rows


def last_batch() -> Rows:
    """300 rows in batches of 128: min(start + 128, 300) ends the last one early.

    Expect every row once, 44 in the last batch. The mean of the three batches' losses is not the loss of all rows, for
    the last one counts too much; weighed by their rows it is.
    """
    x, y = toy_points()
    x, y = x[::7].repeat(7, 1)[:300], y[::7].repeat(7)[:300]
    W = torch.eye(3)
    rows: Rows = []
    for start in range(0, 300, 128):
        end = min(start + 128, 300)
        loss = cross_entropy(x[start:end] @ W, y[start:end]).item()
        rows.append({"batch": f"{start} to {end - 1}", "rows": end - start, "loss": loss})
    counts, losses = [float(row["rows"]) for row in rows], [float(row["loss"]) for row in rows]
    weighed = sum(n * loss for n, loss in zip(counts, losses, strict=True)) / 300
    rows.append({"batch": "mean of the three", "rows": 300, "loss": sum(losses) / 3})
    rows.append({"batch": "the same, weighed by rows", "rows": 300, "loss": weighed})
    return [*rows, {"batch": "all rows at once", "rows": 300, "loss": cross_entropy(x @ W, y).item()}]


def steepest() -> Rows:
    """A step of length 1e-4 in each of 360 directions from the same two weights: which one raises the loss most?

    Expect the direction of the gradient, to the degree, at a slope of the gradient's length; the opposite direction
    lowers it as fast, and at right angles nothing changes.
    """
    x, y = toy_points()
    x, target = x[:, :2].double(), (y == 0).long()
    w = torch.tensor([0.5, 0.5], dtype=torch.float64, requires_grad=True)
    loss = binary_cross_entropy_with_logits(x @ w, target)
    (gradient,) = torch.autograd.grad(loss, w)
    angle = torch.arange(360).deg2rad().double()
    directions = torch.stack([angle.cos(), angle.sin()], dim=1)
    nudged = torch.stack([binary_cross_entropy_with_logits(x @ (w + 1e-4 * d), target) for d in directions])
    slopes = ((nudged - loss) / 1e-4).detach()
    of_gradient = int(torch.atan2(gradient[1], gradient[0]).rad2deg().round()) % 360
    length = gradient.norm().item()
    rows: Rows = [{"direction": "of the gradient", "degrees": of_gradient, "slope": length}]
    flat = int(slopes.abs().argmin())
    for name, found in (("steepest", int(slopes.argmax())), ("flattest", flat), ("falls most", int(slopes.argmin()))):
        rows.append({"direction": f"{name} of 360", "degrees": found, "slope": slopes[found].item()})
    return rows


def xor() -> Rows:
    """Article 1's failure, whatever the optimisation: four corners at (±1, ±1), and 200 steps of plain descent.

    Expect ln 2 = 0.6931 for every rate below 8, which is 2 / the largest curvature (the Hessian at 0 is I / 4), given
    time: 0.001 has hardly left its start. Above 8 each step overshoots by more than the last: 8.1 climbs, 30 ends far
    up. No rate gets below ln 2, where every probability is one half.
    """
    x, y = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]), torch.tensor([0, 1, 1, 0])
    rows: Rows = []
    for lr in (0.001, 0.5, 7.9, 8.1, 30.0):
        generator = torch.Generator().manual_seed(0)
        w, b = torch.randn(2, generator=generator).requires_grad_(), torch.zeros((), requires_grad=True)
        losses = []
        for _ in range(200):
            loss = binary_cross_entropy_with_logits(x @ w + b, y)
            losses.append(loss.item())
            for p, gradient in zip((w, b), torch.autograd.grad(loss, (w, b)), strict=True):
                p.data -= lr * gradient
        right = int(((x @ w + b > 0).long() == y).sum())
        row = {"rate": lr} | {f"loss at step {n}": losses[n - 1] for n in (1, 10, 100, 200)}
        rows.append(row | {"right, of 4": right})
    return rows


# --- what the lessons share -----------------------------------------------------------------------------------------


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """1,297 digits to learn from, x (1297, 64) in [0, 1] and y (1297,), and 500 to validate on."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor(data.data / 16).float()[order], torch.tensor(data.target)[order]
    return x[:-500], y[:-500], x[-500:], y[-500:]


def overlapping() -> tuple[Tensor, Tensor]:
    """One feature x (200,) of 190 rows of class 0 and 10 of class 1, around 0 and 2, and their classes (200,)."""
    target = torch.tensor([0] * 190 + [1] * 10)
    return 2 * target + torch.randn(200, generator=torch.Generator().manual_seed(0)), target


def last(steps: Iterator[Step]) -> Step:
    """Train to the end."""
    *_, step = steps
    return step


def accuracy(step: Step, x: Tensor, y: Tensor) -> float:
    """Share of rows x (N, D) whose class y (N,) has the largest logit."""
    return ((x @ step.W + step.b).argmax(dim=1) == y).float().mean().item()


def gradient_error(x: Tensor, y: Tensor, size: int) -> float:
    """How far a batch's gradient at W = 0 is from that of all rows, over the latter's length; mean of 100 draws."""
    W = torch.zeros(x.shape[1], 10, requires_grad=True)

    def gradient(rows: Tensor) -> Tensor:
        return torch.autograd.grad(cross_entropy(x[rows] @ W, y[rows]), W)[0]

    exact, generator = gradient(torch.arange(len(y))), torch.Generator().manual_seed(0)
    draws = [gradient(torch.randperm(len(y), generator=generator)[:size]) for _ in range(100)]
    return torch.stack([(draw - exact).norm() / exact.norm() for draw in draws]).mean().item()


def listed(values: Tensor, decimals: int = 3) -> str:
    """A (1, K) tensor as "0.705, 0.259, 0.035"; what would round to 0 and is not, as "1e-30"."""
    small = 0.5 / 10**decimals
    return ", ".join(f"{v:.0e}" if 0 < abs(v) < small else f"{round(v, decimals):g}" for v in values[0].tolist())


LESSONS: dict[str, Callable[[], Rows]] = {
    lesson.__name__: lesson
    for lesson in (
        *(forget_to_zero, sorted_rows, init_scale, learning_rate, xor, batch_size, last_batch, l2, bias, random_labels),
        *(double_sigmoid, epsilon, raw_softmax, majority_class, resampling),
        *(nudge, steepest, graph, forgotten_flags, accumulate, predict),
        *(libraries, seed, shapes),
    )
}


def texts(values: Sequence[str | float]) -> list[str]:
    """The values of one column, in digits that a person reads: four decimals at most, and 0 only for an exact zero."""
    numbers = [value for value in values if isinstance(value, float)]
    if all(len(f"{value:g}") <= 5 for value in numbers):
        form = ",g"
    elif max(map(abs, numbers)) < 1e-3:
        form = ".0e"
    else:
        form = ",.1f" if max(map(abs, numbers)) >= 100 else ".4f"
    return [f"{value:{form}}" if isinstance(value, float) and value else str(value or 0) for value in values]


def show(rows: Rows) -> None:
    """Print a lesson's table."""
    table = Table()
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    for name, values in columns.items():
        table.add_column(escape(name), justify="left" if isinstance(values[0], str) else "right")
    for row in zip(*(texts(values) for values in columns.values()), strict=True):
        table.add_row(*map(escape, row))
    Console().print(table)


def main() -> None:
    """Run the lesson that the command line names, or list them all."""
    torch.set_num_threads(1)  # the tensors are small; threads would wait for each other
    parser = argparse.ArgumentParser(prog="python -m examples.lessons")
    parser.add_argument("lesson", nargs="?", choices=LESSONS, metavar="LESSON")
    name = parser.parse_args().lesson
    if name is None:
        for title, lesson in LESSONS.items():
            print(f"{title:16} {(lesson.__doc__ or '').splitlines()[0]}")
    else:
        print((LESSONS[name].__doc__ or "").replace("\n    ", "\n").rstrip())
        show(LESSONS[name]())


if __name__ == "__main__":
    main()
