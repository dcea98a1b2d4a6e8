"""LightningModules and data as Lightning's documentation writes them: they know nothing of this project.

`tests/test_any_module.py` trains each by `train.py`; by hand, with this file's folder on PYTHONPATH:

    python train.py fit --model lightning_examples.GAN --data lightning_examples.Digits --trainer.max_epochs 2
"""

import lightning as L
import torch
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset, random_split
from torchmetrics.classification import MulticlassAccuracy

# Data


def drawn(*sizes, seed=0):
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


class Digits(L.LightningDataModule):
    """Images (1, 8, 8) of ten classes, as MNIST's: prepared, then split in setup."""

    def __init__(self, data_dir: str = "./", batch_size: int = 8):
        super().__init__()
        self.save_hyperparameters()
        self.batch_size = batch_size

    def prepare_data(self):
        self.downloaded = True

    def setup(self, stage: str):
        images, target = drawn(60, 1, 8, 8), torch.arange(60) % 10
        images[torch.arange(60), 0, target % 8] += 2
        full = TensorDataset(images, target)
        if stage == "fit":
            self.train, self.val = random_split(full, [40, 20], generator=torch.Generator().manual_seed(42))
        if stage in ("validate", "test", "predict"):
            self.val = self.test = self.predict = torch.utils.data.Subset(full, range(20))

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=self.batch_size)

    def test_dataloader(self):
        return DataLoader(self.test, batch_size=self.batch_size)

    def predict_dataloader(self):
        return DataLoader(self.predict, batch_size=self.batch_size)


class Colours(Digits):
    """Images (3, 8, 8), as CIFAR's; their number of classes is known only after setup."""

    def setup(self, stage: str):
        images, target = drawn(40, 3, 8, 8), torch.arange(40) % 4
        self.train = self.val = self.test = self.predict = TensorDataset(images, target)
        self.num_classes = len(target.unique())


class TwoLoaders(Digits):
    """Two loaders to validate and two to test."""

    def val_dataloader(self):
        return [super().val_dataloader()] * 2

    def test_dataloader(self):
        return {"easy": super().test_dataloader(), "hard": super().test_dataloader()}

    def predict_dataloader(self):
        return [super().predict_dataloader()] * 2


class OnlyTraining(L.LightningDataModule):
    """A loader to train with, and one to test."""

    def train_dataloader(self):
        x = drawn(32, 4)
        return DataLoader(TensorDataset(x, x.sum(dim=1, keepdim=True)), batch_size=8)

    test_dataloader = train_dataloader


class Words(Dataset):
    """Sequences of word numbers, and the same shifted by one."""

    def __init__(self):
        self.tokens = torch.arange(0, 200) * 7 % 11

    def __len__(self):
        return 24

    def __getitem__(self, index):
        return {"inputs": self.tokens[index : index + 6], "target": self.tokens[index + 1 : index + 7]}


class Corpus(L.LightningDataModule):
    """Batches that are dicts; the size of the vocabulary is known only after setup."""

    def setup(self, stage):
        self.words = Words()
        self.vocab_size = int(self.words.tokens.max()) + 1

    def train_dataloader(self):
        return DataLoader(self.words, batch_size=6)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


class Labels(L.LightningDataModule):
    """Rows (N, 4) with several labels each, as numbers 0.0 and 1.0."""

    def train_dataloader(self):
        x = drawn(32, 4)
        return DataLoader(TensorDataset(x, (x[:, :3] > 0).float()), batch_size=8)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


# Models


class GAN(L.LightningModule):
    """Two networks, two optimizers, optimization by hand, pictures to the logger."""

    def __init__(self, latent_dim: int = 4, lr: float = 0.0002, b1: float = 0.5, b2: float = 0.999):
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(latent_dim, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 64))
        self.discriminator = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
        self.validation_z = drawn(8, latent_dim)

    def forward(self, z):
        return self.generator(z).view(-1, 1, 8, 8)

    def adversarial_loss(self, logits, is_real):
        return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, is_real))

    def training_step(self, batch):
        images, _ = batch
        optimizer_g, optimizer_d = self.optimizers()
        z = torch.randn(images.shape[0], self.hparams.latent_dim).type_as(images)

        self.toggle_optimizer(optimizer_g)
        g_loss = self.adversarial_loss(self.discriminator(self(z)), 1.0)
        self.log("g_loss", g_loss, prog_bar=True)
        self.manual_backward(g_loss)
        optimizer_g.step()
        optimizer_g.zero_grad()
        self.untoggle_optimizer(optimizer_g)

        self.toggle_optimizer(optimizer_d)
        real = self.adversarial_loss(self.discriminator(images), 1.0)
        fake = self.adversarial_loss(self.discriminator(self(z).detach()), 0.0)
        self.log("d_loss", (real + fake) / 2, prog_bar=True)
        self.manual_backward((real + fake) / 2)
        optimizer_d.step()
        optimizer_d.zero_grad()
        self.untoggle_optimizer(optimizer_d)

    def validation_step(self, batch, batch_idx):
        pass

    def test_step(self, batch, batch_idx):
        images, _ = batch
        self.log("test/d_real", self.discriminator(images).mean())

    def predict_step(self, batch, batch_idx):
        return self(self.validation_z.type_as(batch[0]))

    def on_validation_epoch_end(self):
        images = self(self.validation_z.type_as(self.generator[0].weight))
        for logger in self.loggers:
            logger.experiment.add_image("generated_images", images[0], self.current_epoch)

    def configure_optimizers(self):
        betas = (self.hparams.b1, self.hparams.b2)
        opt_g = torch.optim.Adam(self.generator.parameters(), lr=self.hparams.lr, betas=betas)
        opt_d = torch.optim.Adam(self.discriminator.parameters(), lr=self.hparams.lr, betas=betas)
        return [opt_g, opt_d], []


class LanguageModel(L.LightningModule):
    """A transformer that predicts the next word; it makes its network once the size of the vocabulary is known."""

    def __init__(self, width: int = 8):
        super().__init__()
        self.width = width

    def configure_model(self):
        if hasattr(self, "net"):
            return
        size = self.trainer.datamodule.vocab_size
        layer = nn.TransformerEncoderLayer(self.width, nhead=2, dim_feedforward=16, dropout=0.1, batch_first=True)
        self.net = nn.ModuleDict(
            {
                "embedding": nn.Embedding(size, self.width),
                "encoder": nn.TransformerEncoder(layer, 1),
                "decoder": nn.Linear(self.width, size),
            }
        )

    def forward(self, inputs):
        mask = nn.Transformer.generate_square_subsequent_mask(inputs.size(1))
        return self.net.decoder(self.net.encoder(self.net.embedding(inputs), mask=mask, is_causal=True))

    def step(self, batch, name):
        loss = F.cross_entropy(self(batch["inputs"]).flatten(0, 1), batch["target"].flatten())
        self.log(name, loss, prog_bar=True, batch_size=len(batch["inputs"]))
        return loss

    def training_step(self, batch, batch_idx):
        return {"loss": self.step(batch, "train_loss")}

    def validation_step(self, batch, batch_idx):
        return self.step(batch, "val_loss")

    def test_step(self, batch, batch_idx):
        return self.step(batch, "test_loss")

    def predict_step(self, batch, batch_idx):
        logits = self(batch["inputs"])
        return {"word": logits[:, -1].argmax(dim=-1), "logits": logits[:, -1], "text": ["?"] * len(logits)}

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"}}


class DigitClassifier(L.LightningModule):
    """A classifier of MNIST's images with torchmetrics; hyperparameters of its own."""

    def __init__(self, hidden_size: int = 16, learning_rate: float = 2e-4, layers: tuple = (16, 16)):
        super().__init__()
        self.save_hyperparameters()
        self.model = nn.Sequential(
            nn.Flatten(), nn.Linear(64, hidden_size), nn.ReLU(), nn.Dropout(0.1), nn.Linear(hidden_size, 10)
        )
        self.val_accuracy = MulticlassAccuracy(num_classes=10)
        self.test_accuracy = MulticlassAccuracy(num_classes=10)

    def forward(self, x):
        return F.log_softmax(self.model(x), dim=1)

    def training_step(self, batch):
        x, y = batch
        loss = F.nll_loss(self(x), y)
        self.log("loss/train", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        x, y = batch
        logits = self(x)
        self.val_accuracy.update(logits.argmax(dim=1), y)
        self.log("val_loss", F.nll_loss(logits, y), prog_bar=True)
        self.log("val_acc", self.val_accuracy, prog_bar=True)

    def test_step(self, batch, batch_idx, dataloader_idx=0):
        x, y = batch
        logits = self(x)
        self.test_accuracy.update(logits.argmax(dim=1), y)
        self.log("test_loss", F.nll_loss(logits, y))
        self.log("test_acc", self.test_accuracy)

    def predict_step(self, batch, batch_idx, dataloader_idx=0):
        x, _ = batch
        return self(x).argmax(dim=1)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)


class ColourClassifier(DigitClassifier):
    """A small convolution, a rate that is planned over all steps, callbacks of its own."""

    def __init__(self, lr: float = 0.05):
        super().__init__()
        self.save_hyperparameters()
        self.model = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.val_accuracy = MulticlassAccuracy(num_classes=4)
        self.test_accuracy = MulticlassAccuracy(num_classes=4)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9, weight_decay=5e-4)
        steps = self.trainer.estimated_stepping_batches
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def configure_callbacks(self):
        best = ModelCheckpoint(monitor="val_acc", mode="max", save_top_k=2, filename="{epoch}-{val_acc:.2f}")
        return [EarlyStopping("val_loss", patience=20), LearningRateMonitor("step"), best]


class Regression(L.LightningModule):
    """A line, with a decay that follows the epochs; nothing to validate."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.mse_loss(self.layer(x), y)

    def test_step(self, batch, batch_idx):
        self.log("test/mse", self.training_step(batch, batch_idx))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.02)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1)]
