# %% [markdown]
# # Logistic regression, by hand
#
# Two articles teach logistic regression line by line: a practice page (article 1, sections 1 to 10 here) and "Every
# Line Explained" (article 2, sections 11 to 18). This notebook runs every step of both with the functions of this
# project. Each section has an idea, the code, something to look at, and an exercise whose answer is folded away.
#
# It runs from top to bottom in half a minute on two cores. Only the last two sections need data from outside,
# CLINC150: they take it from the folder that the environment variable `CLINC150_DIR` names, or else download it once.
#
# This page is made from `examples/logistic_regression.py`; `python -m tests.tools.notebook` makes it anew.

# %%
import logging
import os
import sys
import tempfile
import time
import warnings
from functools import partial
from pathlib import Path

import lightning as L
import matplotlib.pyplot as plt
import torch
from IPython.display import Image, display
from torch import Tensor

ROOT = next(folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "train.py").is_file())
os.chdir(ROOT)
sys.path.insert(0, str(ROOT))
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)  # Lightning lists the devices at every fit ...
warnings.filterwarnings("ignore")  # ... and advises several worker processes, which rows in memory do not need
torch.set_num_threads(1)  # the tensors are small; threads would wait for each other
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


def fit(model: L.LightningModule, data: L.LightningDataModule, epochs: int, **options) -> None:
    """What `python train.py fit` does, without its run directory."""
    L.Trainer(max_epochs=epochs, enable_checkpointing=False, **QUIET | options).fit(model, data)


def measure(model: L.LightningModule, data: L.LightningDataModule, *names: str) -> None:
    """Print some of what `python train.py test` measures."""
    (metrics,) = L.Trainer(**QUIET).test(model, data, verbose=False)
    print(", ".join(f"{name} {metrics[f'test/{name}']:.4f}" for name in names))


# %% [markdown]
# ## 1. The sigmoid
#
# The sigmoid σ(z) = 1 / (1 + exp(−z)) turns a score z, the logit, into the probability of class 1. In float32,
# exp(100) is already infinite. The value survives that, for 1 / ∞ = 0, but the gradient does not: it is ∞ · 0, which
# is nan. `logreg.functional.sigmoid` computes the same number in a form in which nothing overflows.

# %%
from logreg.functional import sigmoid

z = torch.tensor([-100.0, -1.0, 0.0, 100.0], requires_grad=True)
for name, formula in (("as written", lambda z: 1 / (1 + torch.exp(-z))), ("ours", sigmoid)):
    proba = formula(z)
    (gradient,) = torch.autograd.grad(proba.sum(), z)
    print(f"{name:11} σ(z) {proba.detach()}")
    print(f"{'':11} σ'(z) {gradient}")

# %% [markdown]
# **Exercise.** σ'(z) is largest at z = 0. What is it there, and what does that mean for a row the model is sure
# about?
#
# <details><summary>Answer</summary>
#
# σ'(z) = σ(z) · (1 − σ(z)), which is 1/4 at z = 0 and falls to 0 on both sides. Where the model is sure, a change of
# the logit hardly changes the probability. The logarithm in the loss makes up for it: the gradient of −log σ(z) is
# σ(z) − 1.
#
# </details>

# %% [markdown]
# ## 2. Binary cross-entropy, with ε and on logits
#
# A row costs the negative logarithm of the probability that the model gave to the true class. Article 1 adds ε = 1e-7
# inside the logarithm, so that log(0) never happens; that caps the cost of a row at 16.12, and flattens the curve
# there. The same loss written on the logit, log(1 + exp(z)) − y·z, needs no ε and stays exact.

# %%
from logreg.functional import binary_cross_entropy, binary_cross_entropy_with_logits

logits = torch.linspace(-5, 30, 200, dtype=torch.float64)
wrong = torch.zeros(1)  # each of these rows is of class 0, so a large logit is a confident error
with_epsilon = [binary_cross_entropy(sigmoid(z[None]), wrong).item() for z in logits]
on_logits = [binary_cross_entropy_with_logits(z[None], wrong).item() for z in logits]
print(f"at z = 30: {on_logits[-1]:.2f} on logits, {with_epsilon[-1]:.2f} with ε")

plt.figure(figsize=(6, 3.2))
plt.plot(logits, on_logits, label="on logits")
plt.plot(logits, with_epsilon, "--", label="on probabilities, ε = 1e-7")
plt.xlabel("logit z of a row of class 0")
plt.ylabel("loss of the row")
plt.legend()
plt.show()

# %% [markdown]
# **Exercise** (article 1's first). Replace the loss on probabilities by the one on logits. What has to change in the
# model's `forward`?
#
# <details><summary>Answer</summary>
#
# Nothing, if `forward` returns logits, as it does in the next section: the sigmoid moves out of the training and
# stays only where someone wants a probability. If it did return probabilities, its sigmoid must go, or there would be
# two. `python -m examples.lessons double_sigmoid` shows what two of them do.
#
# </details>

# %% [markdown]
# ## 3. The module
#
# The model is one linear layer: z = wᵀx + b. `logreg.binary.LogisticRegression` is article 1's class, with D + 1
# parameters. `BinaryLogit` is a LightningModule around it: it says what the loss of a batch is and which optimizer to
# use, and Lightning's Trainer runs the loop that calls it.

# %%
from logreg.binary import BinaryLogit

L.seed_everything(42, verbose=False)
model = BinaryLogit(num_features=2, l2=0.001, optimizer=partial(torch.optim.SGD, lr=0.5))
print(model.model)
x = torch.tensor([[0.0, 0.0], [1.0, -1.0]])
print("logits", model(x).detach())
print("probabilities of class 0 and class 1", model.predict_proba(x).detach())

# %% [markdown]
# **Exercise.** The first row is (0, 0). Which parameter alone decides its probability?
#
# <details><summary>Answer</summary>
#
# The bias: wᵀ0 + b = b. It shifts the border and tilts nothing, which is why the penalty on weights leaves it out.
#
# </details>

# %% [markdown]
# ## 4. Two Iris species
#
# Two species and two measurements make a problem that fits on paper. Versicolor and virginica overlap a little, so
# there is something to be uncertain about. The datamodule splits the flowers into 60 for training, 20 for validation
# and 20 for the test, and standardises each measurement by the training rows alone.

# %%
from datamodules.table.iris import IrisDataModule

iris = IrisDataModule(classes=["versicolor", "virginica"], features=["petal length", "petal width"], seed=1)
fit(model, iris, epochs=100)
measure(model, iris, "loss", "accuracy", "precision", "recall")
print("weights", model.model.linear.weight.detach(), "bias", model.model.linear.bias.detach())

# %% [markdown]
# **Exercise.** Which of the 20 test flowers is misclassified, and how sure was the model?
#
# <details><summary>Answer</summary>
#
# `proba = model.predict_proba(iris.transform(iris.points("test")[0]))` gives all probabilities; `(proba.argmax(1) !=
# iris.points("test")[1]).nonzero()` the row. Precision 1 and recall 0.9 say the kind of error beforehand: one of ten
# virginicas was taken for a versicolor. It is the flower of 4.5 by 1.7 cm, and the model was sure of its error, with
# 0.83. `python train.py test` writes such rows into `errors.csv`.
#
# </details>

# %% [markdown]
# ## 5. The boundary
#
# The model is asked for its probabilities on a grid, and the grid is coloured by the more probable class. The border
# is where both have 0.5: a straight line, because z = 0 is one. Rows close to it are uncertain and drawn hollow, rows
# far from it are filled.

# %%
from callbacks.figures.boundary import boundary_grid, draw


def picture(model: L.LightningModule, data: L.LightningDataModule, title: str, per_class: bool = False) -> None:
    """Draw what the model answers everywhere, and the training rows."""

    def asked(method):
        return torch.no_grad()(lambda x: method(data.transform(x)).double())

    x, target = data.points("train")
    _, ax = plt.subplots(figsize=(7.5, 4.5), layout="constrained")
    grid = boundary_grid(x, asked(model.predict_proba))
    lines = boundary_grid(x, asked(model.predict_proba_per_class)) if per_class else None
    points = {"train": (x, target, asked(model.predict_proba)(x))}
    draw(ax, grid, points, data.feature_names, data.class_names, title, lines)
    plt.show()


picture(model, iris, "Versicolor or virginica?")
highest = model.predict_proba(iris.transform(iris.points("train")[0])).max(dim=1).values
print(f"{int((highest < 0.75).sum())} of {len(highest)} training rows have no class with 0.75")

# %% [markdown]
# **Exercise.** With `classes=["setosa", "versicolor"]` a line separates the species perfectly. What happens to the
# weights without a penalty, if you train on and on?
#
# <details><summary>Answer</summary>
#
# They grow without end: any line between the clusters classifies all rows, and every doubling of w and b makes all
# probabilities more certain and the loss smaller. The penalty l2 · Σw² gives the loss a minimum again.
#
# </details>

# %% [markdown]
# ## 6. The boundary in motion
#
# The callback `DecisionBoundary` draws such a picture every few epochs and makes a GIF of them. At first the line is
# where chance has put it. It turns in between the clusters, ever more slowly, while the colours beside it deepen.

# %%
import PIL.Image

from callbacks.figures.boundary import DecisionBoundary

L.seed_everything(0, verbose=False)
fresh = BinaryLogit(num_features=2, l2=0.001, optimizer=partial(torch.optim.SGD, lr=0.15))
with tempfile.TemporaryDirectory() as run:
    fit(fresh, iris, epochs=10, callbacks=[DecisionBoundary(every_n_epochs=1)], default_root_dir=run)
    frames = []
    with PIL.Image.open(Path(run, "figures", "boundary.gif")) as film:
        for number in range(film.n_frames):
            film.seek(number)
            frames.append(film.convert("RGB").resize((450, 300)).quantize(128, PIL.Image.Quantize.FASTOCTREE))
    small = Path(run, "small.gif")
    frames[0].save(small, save_all=True, append_images=frames[1:], duration=400, loop=0)
    # GitHub and nbconvert show no image/gif; browsers go by the bytes, whatever they are called.
    display(Image(small.read_bytes(), format="png"))
print(f"{len(frames)} pictures")

# %% [markdown]
# **Exercise.** At the end the line hardly moves, and the loss still falls. What changes?
#
# <details><summary>Answer</summary>
#
# The length of w. The border is where wᵀx + b = 0: twice w and twice b give the same line, but every logit doubles,
# and the probabilities move towards 0 and 1.
#
# </details>

# %% [markdown]
# ## 7. One-vs-all
#
# Three species need three logits, each of one species against the other two. The most confident of the three wins.
# Each has a line of its own, dashed here; the regions are where one of them is ahead.

# %%
from logreg.one_vs_all import OneVsAll

L.seed_everything(42, verbose=False)
three = IrisDataModule(features=["petal length", "petal width"], seed=0)
trio = OneVsAll(2, 3, class_names=three.class_names, l2=0.0001, optimizer=partial(torch.optim.SGD, lr=1.0))
fit(trio, three, epochs=100)
measure(trio, three, "accuracy", "accuracy_setosa", "accuracy_versicolor", "accuracy_virginica")
picture(trio, three, "Three species, three lines", per_class=True)

# %% [markdown]
# **Exercise.** Versicolor's own classifier is right for only 0.7 of the rows, and yet the three together reach
# 0.9667. Why?
#
# <details><summary>Answer</summary>
#
# Versicolor lies between the two others: no line separates it from the rest, so its classifier is never sure. The
# argmax does not need it to be. It is enough that the two others say "not me" even more clearly there.
#
# </details>

# %% [markdown]
# ## 8. XOR
#
# The class is 1 where exactly one of two coordinates is 1, and no line puts these two corners on one side. The loss
# ends at ln 2 = 0.6931, the loss of a coin, whatever the rate, the optimizer or the seed. The picture proves it: the
# loss is a bowl over the weights, and its lowest point is at w = 0, where every probability is 0.5.

# %%
from datamodules.table.xor import XORDataModule

L.seed_everything(42, verbose=False)
xor = XORDataModule(seed=42)
line = BinaryLogit(num_features=2, optimizer=partial(torch.optim.SGD, lr=0.5))
fit(line, xor, epochs=100)
measure(line, xor, "loss")
corners, classes = xor.points("train")
for corner, proba in zip(corners.tolist(), line.predict_proba(xor.transform(corners))[:, 1].tolist(), strict=True):
    print(corner, f"class 1 with {proba:.4f}")

w = torch.linspace(-3, 3, 61)
loss = [
    [binary_cross_entropy_with_logits(xor.transform(corners) @ torch.stack([w1, w2]), classes) for w1 in w] for w2 in w
]
surface = Tensor(loss)  # with b = 0: the classes are balanced around the centre, so no bias helps
lowest = surface.argmin()
w1, w2 = (round(w[i].item(), 1) + 0.0 for i in (lowest % 61, lowest // 61))
print(f"lowest loss on the grid {surface.min():.4f}, at w1 = {w1} and w2 = {w2}")
plt.figure(figsize=(5, 4))
plt.contourf(w, w, surface, levels=torch.linspace(float(surface.min()), float(surface.max()), 20), cmap="viridis_r")
plt.colorbar(label="loss")
plt.plot(0, 0, "w+", markersize=14, label="ln 2")
plt.xlabel("w1")
plt.ylabel("w2")
plt.legend()
plt.show()

# %% [markdown]
# **Exercise** (article 1's second). Report loss and accuracy of XOR, and explain them.
#
# <details><summary>Answer</summary>
#
# The loss is ln 2. It is convex in w and b, and its gradient at w = 0, b = 0 is the mean of (0.5 − y) · x: every
# corner has an opposite corner of the same class, so the terms cancel. A convex function with gradient 0 is at its
# minimum. The accuracy is no measurement here: all probabilities are 0.5, and rounding decides on which side each
# corner falls. 0.25, 0.5 and 0.75 all occur. No line can get all four right.
#
# </details>

# %% [markdown]
# ## 9. The cure
#
# The model is linear in the columns that it is given, so give it another column. With x1·x2, the product of the
# centred coordinates, the corners are separable, and the border becomes a curve. A second layer finds such a column
# by itself.

# %%
from logreg.net_classifier import MLP, NetClassifier

L.seed_everything(42, verbose=False)
product = XORDataModule(rows_per_corner=25, noise=0.1, interaction=True, batch_size=100, seed=42)
curve = BinaryLogit(num_features=3, l2=0.001, optimizer=partial(torch.optim.SGD, lr=0.5))
fit(curve, product, epochs=100)
measure(curve, product, "loss", "accuracy")
print("weights of x1, x2 and x1·x2:", [round(weight, 2) for weight in curve.model.linear.weight.tolist()[0]])
picture(curve, product, "A linear model with one more column")

layers = XORDataModule(rows_per_corner=25, noise=0.1, batch_size=100, seed=42)
network = NetClassifier(MLP(num_features=2, num_classes=2), num_classes=2, optimizer=partial(torch.optim.Adam, lr=0.05))
fit(network, layers, epochs=100)
measure(network, layers, "accuracy")

# %% [markdown]
# **Exercise.** Why is the weight of x1·x2 negative?
#
# <details><summary>Answer</summary>
#
# The product of the centred coordinates is positive where both are on the same side, at (0, 0) and (1, 1), and that
# is class 0. A large positive column has to lower the logit of class 1.
#
# </details>

# %% [markdown]
# ## 10. Imbalance
#
# Fifty versicolors and ten virginicas, by two measurements that overlap: forgetting the rare species costs little
# loss and little accuracy. With `class_weight="balanced"` both species add up to the same weight. On 12 test flowers
# accuracy falls from 0.8333 to 0.75, and recall, the share of virginicas found, rises from 0 to 1.

# %%
for choice in ("none", "balanced"):
    L.seed_everything(42, verbose=False)
    sepals = ["sepal length", "sepal width"]
    rare = IrisDataModule(["versicolor", "virginica"], sepals, imbalance={"virginica": 0.2}, seed=3)
    rare.setup("fit")
    model = BinaryLogit(
        num_features=2,
        l2=0.001,
        class_weight=choice,
        class_counts=rare.class_counts,
        optimizer=partial(torch.optim.SGD, lr=0.5),
    )
    fit(model, rare, epochs=100)
    print(f"{choice:9}", end=" ")
    measure(model, rare, "accuracy", "precision", "recall", "f1")

# %% [markdown]
# **Exercise.** There are ten virginicas against fifty. What does `class_weights("balanced", [50, 10], num_classes=2)`
# give, and how much does a virginica weigh?
#
# <details><summary>Answer</summary>
#
# N / (K · count) = 60 / (2 · 50) = 0.6 and 60 / (2 · 10) = 3: a virginica weighs as much as five versicolors. Drawing
# rows with replacement, so that both are equally frequent, is the other cure: `weighted_sampler=True`.
#
# </details>

# %% [markdown]
# ## 11. Softmax
#
# With K classes the model has K logits for a row, one for each column of W. The exponential makes them positive, and
# dividing by their sum makes them add up to 1. The order stays: the largest logit has the largest probability, so the
# answer needs no softmax at all.

# %%
from logreg.functional import log_softmax

logits = torch.tensor([[2.0, 1.0, -1.0]])
proba = log_softmax(logits).exp()
print("exp    ", [round(value, 3) for value in logits.exp()[0].tolist()])
print("softmax", [round(value, 4) for value in proba[0].tolist()], "sum", round(proba.sum().item(), 4))
print("argmax of logits", logits.argmax().item(), "and of probabilities", proba.argmax().item())

# %% [markdown]
# **Exercise.** Add 100 to all three logits. What changes?
#
# <details><summary>Answer</summary>
#
# Nothing: exp(z + 100) = exp(z) · exp(100), and the factor cancels in the fraction. Only differences of logits count.
# The next section makes use of it.
#
# </details>

# %% [markdown]
# ## 12. Log-sum-exp
#
# exp(1000) is infinite, and ∞ / ∞ is nan; exp(−1000) is 0, and log(0) is −∞. Since a constant changes nothing, the
# largest logit is subtracted first: then the largest term is exp(0) = 1. The logarithm is taken of the sum, which is
# at least 1.

# %%
from examples import lessons

lessons.show(lessons.raw_softmax())

# %% [markdown]
# **Exercise.** float32 ends at about 3.4e38. From which logit on does exp overflow?
#
# <details><summary>Answer</summary>
#
# From ln(3.4e38) = 88.7 on. A model that is trained long enough without a penalty gets there.
#
# </details>

# %% [markdown]
# ## 13. Cross-entropy by indexing
#
# The loss of a row is −log p of its class, and an index picks these out of the matrix: from row 0 the column of its
# class, from row 1 the column of its class, and so on. The mean over rows is the loss. A probability of 0.9 costs
# 0.105, one of 0.001 costs 6.908.

# %%
from logreg.functional import cross_entropy

logits = torch.tensor([[2.0, 1.0, -1.0], [0.0, 3.0, 0.0], [1.0, 1.0, 1.0]])
target = torch.tensor([0, 1, 2])
picked = log_softmax(logits)[torch.arange(3), target]
print("log p of the true class", [round(value, 4) for value in picked.tolist()])
print(f"mean of −log p {-picked.mean():.4f}, cross_entropy {cross_entropy(logits, target):.4f}")
print(f"−log 0.9 = {-torch.tensor(0.9).log():.3f}, −log 0.001 = {-torch.tensor(0.001).log():.3f}")
p = torch.linspace(0.001, 1, 300)
plt.figure(figsize=(5, 3))
plt.plot(p, -p.log())
plt.xlabel("probability of the true class")
plt.ylabel("loss of the row")
plt.show()

# %% [markdown]
# **Exercise.** A model that knows nothing gives each of K classes 1/K. What is its loss for K = 151?
#
# <details><summary>Answer</summary>
#
# −log(1/151) = log 151 = 5.02. A first loss far above log K says that W starts too large: `python -m examples.lessons
# init_scale`.
#
# </details>

# %% [markdown]
# ## 14. The penalty
#
# l2 · ΣW² is added to the loss, so that a weight has to be worth its size. Here every fifth of 200 handwritten digits
# has a wrong label. Without a penalty the model learns the wrong labels by heart; with a suitable one it gets fewer
# training rows and more new rows right; with a large one W is pressed to zero and the model guesses.

# %%
lessons.show(lessons.l2())

# %% [markdown]
# **Exercise.** In scikit-learn the strength is called C, and a large C means a weak penalty. Which C belongs to l2 =
# 0.003 on 200 rows?
#
# <details><summary>Answer</summary>
#
# C = 1 / (2 · N · l2) = 1 / (2 · 200 · 0.003) = 0.83. scikit-learn adds up the losses of all rows instead of taking
# their mean, halves the penalty, and puts the factor before the loss.
#
# </details>

# %% [markdown]
# ## 15. The five steps
#
# Forward, loss, backward, update, zero: `examples/from_scratch.py` is these five steps with nothing but tensors. On
# 300 points in three clusters the loss starts near ln 3 = 1.0986. It falls, W grows, and the gradient shrinks,
# because there is less and less to correct.

# %%
from examples.from_scratch import shuffled, toy_points, train

x, y = toy_points()
steps = list(train(shuffled(x, y, batch_size=100, epochs=10, seed=42), d=3, c=3, lr=0.1, l2=0.001, seed=42))
for number in (1, 10, 20, 30):
    step = steps[number - 1]
    print(
        f"step {number:2}  loss {step.loss:.4f}  mean |W| {step.mean_weight:.4f}  mean |grad| {step.mean_gradient:.4f}"
    )

# %% [markdown]
# **Exercise.** What does the loss do if step 6 is left out? Say what you expect, then run the cell.

# %%
lessons.show(lessons.forget_to_zero())

# %% [markdown]
# <details><summary>Answer</summary>
#
# `backward` adds to W.grad. Unless it is zeroed, every update uses the sum of all gradients so far, like a ball that
# never loses speed: it races through the minimum and up the other side. With cross-entropy it does not end in nan,
# for no row's gradient is longer than the row; it just never settles.
#
# </details>

# %% [markdown]
# ## 16. The same under the Trainer
#
# `SoftmaxRegression.training_step` is these five steps again; beside it the Trainer brings checkpoints, resume,
# several devices and curves. The lines below are read from both sources, step by step. Given the same batches, both
# end with the same W.

# %%
import inspect
import textwrap

from torch.utils.data import DataLoader

from logreg.softmax import SoftmaxRegression


def block(function, number: int) -> list[str]:
    """The lines of a source from the mark of this step to the mark of the next one."""
    lines = inspect.getsource(function).splitlines()
    start, *end = (i for i, line in enumerate(lines) if f"# {number}." in line or f"# {number + 1}." in line)
    chosen = [line.partition("  #")[0] for line in (lines[start : end[0]] if end else lines[start:])]
    return textwrap.dedent("\n".join(chosen)).splitlines()


# Article 2 counts shuffling the rows as step 1.
for number, name in enumerate(("forward", "loss", "backward", "update", "zero"), 2):
    print(f"{number}. {name}")
    for side, function in (("by hand", train), ("Trainer", SoftmaxRegression.training_step)):
        print("\n".join(f"   {side} | {line}" for line in block(function, number)))

# %%
softmax = SoftmaxRegression(num_features=3, num_classes=3, lr=0.1, l2=0.001, seed=42)
batches = DataLoader(list(shuffled(x, y, batch_size=100, epochs=10, seed=42)), batch_size=None)
L.Trainer(max_epochs=1, enable_checkpointing=False, **QUIET).fit(softmax, batches)
difference = (softmax.W.dense() - steps[-1].W).abs().max().item()
print("the same W, within 1e-6:", difference < 1e-6)

# %% [markdown]
# **Exercise.** `W.descend_(lr, l2)` replaces two lines of the loop by hand. Where has the penalty gone?
#
# <details><summary>Answer</summary>
#
# The gradient of l2 · ΣW² is 2 · l2 · W, so its part of the update multiplies all of W by 1 − 2 · lr · l2.
# `ScaledMatrix` keeps that factor apart from the rows: a step then touches only the features that occur in its batch.
#
# </details>

# %% [markdown]
# ## 17. CLINC150
#
# 150 intents of a voice assistant and "none of them", from sentences turned into 10,000 TF-IDF columns: W has 1.5
# million numbers, and b is added to each row of x @ W. Article 2's rate of 0.1 is far too small here, because a row
# has length 1 and its gradient is spread over some 14 words and 151 classes. At 300, with a decay to 0, twelve passes
# take a few seconds.

# %%
from datamodules.text.clinc150 import CLINC150DataModule
from datamodules.text.features import Ngrams
from logreg.optimizers import DecayToZero

L.seed_everything(42, verbose=False)
start = time.perf_counter()
words = Ngrams(ngram_range=(1, 2), max_features=10_000, sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
clinc150 = CLINC150DataModule(words=words, stratified_batches=True, feature_dropout=0.3)
clinc150.setup("fit")
intents = SoftmaxRegression(
    num_features=clinc150.num_features,
    num_classes=clinc150.num_classes,
    oos_class=clinc150.oos_class,
    lr=300,
    lr_scheduler=partial(DecayToZero, shape="cosine"),
    l2=1e-7,
)
x = next(iter(clinc150.train_dataloader())).x
product = intents.W(x)
for name, value in (
    ("x", x),
    ("W", intents.W.dense()),
    ("x @ W", product),
    ("b", intents.b),
    ("x @ W + b", intents(x)),
):
    print(f"{name:9} {tuple(value.shape)}")
fit(intents, clinc150, epochs=12)
measure(intents, clinc150, "in_scope_accuracy")
print(f"from file to test in {time.perf_counter() - start:.0f} s")

# %% [markdown]
# **Exercise.** Train `SoftmaxRegression(..., lr=0.1, l2=1e-4)` for 12 epochs, as in article 2. How far does the loss
# get?
#
# <details><summary>Answer</summary>
#
# To 4.96, where ln 151 = 5.02 is a blind guess. In-scope accuracy is 0.74 all the same, for it depends on the order
# of the logits and not on their size. `configs/clinc150_article.yaml` goes on to 100 epochs.
#
# </details>

# %% [markdown]
# ## 18. What W has learned
#
# A column of W is a prototype of its class: the larger a weight, the more its word speaks for the class. Taken above
# the average of all classes, the largest weights of a column are the vocabulary of that intent. Nobody told the model
# that rain is weather.

# %%
W = intents.W.dense().detach()
names = clinc150.feature_names
for intent in ("book_flight", "weather", "translate", "alarm"):
    above_average = W[:, clinc150.class_names.index(intent)] - W.mean(dim=1)
    print(f"{intent:12}", ", ".join(names[i] for i in above_average.topk(5).indices))

clinc150.predict_inputs = ["book me a flight to Tokyo"]
proba = intents.predict_proba(clinc150.dataset("predict")[0].x)[0]
print(f"{clinc150.predict_inputs[0]!r} is {clinc150.class_names[proba.argmax()]}, with p = {proba.max():.3f}")

# %% [markdown]
# **Exercise.** Take a sentence of your own that none of the 150 intents covers. Does the model notice?
#
# <details><summary>Answer</summary>
#
# Look at `proba.max()`. Where it is below the threshold that was chosen on validation rows,
# `intents.predict_label(proba[None])` answers `oos`, none of them. Some sentences slip through: the threshold trades
# them against sentences that would be turned away wrongly.
#
# </details>
