# %% [markdown]
# # Logistic regression, by hand
#
# Two articles teach logistic regression line by line: a practice page (article 1, sections 1 to 10 here) and "Every
# Line Explained" (article 2, sections 11 to 20). Here you write it: each function has a cell, and `check` compares it
# with torch's or scikit-learn's. Say what you expect before you run a cell; that is where the learning is. Each section
# ends with an exercise whose cell runs at once and says what is missing, and an answer that is folded away.
#
# This file needs nothing beside it: it runs in Colab, in an empty folder, or as a script, in a minute on two cores. Two
# cells go further, with the modules of the project and all of CLINC150. They pass where there is no checkout.

# %%
import importlib.util
import logging
import math
import os
import subprocess
import sys
import warnings
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

if importlib.util.find_spec("lightning") is None:  # in Colab
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "lightning"], check=True)

import lightning as L
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from sklearn import datasets, linear_model, metrics, multiclass, preprocessing
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import train_test_split
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

CHECKOUT = next((f for f in (Path.cwd(), *Path.cwd().parents) if (f / "logreg/softmax.py").is_file()), None)
if CHECKOUT:
    sys.path.insert(0, str(CHECKOUT))
torch.set_num_threads(1)  # the tensors are small; threads would wait for each other
BLUE, ORANGE, GREEN, PINK, RED = COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00")  # Okabe and Ito's
plt.rcParams.update({"figure.figsize": (7, 3.6), "figure.dpi": 100, "figure.constrained_layout.use": True})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False})
plt.rcParams.update({"axes.titlelocation": "left", "axes.prop_cycle": plt.cycler(color=COLOURS)})
warnings.filterwarnings("ignore", message=".*non-interactive.*")  # as a script without a screen
warnings.filterwarnings("ignore", message=".*Sparse CSR.*")
print("checkout found" if CHECKOUT else "no checkout: two cells will be passed over")

# %% [markdown]
# `check(yours, theirs, *inputs)` calls both with the same inputs, and compares value and gradient. Run the cell; how it
# works can wait.


# %%
def check(yours, theirs, *inputs, tolerance=1e-5, name=None):
    """Say whether two functions, or two values, agree, or else what is off with the first."""
    print(f"{name or getattr(yours, '__name__', 'your value')}: {verdict(yours, theirs, inputs, tolerance)}")


def verdict(yours, theirs, inputs, tolerance):
    try:
        found, slopes = evaluate(yours, inputs)
    except Exception as error:  # of code that is being written: any
        return f"stops with {type(error).__name__}: {error}"
    if found is None:
        return "nothing there yet; write it, and run the cell again"
    expected, right_slopes = evaluate(theirs, inputs)
    off = difference(found, expected, tolerance)
    if off:
        return off
    if slopes is None and right_slopes is not None:
        return "the value is right, but no gradient comes through"
    for slope, right_slope in zip(slopes or (), right_slopes or (), strict=False):
        if off := difference(slope, right_slope, tolerance):
            return f"the value is right, but the gradient {off}"
    furthest = max((found - expected).abs().max().item(), 1e-6)
    return f"right, within {furthest:.0e}" + (", and so is its gradient" if right_slopes else "")


def evaluate(function, inputs):
    copies = [x.clone().requires_grad_(x.is_floating_point()) if torch.is_tensor(x) else x for x in inputs]
    value = function(*copies) if callable(function) else function
    if value is None or value is ...:
        return None, None
    value = torch.as_tensor(value)
    sources = [x for x in copies if torch.is_tensor(x) and x.requires_grad]
    slopes = None
    if callable(function) and value.requires_grad:
        weights = torch.linspace(1, 2, value.numel()).reshape(value.shape)  # a plain sum hides errors that cancel
        slopes = [g.double() for g in torch.autograd.grad((value * weights).sum(), sources, materialize_grads=True)]
    return value.detach().double(), slopes


def difference(a, b, tolerance):
    """What is off with `a`, or nothing."""
    if a.shape != b.shape:
        return f"has the shape {tuple(a.shape)}, where {tuple(b.shape)} is right"
    wrong = ~torch.isclose(a, b, rtol=tolerance, atol=tolerance, equal_nan=True)
    if not wrong.any():
        return ""
    if torch.allclose(a, -b, rtol=tolerance, atol=tolerance):
        return "has the wrong sign"
    ratio = (a / b)[b.abs() > tolerance]
    if len(ratio) > 0 and torch.allclose(a, ratio[0] * b, rtol=1e-4, atol=tolerance):
        whole = abs(ratio[0] - ratio[0].round()) < 1e-4  # of one number, any ratio is constant
        if len(ratio) > 1 or (whole and ratio[0] > 1):
            return f"is {ratio[0]:.4g} times what it should be" + (" (a sum, where a mean is right?)" if whole else "")
    if a.numel() > 1 and torch.allclose(a - b, (a - b).flatten()[0], rtol=1e-3):
        return f"is off by {(a - b).flatten()[0]:.4g} everywhere"
    where = tuple(wrong.nonzero()[0].tolist())
    return f"is {a[where]:.4g} where {b[where]:.4g} is right" + (f", at {list(where)}" if where else "")


# %% [markdown]
# ## 1. The points
#
# Look at the data before any model. Two species of Iris, versicolor and virginica, by the length and width of a petal:
# fifty flowers each, 70 to learn from and 30 to be judged on. The columns are standardised by the 70 alone, to mean 0
# and standard deviation 1, so that one learning rate suits both.
#
# **Predict.** Can a ruler part the two species without an error?

# %%
iris = datasets.load_iris()
chosen = iris.target > 0
petals, species = iris.data[chosen][:, 2:], iris.target[chosen] - 1
raw_train, raw_test, y_train, y_test = train_test_split(petals, species, test_size=30, stratify=species, random_state=0)


def standardise(x, rows):
    return (x - rows.mean(axis=0)) / rows.std(axis=0)


check(standardise, lambda x, rows: preprocessing.StandardScaler().fit(rows).transform(x), raw_test, raw_train)
x, x_test = (torch.tensor(standardise(rows, raw_train)).float() for rows in (raw_train, raw_test))
y, y_test = torch.tensor(y_train), torch.tensor(y_test)
for number, (name, mark) in enumerate((("versicolor", "o"), ("virginica", "^"))):
    plt.plot(*raw_train[y_train == number].T, mark, label=name, alpha=0.7)
plt.title("They overlap: no line parts them without an error")
plt.xlabel("petal length (cm)")
plt.ylabel("petal width (cm)")
plt.legend()
plt.show()

# %% [markdown]
# **Exercise.** A rule without learning: virginica where the petal is longer than 4.9 cm. How many of the 70 rows does
# it get right? Compute the share from `raw_train` and `y_train`.

# %%
share = None  # yours

check(share, ((raw_train[:, 0] > 4.9) == y_train).mean(), name="share")

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# share = ((raw_train[:, 0] > 4.9).astype(int) == y_train).mean()
# ```
#
# Some nine of ten. A model has to beat that.
#
# </details>

# %% [markdown]
# ## 2. The sigmoid
#
# A linear score z = wᵀx + b runs from −∞ to ∞; a probability does not. Its odds p / (1 − p) run from 0 to ∞, and the
# logarithm of the odds from −∞ to ∞: so let z be the log-odds. Solved for p, z = log(p / (1 − p)) is p = 1 / (1 +
# exp(−z)), the sigmoid, and a weight w means that one unit more of x multiplies the odds by exp(w). It is no arbitrary
# choice: between two bell curves of equal width the log-odds are exactly linear in x.
#
# **Predict.** exp(100) is infinite in float32. Does the formula as it is written survive z = −100? Does its gradient?


# %%
def sigmoid_as_written(z):
    return 1 / (1 + torch.exp(-z))


def sigmoid(z):  # exp(−log(1 + exp(−z))), whose inner part logaddexp computes without overflow
    return torch.exp(-torch.logaddexp(torch.zeros_like(z), -z))


z = torch.tensor([-100.0, -1.0, 0.0, 1.0, 80.0])
check(sigmoid_as_written, torch.sigmoid, z)
check(sigmoid, torch.sigmoid, z)
print(f"σ(−2) = {sigmoid(torch.tensor(-2.0)):.4f}, σ(0) = {sigmoid(torch.tensor(0.0)):.4f}")

line = torch.linspace(-6, 6, 200)
plt.plot(line, sigmoid(line), label="σ(z)")
plt.plot(line, sigmoid(line) * (1 - sigmoid(line)), "--", label="its slope")
plt.title("The sigmoid turns log-odds into a probability, most steeply at 0")
plt.xlabel("z, the log-odds")
plt.legend()
plt.show()

# %% [markdown]
# **Exercise.** Write the sigmoid's slope from its value alone, and the inverse of the sigmoid.


# %%
def slope(z): ...


def log_odds(p): ...


check(slope, lambda z: torch.autograd.functional.jacobian(torch.sigmoid, z).diag(), torch.tensor([-3.0, 0.0, 2.0]))
check(log_odds, torch.logit, torch.tensor([0.1, 0.5, 0.9]))

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def slope(z):
#     return sigmoid(z) * (1 - sigmoid(z))
#
# def log_odds(p):
#     return torch.log(p / (1 - p))
# ```
#
# The slope is 1/4 at z = 0 and falls to 0 on both sides. Where the model is sure, a change of z hardly changes p; the
# logarithm in the loss makes up for it.
#
# </details>

# %% [markdown]
# ## 3. Likelihood, and the loss
#
# Which w and b are the best? Those under which the labels that were seen are the most likely. Rows are independent, so
# their probabilities multiply: the product of p for rows of class 1 and 1 − p for the others. A product of many small
# numbers underflows, so take its logarithm, which is a sum; turn the sign and divide by N, and it is a loss to
# minimise, binary cross-entropy. Article 1 adds ε = 1e-7 inside the logarithm; written on the logit, log(1 + exp(z)) −
# y·z, the same loss needs no ε.
#
# **Predict.** A row of class 0 with z = 30 is a confident error. What does it cost with ε, and what on logits?


# %%
def bce(p, y, eps=1e-7):
    return -(y * torch.log(p + eps) + (1 - y) * torch.log(1 - p + eps)).mean()


def bce_with_logits(z, y):
    return (torch.logaddexp(torch.zeros_like(z), z) - y * z).mean()


p, zero_one = torch.tensor([0.9, 0.2, 0.6]), torch.tensor([1.0, 0.0, 1.0])
check(bce, lambda p, y: F.binary_cross_entropy(p, y.float()), p, zero_one.long())
check(bce_with_logits, lambda z, y: F.binary_cross_entropy_with_logits(z, y.float()), z[1:4] * 9, zero_one.long())
likelihood = torch.where(zero_one == 1, p, 1 - p).prod()
print(f"likelihood {likelihood:.4f}, −log of it / 3 = {-likelihood.log() / 3:.4f}, bce = {bce(p, zero_one):.4f}")

line = torch.linspace(-5, 30, 200, dtype=torch.float64)
on_logits, with_eps = (
    [f(v, torch.tensor(0.0)).item() for v in s] for f, s in ((bce_with_logits, line), (bce, sigmoid(line)))
)
print(f"at z = 30: {on_logits[-1]:.2f} on logits, {with_eps[-1]:.2f} with ε")
plt.plot(line, on_logits, label="on logits")
plt.plot(line, with_eps, "--", label="on probabilities, ε = 1e-7")
plt.title("ε caps the loss of a row, and flattens its gradient")
plt.xlabel("logit z of a row of class 0")
plt.ylabel("loss of the row")
plt.legend()
plt.show()

# %% [markdown]
# **Exercise** (article 1's first). `forward` was made for `bce`, on probabilities. Now the loss is `bce_with_logits`.
# What has to change?


# %%
def forward(rows, w, b):
    return sigmoid(rows @ w + b)  # yours


def loss_of(w, b):
    return bce_with_logits(forward(x, w, b), y)


w0, b0 = torch.tensor([1.0, 2.0]), torch.tensor(0.5)
check(loss_of, lambda w, b: F.binary_cross_entropy_with_logits(x @ w + b, y.float()), w0, b0)

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def forward(rows, w, b):
#     return rows @ w + b
# ```
#
# The sigmoid must go: `bce_with_logits` has one inside, and a second sigmoid never gives more than σ(1) = 0.73. Call
# `sigmoid` only where you want a probability. In the project, `python -m examples.lessons double_sigmoid` trains with
# both.
#
# </details>

# %% [markdown]
# ## 4. The module, trained
#
# The model is one linear layer inside an `nn.Module`; `forward` returns logits. Training repeats: predict, measure the
# loss, step against its gradient. With the loss on probabilities a sigmoid comes in between, and training ends at the
# same weights. A small penalty l2 · Σw² gives the loss one lowest point, which scikit-learn finds in another way; its C
# is 1 / (2 · N · l2).
#
# **Predict.** w and b start at zero. What is the first loss?


# %%
class LogisticRegression(nn.Module):
    def __init__(self, in_features):
        super().__init__()
        self.linear = nn.Linear(in_features, 1)
        nn.init.zeros_(self.linear.weight), nn.init.zeros_(self.linear.bias)

    def forward(self, rows):
        return self.linear(rows).squeeze(-1)  # (N, D) to logits (N,)


def descend(model, rows, target, lr=1.0, steps=300, l2=0.001, loss_of=bce_with_logits):
    """Plain descent on all rows at once; the loss before each step."""
    losses = []
    for _ in range(steps):
        loss = loss_of(model(rows), target)
        losses.append(loss.item())
        objective = loss + l2 * sum((p**2).sum() for name, p in model.named_parameters() if "bias" not in name)
        for p, gradient in zip(
            model.parameters(), torch.autograd.grad(objective, list(model.parameters())), strict=True
        ):
            p.data -= lr * gradient
    return losses


model = LogisticRegression(2)
losses = descend(model, x, y, steps=3000)
theirs = linear_model.LogisticRegression(C=1 / (2 * len(y) * 0.001), tol=1e-8).fit(x, y)
check(model.linear.weight, theirs.coef_, tolerance=1e-3, name="weights, beside scikit-learn")
on_probabilities = LogisticRegression(2)
descend(on_probabilities, x, y, steps=3000, loss_of=lambda z, y: bce(sigmoid(z), y))
check(
    on_probabilities.linear.weight, model.linear.weight, tolerance=1e-4, name="weights from the loss on probabilities"
)
print(f"first loss {losses[0]:.4f}, after 300 steps {losses[299]:.4f}, after 3,000 {losses[-1]:.4f}")
print(f"test: loss {bce_with_logits(model(x_test), y_test):.4f}, right {((model(x_test) > 0) == y_test).sum()} of 30")

judged, on_test = LogisticRegression(2), []
on_train = []
for _ in range(100):
    on_test.append(bce_with_logits(judged(x_test), y_test).item())
    on_train += descend(judged, x, y, steps=1)
plt.plot(on_train, label="70 training rows")
plt.plot(on_test, "--", label="30 test rows")
plt.title("The loss falls fast, then slowly; the test rows follow")
plt.xlabel("step")
plt.ylabel("loss")
plt.ylim(0, 0.72)
plt.legend()
plt.show()

# %% [markdown]
# **Exercise.** By which factor do the odds of virginica rise where the petal is one standard deviation wider?

# %%
factor = None  # yours, from model.linear.weight

check(factor, math.exp(model.linear.weight[0, 1].item()), name="factor")

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# factor = model.linear.weight[0, 1].exp().item()
# ```
#
# The logit rises by w, so the odds are multiplied by exp(w).
#
# </details>

# %% [markdown]
# ## 5. The boundary
#
# Ask the model on a grid of 200 × 200 points and colour each by its probability. The border is where p = 0.5, that is
# z = 0: a straight line. Rows between the dotted lines, with p from 0.25 to 0.75, are uncertain and drawn hollow.
#
# **Predict.** Are the lines for 0.25, 0.5 and 0.75 parallel?


# %%
def boundary(ax, ask, rows, target, title, marks="o^s"):
    """Colour the plane by `ask`, a function of points (N, 2) to probabilities of class 1 (N,), and draw the rows."""
    low, high = rows.min(0).values - 0.6, rows.max(0).values + 0.6
    grid = torch.meshgrid(*(torch.linspace(a, b, 200) for a, b in zip(low, high, strict=True)), indexing="xy")
    with torch.no_grad():
        p = ask(torch.stack(grid, dim=-1).reshape(-1, 2)).reshape(200, 200)
        at_rows = ask(rows)
    ax.contourf(*grid, p, levels=[0, 0.25, 0.5, 0.75, 1], colors=["#a6cfe8", "#dcecf6", "#fbefd5", "#f5d48c"])
    ax.contour(*grid, p, levels=[0.25, 0.5, 0.75], colors="black", linestyles=["dotted", "solid", "dotted"])
    for number, colour in enumerate((BLUE, ORANGE)):
        for sure in (True, False):
            of = (target == number) & (((at_rows - 0.5).abs() > 0.25) == sure)
            ax.plot(*rows[of].T, marks[number], color=colour, mfc=colour if sure else "white", ms=6)
    ax.set_title(title)


_, ax = plt.subplots(figsize=(6, 4))
boundary(ax, lambda points: sigmoid(model(points)), x, y, "Versicolor or virginica: sure outside the dotted lines")
ax.set(xlabel="petal length, standardised", ylabel="petal width, standardised")
plt.show()
unsure = ((sigmoid(model(x)) - 0.5).abs() < 0.25).sum()
print(f"{unsure} of {len(y)} training rows have a probability between 0.25 and 0.75")

# %% [markdown]
# **Exercise.** Solve w₁x₁ + w₂x₂ + b = 0 for x₂: the border as a function of x₁.

# %%
w, b = model.linear.weight[0].detach(), model.linear.bias.detach()


def border(x1): ...


def logit_at_border(x1):
    return None if border(x1) is None else w[0] * x1 + w[1] * border(x1) + b


check(logit_at_border, lambda x1: x1 * 0, torch.arange(-2.0, 2.0))

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def border(x1):
#     return -(w[0] * x1 + b) / w[1]
# ```
#
# Twice w and twice b give the same line, but every logit doubles: the dotted lines move closer to the solid one.
#
# </details>

# %% [markdown]
# ## 6. The learning rate
#
# The rate is the length of a step. Too small, and training crawls; right, and it arrives; too large, and each step
# jumps over the lowest point and lands further up. A bowl of curvature c can be descended with any rate below 2 / c,
# and the largest curvature decides.
#
# **Predict.** Rates of 0.01, 1 and 300: which ends where, after 60 steps?

# %%
for lr, style in ((0.01, ":"), (1.0, "-"), (300.0, "--")):
    fate = descend(LogisticRegression(2), x, y, lr=lr, steps=60)
    plt.plot(fate, style, label=f"rate {lr:g}")
    end = "still jumping" if max(fate[-10:]) > 2 * min(fate[-10:]) else f"at the end {fate[-1]:.3f}"
    print(f"rate {lr:5g}: loss {fate[0]:.3f}, then {fate[1]:.3f}, {end}")
plt.title("Three fates: it crawls, it arrives, it jumps")
plt.xlabel("step")
plt.ylabel("loss")
plt.legend()
plt.show()

# %% [markdown]
# **Exercise.** At w = 0 the Hessian of the loss is xᵀx / (4 · N). Up to which rate is a step from there stable?

# %%
highest_rate = None  # yours: 2 / the largest eigenvalue

curvatures = torch.linalg.eigvalsh(
    torch.autograd.functional.hessian(lambda w: bce_with_logits(x @ w, y), torch.zeros(2))
)
check(highest_rate, 2 / curvatures.max(), tolerance=1e-3, name="highest_rate")

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# highest_rate = 2 / torch.linalg.eigvalsh(x.T @ x / (4 * len(x))).max()
# ```
#
# Some 4. Away from w = 0 the curvature is smaller, since σ is flat there, so that even 30 jumps once and then arrives.
#
# </details>

# %% [markdown]
# ## 7. One-vs-all
#
# Three species need three logits, each of one species against the other two; the largest of the three probabilities
# wins. Each classifier has a line of its own. Versicolor lies between the others, so no line parts it from the rest,
# and its classifier is never sure. The argmax does not need it to be.
#
# **Predict.** Versicolor's own classifier is wrong for many rows. How many of the 150 will the three together miss?

# %%
x3 = torch.tensor(preprocessing.StandardScaler().fit_transform(iris.data[:, 2:])).float()
y3 = torch.tensor(iris.target)
trio = []
for number in range(3):
    one = LogisticRegression(2)
    descend(one, x3, (y3 == number).long(), lr=2.0, steps=3000)
    trio.append(one)


def one_vs_all(rows):
    return torch.stack([sigmoid(one(rows)) for one in trio], dim=1).argmax(dim=1)


theirs = multiclass.OneVsRestClassifier(linear_model.LogisticRegression(C=1 / (2 * 150 * 0.001), tol=1e-8)).fit(x3, y3)
check(one_vs_all, lambda rows: theirs.predict(rows.detach().numpy()), x3)
for number, one in enumerate(trio):
    right = ((one(x3) > 0) == (y3 == number)).float().mean()
    print(f"{iris.target_names[number]:10} against the rest: right for {right:.3f} of the rows")
print(f"the largest of the three: {(one_vs_all(x3) == y3).float().mean():.3f}")

_, ax = plt.subplots(figsize=(6, 4))
low, high = x3.min(0).values - 0.3, x3.max(0).values + 0.3
grid = torch.meshgrid(*(torch.linspace(a, b, 300) for a, b in zip(low, high, strict=True)), indexing="xy")
points = torch.stack(grid, dim=-1).reshape(-1, 2)
ax.contourf(*grid, one_vs_all(points).reshape(300, 300), levels=[-0.5, 0.5, 1.5, 2.5], colors=COLOURS[:3], alpha=0.25)
for number, (one, mark) in enumerate(zip(trio, "o^s", strict=True)):
    ax.contour(*grid, one(points).detach().reshape(300, 300), levels=[0], colors=COLOURS[number], linestyles="dashed")
    ax.plot(*x3[y3 == number].T, mark, color=COLOURS[number], ms=4, label=iris.target_names[number])
ax.set(
    xlabel="petal length, standardised",
    ylabel="petal width, standardised",
    title="Each dashed line is one classifier's own 0.5",
)
ax.legend(loc="upper left")
plt.show()

# %% [markdown]
# **Exercise.** The three probabilities of a row do not sum to 1. Make them, as scikit-learn does.


# %%
def normalised(rows): ...


check(normalised, lambda rows: theirs.predict_proba(rows.detach().numpy()), x3, tolerance=1e-3)

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def normalised(rows):
#     p = torch.stack([sigmoid(one(rows)) for one in trio], dim=1)
#     return p / p.sum(dim=1, keepdim=True)
# ```
#
# They sum to 1, but nobody trained them to be right together. Softmax, section 11, does.
#
# </details>

# %% [markdown]
# ## 8. XOR
#
# The class is 1 where exactly one of two coordinates is positive. No line puts these two corners on one side. The loss
# is a bowl over the weights, and its lowest point is at w = 0, where every probability is 0.5 and the loss is ln 2 =
# 0.6931. The curvature there is 1/4, so every rate below 2 / (1/4) = 8 gets there, given time.
#
# **Predict.** Rates of 0.5, 7.9, 8.1 and 30: which end at ln 2, which climb?

# %%
corners, odd = torch.tensor([[-1.0, -1], [-1, 1], [1, -1], [1, 1]]), torch.tensor([0, 1, 1, 0])
_, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
for lr, style in ((0.5, "-"), (7.9, ":"), (8.1, "--"), (30.0, "-.")):
    xor = LogisticRegression(2)
    xor.linear.weight.data = torch.tensor([[1.0, -0.5]])
    fate = descend(xor, corners, odd, lr=lr, steps=200, l2=0)
    right.semilogy(np.clip(np.array(fate) - math.log(2), 1e-7, None), style, label=f"rate {lr:g}")
    print(f"rate {lr:4g}: first loss {fate[0]:.4f}, after 100 steps {fate[99]:.4f}, after 200 {fate[-1]:.4f}")
right.set(title="Below a rate of 8: to ln 2", xlabel="step", ylabel="loss − ln 2")
right.legend(loc="center right")

w = torch.linspace(-3, 3, 61)
surface = torch.tensor([[bce_with_logits(corners @ torch.stack([w1, w2]), odd) for w1 in w] for w2 in w])
lines = left.contour(w, w, surface, levels=[0.7, 0.75, 0.85, 1, 1.2, 1.5], colors=BLUE)
left.clabel(lines, fmt="%.2f")
left.plot(0, 0, "k+", ms=12)
left.annotate("ln 2", (0, 0), xytext=(6, 6), textcoords="offset points")
left.set(title="A bowl, lowest where w = 0", xlabel="w₁", ylabel="w₂", aspect="equal")
plt.show()

# %% [markdown]
# **Exercise** (article 1's second). Report loss and accuracy on XOR, and explain them: what is the gradient of the loss
# at w = 0, as a formula over the corners, and what is its value?

# %%
gradient_at_zero = None  # yours, from corners and odd

at_zero = torch.zeros(2, requires_grad=True)
check(
    gradient_at_zero, torch.autograd.grad(bce_with_logits(corners @ at_zero, odd), at_zero)[0], name="gradient_at_zero"
)

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# gradient_at_zero = corners.T @ (0.5 - odd) / 4
# ```
#
# It is 0: every corner has an opposite corner of the same class, so the terms cancel. The loss is convex, so where the
# gradient is 0 it is lowest, at ln 2. Accuracy is no measurement here: all probabilities are 0.5, and rounding decides
# on which side each corner falls. 0.25, 0.5 and 0.75 all occur; no line gets all four right.
#
# </details>

# %% [markdown]
# ## 9. The cure
#
# The model is linear in the columns it is given, so give it another column: x₁·x₂ parts the corners, and the border
# becomes a curve. Or stack two linear layers with a bend between them, and the first one finds such columns by itself.
# The loop is the same.
#
# **Predict.** Will the weight of x₁·x₂ be positive or negative?

# %%
torch.manual_seed(1)
cloud = corners.repeat_interleave(25, 0) + 0.25 * torch.randn(100, 2)
cloud_y = odd.repeat_interleave(25)


def with_product(rows):
    return torch.cat([rows, rows[:, :1] * rows[:, 1:]], dim=1)


class MLP(nn.Module):
    def __init__(self, in_features, hidden=8):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(in_features, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, rows):
        return self.layers(rows).squeeze(-1)


check(
    with_product,
    lambda rows: preprocessing.PolynomialFeatures(interaction_only=True, include_bias=False).fit_transform(
        rows.detach()
    ),
    cloud,
)
product, network = LogisticRegression(3), MLP(2)
descend(product, with_product(cloud), cloud_y, lr=1.0, steps=500)
descend(network, cloud, cloud_y, lr=1.0, steps=1000)
print("weights of x₁, x₂ and x₁·x₂:", [round(value, 2) for value in product.linear.weight[0].tolist()])
for name, logits in (("one more column", product(with_product(cloud))), ("one more layer", network(cloud))):
    print(f"{name}: {((logits > 0) == cloud_y).sum()} of 100 right")
_, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
boundary(left, lambda points: sigmoid(product(with_product(points))), cloud, cloud_y, "One more column, x₁·x₂")
boundary(right, lambda points: sigmoid(network(points)), cloud, cloud_y, "One more layer")
left.set(xlabel="x₁", ylabel="x₂"), right.set(xlabel="x₁", ylabel="x₂")
plt.show()

# %% [markdown]
# **Exercise.** How many numbers does each of the three models have: the line, the line with x₁·x₂, the network?

# %%
sizes = [None, None, None]  # yours

counts = [sum(p.numel() for p in m.parameters()) for m in (model, product, network)]
check(None if None in sizes else sizes, counts, name="sizes")

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# sizes = [2 + 1, 3 + 1, 2 * 8 + 8 + 8 + 1]
# ```
#
# One well-chosen column is worth thirty weights. The weight of x₁·x₂ is negative, since a positive product means equal
# signs, and that is class 0.
#
# </details>

# %% [markdown]
# ## 10. Imbalance
#
# 190 rows of one class, 10 of the other: a model that forgets the ten is right for 95 of 100, so accuracy flatters it.
# Recall, the share of the rare rows that is found, does not. Weights N / (K · count) in the loss make both classes add
# up to the same; drawing the rare rows more often is another way to the same end.
#
# **Predict.** What will the weights do to accuracy, and what to recall?

# %%
rare = torch.tensor([0] * 190 + [1] * 10)
score = (2 * rare + torch.randn(200, generator=torch.Generator().manual_seed(0)))[:, None]


def balanced(target):
    counts = target.bincount()
    return len(target) / (len(counts) * counts)


check(balanced, lambda target: compute_class_weight("balanced", classes=np.array([0, 1]), y=target.numpy()), rare)
answers = {"always the majority": torch.zeros(200).long()}
for name, weight in (("no weights", torch.ones(2)), ("balanced weights", balanced(rare))):
    w, b = torch.zeros(1, requires_grad=True), torch.zeros(1, requires_grad=True)
    for _ in range(500):
        loss = F.binary_cross_entropy_with_logits(score @ w + b, rare.float(), weight[rare])
        for p, gradient in zip((w, b), torch.autograd.grad(loss, (w, b)), strict=True):
            p.data -= gradient
    answers[name] = (score @ w + b > 0).long()
for name, said in answers.items():
    (precision, recall, f1, _) = metrics.precision_recall_fscore_support(rare, said, average="binary", zero_division=0)
    print(
        f"{name:20} accuracy {(said == rare).float().mean():.3f}  precision {precision:.3f}",
        f" recall {recall:.3f}  F1 {f1:.3f}",
    )

# %% [markdown]
# **Exercise.** Write precision, recall and F1 of class 1 from the labels and the answers.


# %%
def precision_recall_f1(target, said): ...


def by_scikit_learn(target, said):
    return metrics.precision_recall_fscore_support(target, said, average="binary")[:3]


check(precision_recall_f1, by_scikit_learn, rare, answers["balanced weights"])

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def precision_recall_f1(target, said):
#     found = ((target == 1) & (said == 1)).sum()
#     precision, recall = found / (said == 1).sum(), found / (target == 1).sum()
#     return [precision, recall, 2 * precision * recall / (precision + recall)]
# ```
#
# </details>

# %% [markdown]
# ## 11. Softmax
#
# With K classes a row has K logits. exp makes them positive, and dividing by their sum makes them add up to 1; the
# order stays. exp(1000) is infinite and ∞ / ∞ is nan, so subtract the largest logit first: a constant cancels in the
# fraction, and the largest term is then exp(0) = 1. The logarithm of softmax, written that way, is exact wherever
# float32 is.
#
# **Predict.** The logits are 2, 1 and −1. The probabilities?


# %%
def softmax_as_written(z):
    return torch.exp(z) / torch.exp(z).sum(dim=1, keepdim=True)


def log_softmax(z):
    shifted = z - z.max(dim=1, keepdim=True).values
    return shifted - torch.log(torch.exp(shifted).sum(dim=1, keepdim=True))


logits = torch.tensor([[2.0, 1.0, -1.0]])
print("exp    ", [round(value, 3) for value in logits.exp()[0].tolist()])
print("softmax", [round(value, 4) for value in log_softmax(logits).exp()[0].tolist()])
print("argmax of logits", logits.argmax().item(), "and of probabilities", log_softmax(logits).exp().argmax().item())
check(softmax_as_written, lambda z: torch.softmax(z, dim=1), torch.tensor([[2.0, 1.0, -1.0], [1000.0, 0.0, 0.0]]))
check(log_softmax, lambda z: torch.log_softmax(z, dim=1), torch.tensor([[2.0, 1.0, -1.0], [1000.0, 0.0, -1000.0]]))

# %% [markdown]
# **Exercise.** From which logit on does exp overflow in float32, whose largest number is `torch.finfo().max`?

# %%
largest_logit = None  # yours

check(largest_logit, 88.7228, tolerance=1e-3, name="largest_logit")

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# largest_logit = math.log(torch.finfo(torch.float32).max)
# ```
#
# A model does not get there by training long, for logits grow like the logarithm of the number of steps. Columns that
# are not scaled, pixels from 0 to 255 or prices, or a huge rate get there in one step.
#
# </details>

# %% [markdown]
# ## 12. Cross-entropy
#
# The loss of a row is −log p of its class. An index picks these out of the matrix: from row 0 the column of its class,
# from row 1 the column of its class, and so on. A probability of 0.9 costs 0.105, one of 0.001 costs 6.908; the curve
# is steep where a model is sure and wrong.
#
# **Predict.** A model that knows nothing gives each of 10 classes 1/10. What is its loss?


# %%
def cross_entropy(z, target):
    return -log_softmax(z)[torch.arange(len(target)), target].mean()


some_logits = torch.tensor([[2.0, 1.0, -1.0], [0.0, 3.0, 0.0], [1.0, 1.0, 1.0]])
some_classes = torch.tensor([0, 1, 2])
check(cross_entropy, F.cross_entropy, some_logits, some_classes)
picked = log_softmax(some_logits)[torch.arange(3), some_classes]
print("log p of the true class", [round(value, 4) for value in picked.tolist()], f"mean of −log p {-picked.mean():.4f}")
print(f"−log 0.9 = {-math.log(0.9):.3f}, −log 0.001 = {-math.log(0.001):.3f}")
print(f"nothing known: {cross_entropy(torch.zeros(5, 10), torch.arange(5)):.4f}, and ln 10 = {math.log(10):.4f}")
p = torch.linspace(0.001, 1, 300)
plt.plot(p, -p.log())
plt.title("A confident error costs without end")
plt.xlabel("probability of the true class")
plt.ylabel("loss of the row")
plt.show()

# %% [markdown]
# **Exercise.** Two lines differ by one index. This one compares every row with every other row's class. Mend it.


# %%
def mended(z, target):
    return -log_softmax(z)[:, target].mean()  # yours


check(mended, F.cross_entropy, some_logits, some_classes)

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def mended(z, target):
#     return -log_softmax(z)[torch.arange(len(z)), target].mean()
# ```
#
# `[:, target]` takes all rows for each column of `target`: N × N numbers, and a mean that looks harmless.
#
# </details>

# %% [markdown]
# ## 13. The gradient
#
# In three lines. The loss of a row is log Σₖ exp(zₖ) − z_y. Its derivative by zₖ is exp(zₖ) / Σ exp − [k = y], that is
# pₖ − [k = y]: what was predicted less what was true, P − Y with Y the true classes as rows of zeros and a one. Since
# z = xᵀW, every weight Wᵢₖ gets xᵢ times that, and the mean over rows is Xᵀ(P − Y) / N. Autograd records each operation
# and applies the chain rule backwards; it arrives at the same numbers, in W.grad, in the shape of W.
#
# **Predict.** Nudge one weight by 0.001. By how much does the loss change?

# %%
data = datasets.load_digits()
order = torch.randperm(1797, generator=torch.Generator().manual_seed(0))
digits, digit = torch.tensor(data.data / 16).float()[order], torch.tensor(data.target)[order]
X, Y, X_val, Y_val = digits[:1297], digit[:1297], digits[1297:], digit[1297:]


def gradient_by_hand(W, b):
    P = log_softmax(X @ W + b).exp()
    return X.T @ (P - F.one_hot(Y, 10)) / len(X)


W = (torch.randn(64, 10, generator=torch.Generator().manual_seed(42)) * 0.01).requires_grad_()
b = torch.zeros(10, requires_grad=True)
loss = cross_entropy(X @ W + b, Y)
loss.backward()
check(gradient_by_hand(W, b), W.grad, name="gradient_by_hand")
for name, tensor in (("X", X), ("W", W), ("X @ W", X @ W), ("b", b), ("X @ W + b", X @ W + b), ("W.grad", W.grad)):
    print(f"{name:10} {tuple(tensor.shape)}")
print(f"b for each of 1,297 rows has the stride {b.expand(1297, 10).stride()}: the next row is the same memory")
nudged = W.detach().clone()
nudged[20, 3] += 0.001
change = (cross_entropy(X @ nudged + b, Y) - loss).item()
print(f"the nudge changes the loss by {change:.7f}, and W.grad · 0.001 is {W.grad[20, 3] * 0.001:.7f}")
node, recorded = loss.grad_fn, []
while node is not None:
    recorded.append(node.name())
    node = node.next_functions[0][0] if node.next_functions else None
print("recorded, from the loss back:", ", ".join(name.removesuffix("Backward0") for name in recorded))

# %% [markdown]
# **Exercise.** Write the gradient of b.


# %%
def gradient_of_b(W, b): ...


check(
    gradient_of_b,
    lambda W, b: torch.autograd.functional.jacobian(lambda b: cross_entropy(X @ W + b, Y), b),
    W.detach(),
    b.detach(),
)

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def gradient_of_b(W, b):
#     return (log_softmax(X @ W + b).exp() - F.one_hot(Y, 10)).mean(dim=0)
# ```
#
# The x of a bias is 1. At the optimum this is 0: each class is predicted, on average, as often as it occurs.
#
# </details>

# %% [markdown]
# ## 14. Steepest
#
# Why step against the gradient and not some other way? Take steps of the same tiny length in all 360 directions of a
# plane of two weights, and measure by how much each raises the loss. The slope in a direction is the gradient's length
# times the cosine of the angle between the two, so nothing rises faster than along the gradient, and nothing falls
# faster than against it.
#
# **Predict.** In which directions does the loss not change at all?

# %%
rows, labels = x.double(), y
w = torch.tensor([0.3, -0.4], dtype=torch.float64, requires_grad=True)
(g,) = torch.autograd.grad(bce_with_logits(rows @ w, labels), w)
angles = torch.arange(360).deg2rad().double()
directions = torch.stack([angles.cos(), angles.sin()], dim=1)
base = bce_with_logits(rows @ w, labels)
slopes = torch.stack([(bce_with_logits(rows @ (w + 1e-5 * d), labels) - base) / 1e-5 for d in directions]).detach()
of_gradient = math.degrees(math.atan2(g[1], g[0])) % 360
print(f"steepest of 360: {slopes.argmax()} degrees, slope {slopes.max():.4f}")
print(f"the gradient:    {of_gradient:.0f} degrees, length {g.norm():.4f}")
plt.plot(range(360), slopes)
plt.axhline(0, color="grey", lw=0.8)
plt.axvline(of_gradient, color=ORANGE, ls="--")
plt.annotate("the gradient", (of_gradient, 0), xytext=(5, 5), textcoords="offset points", color="#9a6a00")
plt.axvline((of_gradient + 180) % 360, color=GREEN, ls="--")
plt.annotate("against it", ((of_gradient + 180) % 360, 0), xytext=(5, 5), textcoords="offset points", color=GREEN)
plt.title("The gradient is the steepest of 360 directions")
plt.xlabel("direction of the step in the plane of w₁ and w₂, degrees")
plt.ylabel("change of the loss per length")
plt.show()

# %% [markdown]
# **Exercise.** Write the slope in a direction d of length 1 from the gradient g alone.


# %%
def slope_in(d): ...


check(slope_in, lambda d: (slopes[30], slopes[200]), directions[[30, 200]], tolerance=1e-3)

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def slope_in(d):
#     return d @ g
# ```
#
# </details>

# %% [markdown]
# ## 15. The six steps
#
# Shuffle, forward, loss, backward, update, zero: this is the loop of article 2, on 1,297 handwritten digits of 8 × 8
# pixels. The settings are a dataclass: it writes `__init__`, `__repr__` and `==` by itself, and unlike a named tuple
# its fields can be set. nn.Linear, optim.SGD and CrossEntropyLoss are the same lines under other names. A column of W
# is the prototype of a class, and x @ W compares a row with all of them: violet pixels speak for the digit, orange ones
# against it.
#
# **Predict.** What do the loss, the size of W and the size of the gradient do, up or down?


# %%
@dataclass
class Config:
    lr: float = 0.5
    epochs: int = 20
    batch_size: int = 32
    l2_lambda: float = 1e-4
    seed: int = 42


def train(X, Y, classes, config):
    """Yield W, b, the loss and the mean |gradient of W| after each epoch."""
    gen = torch.Generator().manual_seed(config.seed)
    W = (torch.randn(X.shape[1], classes, generator=gen) * 0.01).requires_grad_()
    b = torch.zeros(classes, requires_grad=True)
    for _ in range(config.epochs):
        for rows in torch.randperm(len(Y), generator=gen).split(config.batch_size):  # 1. shuffle; the last is smaller
            logits = X[rows] @ W + b  # 2. forward
            loss = cross_entropy(logits, Y[rows]) + config.l2_lambda * (W**2).sum()  # 3. loss, without the bias
            loss.backward()  # 4. backward
            size = W.grad.abs().mean().item()  # before it is zeroed
            with torch.no_grad():  # 5. update
                W -= config.lr * W.grad
                b -= config.lr * b.grad
            W.grad.zero_()  # 6. zero
            b.grad.zero_()
        yield W.detach().clone(), b.detach().clone(), loss.item(), size


print(Config(), "equal to another of the same values:", Config() == Config())
epochs = list(train(X, Y, 10, Config()))
for number in (1, 2, 5, 10, 20):
    W, b, loss, size = epochs[number - 1]
    right = ((X_val @ W + b).argmax(1) == Y_val).float().mean()
    print(
        f"epoch {number:2}  loss {loss:.4f}  mean |W| {W.abs().mean():.4f}  mean |grad| {size:.5f}  right {right:.3f}"
    )

layer, gen = nn.Linear(64, 10), torch.Generator().manual_seed(42)
nn.init.zeros_(layer.bias), layer.weight.data.copy_(torch.randn(64, 10, generator=gen).T * 0.01)
optimizer = torch.optim.SGD(
    [{"params": [layer.weight], "weight_decay": 2 * Config.l2_lambda}, {"params": [layer.bias]}], lr=0.5
)
for _ in range(20):
    for rows in torch.randperm(len(Y), generator=gen).split(32):
        nn.CrossEntropyLoss()(layer(X[rows]), Y[rows]).backward()
        optimizer.step()
        optimizer.zero_grad()
check(layer.weight.T, W, tolerance=1e-4, name="nn.Linear, optim.SGD and CrossEntropyLoss")

figure, axes = plt.subplots(2, 6, figsize=(9, 3), width_ratios=[3, 1, 1, 1, 1, 1])
for ax in axes[:, 0]:
    ax.remove()
curve = figure.add_subplot(axes[0, 0].get_gridspec()[:, 0])
for name, style, rows, labels in (("training", "-", X, Y), ("validation", "--", X_val, Y_val)):
    curve.plot(range(1, 21), [cross_entropy(rows @ W + b, labels).item() for W, b, *_ in epochs], style, label=name)
curve.set(title="The loss falls", xlabel="epoch", ylim=(0, None))
curve.legend()
limit = W.abs().max()
for number, ax in enumerate(axes[:, 1:].flat):
    ax.imshow(W[:, number].reshape(8, 8), cmap="PuOr", vmin=-limit, vmax=limit)
    ax.set_title(f"W for {number}", fontsize=9)
    ax.axis("off")
plt.show()

# %% [markdown]
# **Exercise.** Gradients that add up are useful where memory is short: get the gradient of 1,200 rows from four batches
# of 300, at V = 0.

# %%
V = torch.zeros(64, 10, requires_grad=True)
for batch in torch.arange(1200).split(300):
    cross_entropy(X[batch] @ V, Y[batch]).backward()  # almost

(whole,) = torch.autograd.grad(cross_entropy(X[:1200] @ V, Y[:1200]), V)
check(V.grad, whole, name="V.grad")

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# V = torch.zeros(64, 10, requires_grad=True)
# for batch in torch.arange(1200).split(300):
#     (cross_entropy(X[batch] @ V, Y[batch]) / 4).backward()
# ```
#
# Each batch counts a quarter. This is why `backward` adds to `.grad` instead of replacing it.
#
# </details>

# %% [markdown]
# ## 16. Forgetting to zero
#
# Leave out step 6, and every update uses the sum of all gradients so far, like a ball that never loses speed. It does
# not end in nan: a row's gradient of W is x (p − y)ᵀ, never longer than √2 times the row. What happens depends on the
# rows.
#
# **Predict.** All points at once; batches of 10; the digits in batches of 32: which swings, which grows, which arrives?

# %%
clusters = torch.arange(3).repeat(100)
spread = 3 * torch.eye(3)[clusters] + torch.randn(300, 3, generator=torch.Generator().manual_seed(0))


def without_zeroing(X, Y, size, epochs):
    W, losses, gen = torch.zeros(X.shape[1], int(Y.max()) + 1, requires_grad=True), [], torch.Generator().manual_seed(0)
    for _ in range(epochs):
        of_epoch = 0.0
        for rows in torch.randperm(len(Y), generator=gen).split(size):
            loss = cross_entropy(X[rows] @ W, Y[rows])
            loss.backward()
            of_epoch += loss.item() * len(rows) / len(Y)
            W.data -= 0.1 * W.grad
        losses.append(of_epoch)
    return losses, W.detach()


fates = {
    "all at once: it swings": without_zeroing(spread, clusters, 300, 1000)[0],
    "batches of 10: it grows": without_zeroing(spread, clusters, 10, 200)[0],
    "digits, which planes part: it arrives": without_zeroing(X, Y, 32, 100)[0],
}
for ax, (name, fate) in zip(plt.subplots(1, 3, figsize=(10, 3))[1], fates.items(), strict=True):
    ax.plot(range(1, len(fate) + 1), fate)
    ax.set(title=name, xlabel="epoch", ylim=(0, None))
    ax.title.set_fontsize(10)
    last = np.mean(fate[-len(fate) // 10 :])
    end = "near 0" if last < 0.01 else "more than five times its start" if last > 5 * fate[0] else "in between"
    print(f"{name:40} epoch 1 {fate[0]:.3f}, lowest {min(fate):.3f}, last tenth {end}")
plt.show()

# %% [markdown]
# **Exercise.** Ten updates without zeroing are ten updates of an optimizer that zeroes and has one more argument.
# Which?

# %%
V = torch.zeros(3, 3, requires_grad=True)
optimizer = torch.optim.SGD([V], lr=0.1)  # yours: one more argument
for _ in range(10):
    optimizer.zero_grad()
    cross_entropy(spread @ V, clusters).backward()
    optimizer.step()

check(V, without_zeroing(spread, clusters, 300, 10)[1], name="V")

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# V = torch.zeros(3, 3, requires_grad=True)
# optimizer = torch.optim.SGD([V], lr=0.1, momentum=1)
# for _ in range(10):
#     optimizer.zero_grad()
#     cross_entropy(spread @ V, clusters).backward()
#     optimizer.step()
# ```
#
# Momentum of 0.9 forgets a tenth of its speed at each step, and is useful. Momentum of 1 forgets nothing.
#
# </details>

# %% [markdown]
# ## 17. The penalty
#
# l2 · ΣW² is added to the loss, so that a weight has to be worth its size. Here every fifth of 200 digits has a wrong
# label. Without a penalty the model learns the wrong labels by heart; with a suitable one it gets fewer training rows
# and more new rows right. The bias is left out: it shifts the border and memorises nothing.
#
# **Predict.** With l2 = 1 all weights are pressed to zero, and the bias is left. What will the model answer?

# %%
few, noisy = X[:200], Y[:200].clone()
noisy[::5] = torch.randint(10, (40,), generator=torch.Generator().manual_seed(0))
strengths, shares = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0), []
for l2 in strengths:
    rate = min(2.0, 0.45 / l2) if l2 else 2.0  # 2 · lr · l2 must stay below 1
    W, b, *_ = list(train(few, noisy, 10, Config(lr=rate, epochs=1000, batch_size=200, l2_lambda=l2)))[-1]
    said = (X_val @ W + b).argmax(1)
    shares.append((((few @ W + b).argmax(1) == noisy).float().mean(), (said == Y_val).float().mean()))
    if l2 in (0, 3e-3, 1):
        print(
            f"l2 {l2:5g}: mean |W| {W.abs().mean():.4f}, right: training {shares[-1][0]:.3f}, new {shares[-1][1]:.3f};",
            end=" ",
        )
        print(f"commonest answer {said.mode().values}, given {said.bincount().max()} times of 500")
print(f"commonest training label {noisy.mode().values}, {noisy.bincount().max()} of 200")
for name, style, values in zip(
    ("200 training rows", "500 new rows"), ("-o", "--s"), zip(*shares, strict=True), strict=True
):
    plt.plot(range(len(strengths)), values, style, label=name)
plt.xticks(range(len(strengths)), [f"{l2:g}" for l2 in strengths])
plt.title("Too little learns errors by heart, too much leaves the bias")
plt.xlabel("l2")
plt.ylabel("share that is right")
plt.legend()
plt.show()

# %% [markdown]
# **Exercise.** In scikit-learn the strength is called C, and a large C is a weak penalty. Which C belongs to l2 = 0.003
# on 200 rows?

# %%
C = None  # yours

check(C, 1 / (2 * 200 * 0.003), name="C")

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# C = 1 / (2 * 200 * 0.003)
# ```
#
# scikit-learn adds up the losses of all rows instead of taking their mean, halves the penalty, and puts the factor
# before the loss.
#
# </details>

# %% [markdown]
# ## 18. Under Lightning
#
# The same lines as a LightningModule, with the article's file names as comments. The Trainer takes over the loop around
# the steps: epochs, devices, checkpoints, curves. Manual optimization leaves steps 4 to 6 to us. On the same batches it
# ends where the loop by hand ends, and in a checkout also where the production module `logreg/softmax.py` does.
#
# **Predict.** Which of the six steps is not in the module?


# %%
class ArticleModule(L.LightningModule):
    """Softmax regression of X (N, n_features) on classes y (N,), updated by hand; l2_lambda · ΣW² spares b."""

    def __init__(self, n_features: int, n_classes: int, lr: float = 0.1, l2_lambda: float = 1e-4, seed: int = 42):
        super().__init__()
        self.save_hyperparameters()  # config.py
        self.automatic_optimization = False  # steps 4 to 6 are written out below
        gen = torch.Generator().manual_seed(seed)  # init.py
        self.W = nn.Parameter(torch.randn(n_features, n_classes, generator=gen) * 0.01)
        self.b = nn.Parameter(torch.zeros(n_classes))

    def forward(self, X: Tensor) -> Tensor:  # forward.py: (N, D) to logits (N, K)
        return X @ self.W + self.b

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:  # train_loop.py
        X, y = batch  # 1. shuffle: the DataLoader draws the rows in a new order each epoch
        log_probs = torch.log_softmax(self(X), dim=1)  # 2. forward, and softmax_intuition.py
        loss = -log_probs[torch.arange(len(y)), y].mean()  # 3. loss: cross_entropy.py
        loss = loss + self.hparams.l2_lambda * (self.W**2).sum()  # and l2_penalty.py
        self.log("train/objective", loss)
        self.manual_backward(loss)  # 4. backward
        with torch.no_grad():  # 5. update
            self.W -= self.hparams.lr * self.W.grad
            self.b -= self.hparams.lr * self.b.grad
        self.W.grad = self.b.grad = None  # 6. zero

    def predict_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:  # predict.py
        return self(batch[0]).argmax(dim=1)

    def configure_optimizers(self) -> list:  # none: the update is step 5
        return []


# %%
from torch.utils.data import DataLoader

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # Lightning lists the devices at every fit ...
warnings.filterwarnings("ignore", module="lightning")  # ... and advises worker processes
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}


class SameBatches:
    """The batches that `train` draws from the same seed, for a fair comparison."""

    def __init__(self, config):
        gen = torch.Generator().manual_seed(config.seed)
        torch.randn(64, 10, generator=gen)  # those of W
        parts = [torch.randperm(len(Y), generator=gen).split(config.batch_size) for _ in range(config.epochs)]
        self.batches = [(X[rows], Y[rows]) for epoch in parts for rows in epoch]


def fitted(module):
    loader = DataLoader(SameBatches(Config(epochs=5)).batches, batch_size=None)
    L.Trainer(max_epochs=1, accelerator="cpu", **QUIET).fit(module, loader)
    return module


by_hand = list(train(X, Y, 10, Config(epochs=5)))[-1][0]
article = fitted(ArticleModule(64, 10, lr=0.5, l2_lambda=1e-4, seed=42))
check(article.W, by_hand, tolerance=1e-6, name="ArticleModule")

# %%
if CHECKOUT:  # goes further: the project's own module
    from logreg.softmax import SoftmaxRegression

    production = fitted(SoftmaxRegression(64, 10, lr=0.5, l2=1e-4, seed=42))
    check(production.W.dense(), by_hand, tolerance=1e-6, name="SoftmaxRegression")
else:
    print("passed over: needs a checkout of the project")

# %% [markdown]
# **Exercise.** `predict_step` answers with classes. Write the accuracy of the module on rows and their classes.


# %%
def accuracy(rows, target): ...


check(
    accuracy,
    lambda rows, target: metrics.accuracy_score(target, (rows @ article.W + article.b).argmax(1)),
    X_val,
    Y_val,
)

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def accuracy(rows, target):
#     return (article.predict_step([rows], 0) == target).float().mean().detach()
# ```
#
# Step 1, the shuffling, is the DataLoader's: `DataLoader(..., shuffle=True)`.
#
# </details>

# %% [markdown]
# ## 19. A sentence becomes a row
#
# Text becomes numbers by counting: a column for each word, and how often it occurs in the sentence. A word that is in
# most sentences says little, so each count is multiplied by ln((1 + N) / (1 + df)) + 1, with df the number of sentences
# that have the word; then the row is scaled to length 1. That is TF-IDF. From there on everything is as before: a
# column of W fills with the vocabulary of its intent.
#
# **Predict.** Which words will have the largest weights for `book_flight`?

# %%
SENTENCES = """book_flight: book me a flight to tokyo | book_flight: i need a flight from boston to paris
book_flight: find me a cheap flight | weather: will it rain in boston | weather: how warm is it in paris today
weather: is there rain or snow today | alarm: wake me up at seven | alarm: set an alarm for six
alarm: i need an alarm at seven | translate: how do you say thanks in spanish | translate: translate hello to french
translate: what is the spanish word for rain"""
pairs = [line.strip().split(": ") for line in SENTENCES.replace("\n", "|").split("|")]
intents = sorted({intent for intent, _ in pairs})
texts, intent = [text for _, text in pairs], torch.tensor([intents.index(name) for name, _ in pairs])
vocabulary = sorted({word for text in texts for word in text.split()})


def tfidf(sentences):
    counts = torch.tensor([[text.split().count(word) for word in vocabulary] for text in sentences]).double()
    df = torch.tensor([sum(word in text.split() for text in texts) for word in vocabulary])
    rows = counts * (torch.log((1 + len(texts)) / (1 + df)) + 1)
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)


theirs = TfidfVectorizer(token_pattern=r"\S+").fit(texts)
check(tfidf, lambda sentences: theirs.transform(sentences).toarray(), texts)
rows = tfidf(texts).float()
*_, (W, b, _, _) = train(rows, intent, len(intents), Config(lr=5.0, epochs=300, batch_size=12, l2_lambda=1e-3))
for number, name in enumerate(intents):
    best = W[:, number].topk(4)
    print(f"{name:12}", ", ".join(f"{vocabulary[i]} {value:.1f}" for value, i in zip(*best, strict=True)))
new = "find me a flight to boston"
p = log_softmax(tfidf([new]).float() @ W + b).exp()[0]
print(f"{new!r} is {intents[p.argmax()]}, with p = {p.max():.3f}")

row = rows[0]
there = row.nonzero().flatten()
plt.figure(figsize=(7, 2.6))
plt.barh([vocabulary[i] for i in there], row[there])
plt.title(f"“{texts[0]}”: {len(there)} of {len(vocabulary)} columns are not 0")
plt.xlabel("TF-IDF; the rarer the word, the larger")
plt.show()

# %% [markdown]
# The next cell takes all of CLINC150, 150 intents of a voice assistant and "none of them", and 10,000 columns: W has
# 1.5 million numbers. It is found in the folder that the environment variable `CLINC150_DIR` names, or else downloaded.
# Article 2's rate of 0.1 is far too small here: a row has length 1, spread over some 13 n-grams, and its gradient over
# 151 classes.

# %%
if CHECKOUT:  # goes further: the project's datamodule, and data from outside
    from datamodules.text.clinc150 import CLINC150DataModule
    from datamodules.text.features import Ngrams
    from logreg.softmax import SoftmaxRegression

    os.chdir(CHECKOUT)
    words = Ngrams(ngram_range=(1, 2), max_features=10_000, sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    clinc150 = CLINC150DataModule(words=words, stratified_batches=True, feature_dropout=0.3)
    L.seed_everything(42, verbose=False)
    clinc150.setup("fit")
    model150 = SoftmaxRegression(
        clinc150.num_features, clinc150.num_classes, lr=100, l2=1e-7, oos_class=clinc150.oos_class
    )
    L.Trainer(max_epochs=8, accelerator="cpu", limit_val_batches=0, **QUIET).fit(model150, clinc150)
    (measured,) = L.Trainer(accelerator="cpu", **QUIET).test(model150, clinc150, verbose=False)
    print(
        f"W {tuple(model150.W.dense().shape)};",
        f"in-scope accuracy on 4,500 test sentences {measured['test/in_scope_accuracy']:.3f}",
    )
    above_average = model150.W.dense().detach() - model150.W.dense().detach().mean(dim=1, keepdim=True)
    for name in ("book_flight", "weather", "translate", "alarm"):
        best = above_average[:, clinc150.class_names.index(name)].topk(5).indices
        print(f"{name:12}", ", ".join(clinc150.feature_names[i] for i in best))
    clinc150.predict_inputs = ["book me a flight to Tokyo"]
    p = model150.predict_proba(clinc150.dataset("predict")[0].x)[0]
    print(f"{clinc150.predict_inputs[0]!r} is {clinc150.class_names[p.argmax()]}, with p = {p.max():.3f}")
else:
    print("passed over: needs a checkout of the project")

# %% [markdown]
# **Exercise.** A sentence of words that no training sentence had: what is its row, and so its logits?

# %%
logits_of_unknown = None  # yours

check(logits_of_unknown, tfidf(["qwertz uiop"])[0].float() @ W + b, name="logits_of_unknown")

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# logits_of_unknown = b
# ```
#
# The row is all zeros, so the bias answers: the model falls back on what is common. "None of them" has to be noticed by
# a threshold on p, next section.
#
# </details>

# %% [markdown]
# ## 20. The impartial judge
#
# One accuracy hides which classes fail, how sure the errors were, and what to do about it. Per class: precision, the
# share of its answers that are right, and recall, the share of its rows that are found. Calibration: of the answers
# given with p near 0.7, seven of ten should be right. A threshold: leave the unsure rows to a person, and see what the
# rest is worth. All on rows that took no part in training.
#
# **Predict.** A model trained for 20 epochs with a tiny penalty: too sure of itself, or not sure enough?

# %%
W, b, *_ = epochs[-1]
P = log_softmax(X_val @ W + b).exp()
sure, said = P.max(dim=1)
right = said == Y_val


def recalls(target, said):
    return torch.stack([(said[target == k] == k).double().mean() for k in range(10)])


check(recalls, lambda target, said: metrics.recall_score(target, said, average=None), Y_val, said)
precisions = metrics.precision_score(Y_val, said, average=None)
for k in (1, 8, 9):
    print(f"digit {k}: precision {precisions[k]:.3f}, recall {recalls(Y_val, said)[k]:.3f}, {(Y_val == k).sum()} rows")
print(f"accuracy {right.float().mean():.3f}, mean of the largest p {sure.mean():.3f}")

_, (left, middle) = plt.subplots(1, 2, figsize=(9, 3.6))
edges = torch.tensor([0.0, 0.5, 0.7, 0.85, 0.95, 1.0001])
for low, high in pairwise(edges):
    of = (sure >= low) & (sure < high)
    n, share = int(of.sum()), right[of].float().mean().item()
    left.errorbar(sure[of].mean(), share, yerr=math.sqrt(share * (1 - share) / n), fmt="o", color=BLUE)
    left.annotate(f"{n}", (sure[of].mean(), share), xytext=(6, -5), textcoords="offset points")
left.plot([0.3, 1], [0.3, 1], color="grey", lw=0.8)
left.set(
    title="Calibration, with rows in each bin",
    xlabel="mean p of the answers",
    ylabel="share that is right",
    ylim=(0, 1.05),
)
thresholds = torch.linspace(0, 0.99, 100)
kept = [sure >= t for t in thresholds]
middle.plot([k.float().mean() * 100 for k in kept], [right[k].float().mean() * 100 for k in kept])
at = sure >= 0.8
middle.plot(at.float().mean() * 100, right[at].float().mean() * 100, "o", color=RED)
middle.annotate(
    "p ≥ 0.8", (at.float().mean() * 100, right[at].float().mean() * 100), xytext=(6, 6), textcoords="offset points"
)
middle.set(title="The fewer it answers, the more are right", xlabel="answered, %", ylabel="of these right, %")
plt.show()
print(f"with p of at least 0.8: {at.float().mean():.3f} answered, {right[at].float().mean():.3f} of these right")

# %% [markdown]
# **Exercise.** Brier's score is the mean squared distance of p from the truth. Write it for "is it an 8?".


# %%
def brier(truth, p): ...


check(brier, lambda truth, p: metrics.brier_score_loss(truth, p.detach()), (Y_val == 8).long(), P[:, 8])

# %% [markdown]
# <details><summary>Answer</summary>
#
# ```python
# def brier(truth, p):
#     return ((p - truth) ** 2).mean()
# ```
#
# Like cross-entropy it is smallest for honest probabilities; unlike it, no single error costs more than 1.
#
# </details>
