"""Article 2 as a LightningModule: its own lines, with its file names and step numbers, and the Trainer as their loop.

    python -m examples.article_module  # 300 made-up points in three clusters; loss and accuracy after ten epochs

Step 1, shuffling, is the DataLoader's. `logreg/softmax.py` is the production form of the same lines: it adds sparse
rows, class weights, metrics, a schedule and what an exact resume needs. `trainer.global_step` stays 0 here, for nothing
counts the steps of a module without an optimizer.
"""

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from examples.from_scratch import toy_points


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


def main() -> None:
    """toy_training.py, on points that can be learned."""
    X, y = toy_points()
    model = ArticleModule(n_features=3, n_classes=3, l2_lambda=1e-3)
    trainer = L.Trainer(max_epochs=10, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(model, DataLoader(TensorDataset(X, y), batch_size=100, shuffle=True))
    accuracy = (model(X).argmax(dim=1) == y).float().mean()
    print(f"objective {trainer.callback_metrics['train/objective']:.4f}, training accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
