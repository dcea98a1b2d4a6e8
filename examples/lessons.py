"""Break logistic regression on purpose: each lesson is one command, one expectation, and what happened.

    python -m examples.lessons                  # lists the lessons
    python -m examples.lessons forget_to_zero   # runs one, in seconds, without a network

The arithmetic is article 2's loop (examples/from_scratch.py) and the formulas of logreg/functional.py. The data is made
up, or scikit-learn's 1,797 handwritten digits of 8 x 8 pixels.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score
from torch import Tensor

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
    """Step 5 left out: `backward` adds each gradient to the sum of all before it, and W follows that sum.

    Expect the loss to fall at first, faster than with zeroing, then to swing back up to where it began, and so on for
    ever. It does not end in NaN: a softmax gradient is bounded, so W overshoots like a pendulum without friction.
    """
    x, y = toy_points()

    def losses(zero: bool) -> list[float]:
        W, found = torch.zeros(3, 3, requires_grad=True), []
        for _ in range(1000):
            loss = cross_entropy(x @ W, y)
            loss.backward()
            found.append(loss.item())
            with torch.no_grad():
                W -= 0.1 * W.grad
            if zero:
                W.grad.zero_()
        return found

    zeroed, piled_up = losses(zero=True), losses(zero=False)
    steps = (1, 10, 100, 200, 300, 500, 1000)
    return [{"step": n, "loss, zeroed": zeroed[n - 1], "loss, not zeroed": piled_up[n - 1]} for n in steps]


def sorted_rows() -> Rows:
    """No shuffling on rows sorted by class: batch after batch of zeros, then of ones, and so on to the nines.

    Expect a model that has half forgotten the first classes and answers the last one too often: of 500 held-out digits
    48 are nines.
    """
    x, y, x_val, y_val = digits()
    order = y.argsort(stable=True)
    x, y = x[order], y[order]
    in_order = [(x[rows], y[rows]) for _ in range(10) for rows in torch.arange(len(y)).split(32)]
    rows: Rows = []
    for name, batches in (("shuffled", shuffled(x, y, 32, epochs=10, seed=0)), ("sorted", in_order)):
        step = last(train(batches, 64, 10, lr=0.5, l2=0.0, seed=0))
        answers = (x_val @ step.W + step.b).argmax(dim=1)
        right = (answers == y_val).float().mean().item()
        rows.append({"order": name, "validation accuracy": right, "answers 9": int((answers == 9).sum())})
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
    noise. In five epochs many poor steps get further than five exact ones, and take far longer.
    """
    x, y, x_val, y_val = digits()
    rows: Rows = []
    for size, lr in ((len(y), 0.5), (256, 0.5), (1, 0.1)):
        start = time.process_time()  # of this process alone, whatever else the machine does
        *_, step = steps = list(train(shuffled(x, y, size, epochs=5, seed=0), 64, 10, lr, l2=0.0, seed=0))
        seconds = time.process_time() - start
        row = {"rows in a batch": size, "gradient's error": gradient_error(x, y, size), "steps": len(steps)}
        row |= {"ms a step": 1000 * seconds / len(steps), "s in all": seconds}
        rows.append(row | {"validation accuracy": accuracy(step, x_val, y_val)})
    return rows


def l2() -> Rows:
    """The penalty l2 · ΣW², off, right and far too large, on 200 digits of which every fifth has a wrong label.

    Expect the model without a penalty to learn the wrong labels by heart and to fail on new rows; with 0.003 to get
    fewer training rows "right" and more new ones; with 1 to answer at random, because W is pressed to zero.
    """
    x, y, x_val, y_val = digits()
    x, y = x[:200], y[:200].clone()
    y[::5] = torch.randint(10, (40,), generator=torch.Generator().manual_seed(0))
    rows: Rows = []
    for strength, lr in ((0.0, 2.0), (0.003, 2.0), (1.0, 0.45)):  # 2 · lr · l2 must stay below 1
        step = last(train(shuffled(x, y, 200, epochs=1000, seed=0), 64, 10, lr, strength, seed=0))
        row = {"l2": strength, "mean |W|": step.mean_weight, "training accuracy": accuracy(step, x, y)}
        rows.append(row | {"validation accuracy": accuracy(step, x_val, y_val)})
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
    is taken. log_softmax is exact in both.
    """
    rows: Rows = []
    for logits in ([2.0, 1.0, -1.0], [1000.0, 0.0, 0.0], [0.0, -1000.0, 0.0]):
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
    target = torch.tensor([0] * 190 + [1] * 10)
    x = 2 * target + torch.randn(200, generator=torch.Generator().manual_seed(0))  # the classes overlap
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

    Expect the last two columns to agree to five digits: autograd's derivative, and the measured change of the loss
    divided by ε = 1e-6.
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
        rows.append({"i": i, "j": j, "W.grad[i, j]": W.grad[i, j].item(), "change of the loss / ε": change / nudged})
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
    """What PyTorch says when requires_grad or no_grad is forgotten.

    Expect two errors, neither of them silent.
    """
    x, y = toy_points()

    def without_requires_grad() -> None:
        cross_entropy(x @ torch.zeros(3, 3), y).backward()

    def without_no_grad() -> None:
        W = torch.zeros(3, 3, requires_grad=True)
        cross_entropy(x @ W, y).backward()
        W -= 0.1 * W.grad

    rows: Rows = []
    for forgotten, step in (("requires_grad", without_requires_grad), ("no_grad", without_no_grad)):
        try:
            step()
            answer = "nothing"
        except RuntimeError as error:
            answer = str(error)
        rows.append({"forgotten": forgotten, "PyTorch says": answer})
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

    Expect autograd to keep memory for a backward pass that never comes, unless it is told not to; and the same answers
    from logits as from probabilities, since softmax keeps their order.
    """
    x, _, _, _ = digits()
    W = torch.randn(64, 10, generator=torch.Generator().manual_seed(0), requires_grad=True)
    rows: Rows = []
    for name, enabled in (("with autograd", True), ("under no_grad", False)):
        kept: list[Tensor] = []
        hooks = torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t) or t, lambda t: t)
        with torch.set_grad_enabled(enabled), hooks:
            logits = x @ W
            same = torch.equal(logits.argmax(dim=1), log_softmax(logits).exp().argmax(dim=1))
        size = sum(tensor.nbytes for tensor in kept) / 1000
        rows.append({"predicted": name, "kB kept for backward": size, "argmax of logits = of softmax": str(same)})
    return rows


# --- what the lessons share -----------------------------------------------------------------------------------------


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """1,297 digits to learn from, x (1297, 64) in [0, 1] and y (1297,), and 500 to validate on."""
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    x, y = torch.tensor(data.data / 16).float()[order], torch.tensor(data.target)[order]
    return x[:-500], y[:-500], x[-500:], y[-500:]


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


def listed(values: Tensor) -> str:
    """A (1, K) tensor as "0.705, 0.259, 0.035"."""
    return ", ".join(f"{value:.3g}" for value in values[0].tolist())


LESSONS: dict[str, Callable[[], Rows]] = {
    lesson.__name__: lesson
    for lesson in (
        *(forget_to_zero, sorted_rows, init_scale, learning_rate, batch_size, l2, random_labels),
        *(double_sigmoid, epsilon, raw_softmax, majority_class),
        *(nudge, graph, forgotten_flags, accumulate, predict),
    )
}


def show(rows: Rows) -> None:
    """Print a lesson's table."""
    table = Table(*map(escape, rows[0]))
    for row in rows:
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else escape(str(value)) for value in row.values()))
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
