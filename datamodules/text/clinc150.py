"""CLINC150: 150 intents of a voice assistant, and sentences of none of them.

Larson et al. 2019, "An Evaluation Dataset for Intent Classification and Out-of-Scope Prediction",
https://arxiv.org/abs/1909.02027; the files are those of https://github.com/clinc/oos-eval.
"""

import hashlib
import http.client
import json
import os
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock

from datamodules.text.features import Ngrams
from datamodules.text.tfidf import LabelledTexts, TfidfDataModule

COMMIT = "828f8093932c8fe6ca7936c3d2e52903b1c523de"
URL = f"https://raw.githubusercontent.com/clinc/oos-eval/{COMMIT}/data/data_{{variant}}.json"
DOMAINS_URL = f"https://raw.githubusercontent.com/clinc/oos-eval/{COMMIT}/data/domains.json"
SHA256 = {
    "full": "36923c3705a59e08fe9c3883d8bc2dd966ef93e22cb78ac41171782a698d56e0",
    "small": "050e17476e6b4fa88f8518edaf09921c8f5e3a86dc8b63615361102a20b2ac01",
    "imbalanced": "4886730b20c51eece26aa392ecae2717bfe9908680419e96255351c6148eb4cc",
    "oos_plus": "bfcca9ae515623541dc1983c94c4ed7cae9d26b42ae47d74b972e51bb6f7a21f",
}
DOMAINS_SHA256 = "b947b579d3b8e74b06f93b01083d8efaff2888b43a3e362533bd88a6e1211b3a"


class CLINC150DataModule(TfidfDataModule):
    """CLINC150 with its official splits; the label "oos" is the 151st class.

    The file is downloaded once, checked, and kept in data_dir.

    Args:
        variant: "full" (100 training rows per intent), "small" (50), "imbalanced" (25 to 100), or "oos_plus" (full,
            with 250 instead of 100 out-of-scope training rows).
        data_dir: folder of data_full.json and of the other variants' files; null takes the environment variable
            CLINC150_DIR, else data/clinc150.
        words: n-grams of words; null leaves them out.
        options: as in TfidfDataModule.

    Raises:
        ValueError: a file that is not the published one.
        OSError: there is no file, and it cannot be downloaded.
    """

    oos_label = "oos"

    def __init__(
        self,
        variant: Literal["full", "small", "imbalanced", "oos_plus"] = "full",
        data_dir: str | None = None,
        words: Ngrams | None = Ngrams(ngram_range=(1, 2), max_features=10_000),  # noqa: B008 - never changed
        **options: Any,
    ) -> None:
        super().__init__(words=words, **options)
        if variant not in SHA256:
            raise ValueError(f"variant must be one of {', '.join(SHA256)}; got {variant}")
        self.variant = variant
        self.data_dir = Path(data_dir or os.environ.get("CLINC150_DIR") or "data/clinc150").expanduser()

    @property
    def file(self) -> Path:
        """Where the variant's file is, or will be."""
        return self.data_dir / f"data_{self.variant}.json"

    def class_groups(self) -> list[str]:
        """The domain of each intent, such as "banking", from domains.json; errors as of the data set's own file."""
        domains = json.loads(published(DOMAINS_URL, self.data_dir / "domains.json", DOMAINS_SHA256))
        domain_of = {intent: domain for domain, intents in domains.items() for intent in intents}
        return [domain_of.get(name, name).replace("_", " ") for name in self.class_names]

    def prepare_data(self) -> None:
        """Download the file, unless it is there."""
        if "features" not in vars(self):  # with a vocabulary from a checkpoint, predicting does not need it
            download(URL.format(variant=self.variant), self.file, SHA256[self.variant])

    def load_splits(self) -> dict[str, LabelledTexts]:
        """The official splits, each with its out-of-scope rows."""
        data = json.loads(published(URL.format(variant=self.variant), self.file, SHA256[self.variant]))
        rows = {split: data[split] + data[f"oos_{split}"] for split in ("train", "val", "test")}
        return {split: ([text for text, _ in pairs], [label for _, label in pairs]) for split, pairs in rows.items()}


def published(url: str, path: Path, sha256: str) -> bytes:
    """The content of a published file, downloaded to `path` unless it is there; a ValueError for any other content."""
    download(url, path, sha256)
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(
            f"{path}: expected the published file (SHA-256 {sha256[:12]}...), got {len(content)} bytes with "
            f"{found[:12]}...; remove the file and try again, or use an unchanged copy"
        )
    return content


def download(url: str, path: Path, sha256: str) -> None:
    """Download a file to `path` unless it is there: whole and checked, or not at all; of several processes one does.

    Raises:
        OSError: no network, or a full disk; the message gives both remedies.
        ValueError: the content is not that of the published file.
    """
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    try:
        with FileLock(lock):
            if not path.is_file():  # the others waited for it
                torch.hub.download_url_to_file(url, str(path), hash_prefix=sha256)
    except RuntimeError as error:
        raise ValueError(
            f"{url}: expected the published file ({error}); try again later, or use an unchanged copy"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise OSError(
            f"cannot download {path.name} ({' '.join(str(error).split())}); connect to the network, or put the file "
            f"from {url} into a folder and name it with --data.data_dir or the environment variable CLINC150_DIR"
        ) from error
    finally:
        lock.unlink(missing_ok=True)
