"""CLINC150: 150 intents of a voice assistant, and sentences that belong to none (Larson et al., EMNLP 2019)."""

import hashlib
import http.client
import json
import os
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any, Literal

from datamodules.text import Labelled, Ngrams, TextDataModule

COMMIT = "828f8093932c8fe6ca7936c3d2e52903b1c523de"
URL = f"https://raw.githubusercontent.com/clinc/oos-eval/{COMMIT}/data/data_{{variant}}.json"
SHA256 = {
    "full": "36923c3705a59e08fe9c3883d8bc2dd966ef93e22cb78ac41171782a698d56e0",
    "small": "050e17476e6b4fa88f8518edaf09921c8f5e3a86dc8b63615361102a20b2ac01",
    "imbalanced": "4886730b20c51eece26aa392ecae2717bfe9908680419e96255351c6148eb4cc",
    "oos_plus": "bfcca9ae515623541dc1983c94c4ed7cae9d26b42ae47d74b972e51bb6f7a21f",
}
LARGEST_FILE = 10_000_000  # bytes; the real ones have about 2.5 million
TIMEOUT = 30  # seconds without an answer


class CLINC150DataModule(TextDataModule):
    """CLINC150 with its official splits; the label "oos" is the 151st class.

    The file is downloaded once, checked, and kept in data_dir.

    Args:
        variant: "full" (100 training rows per intent), "small" (50), "imbalanced" (25 to 100), or "oos_plus" (full,
            with 250 instead of 100 out-of-scope training rows).
        data_dir: folder of data_full.json and its like; null takes the environment variable CLINC150_DIR, else
            data/clinc150.
        words: n-grams of words; null leaves them out.
        chars: n-grams of characters, joined to those of words; null leaves them out.
        feature_dropout: share of each training row's n-grams to leave out at random, anew in every epoch, in [0, 1).
        batch_size: rows per update, over all devices together.
        stratified_batches: shuffle so that every batch holds each label in the proportion that all training rows do,
            instead of leaving it to chance: fewer epochs are needed.
        seed: of the order of the rows and of feature_dropout.
        num_workers: processes that cut batches.
        texts: for `predict`: a list of texts.
        predict_file: for `predict`: a .txt file with one text a line, a .csv, .tsv, .json or .jsonl file with a column
            "text", or "-" for standard input. With neither, `predict` takes the test rows.

    Raises:
        ValueError: a file that is not the published one.
        OSError: no file, and none to be had.
    """

    def __init__(
        self,
        variant: Literal["full", "small", "imbalanced", "oos_plus"] = "full",
        data_dir: str | None = None,
        words: Ngrams | None = Ngrams(ngram_range=(1, 2), max_features=10_000),  # noqa: B008 - never changed
        chars: Ngrams | None = None,
        feature_dropout: float = 0.0,
        batch_size: int = 256,
        stratified_batches: bool = False,
        seed: int = 42,
        num_workers: int = 0,
        texts: list[str] | None = None,
        predict_file: str | None = None,
    ) -> None:
        super().__init__(
            words=words,
            chars=chars,
            oos_label="oos",
            feature_dropout=feature_dropout,
            batch_size=batch_size,
            stratified_batches=stratified_batches,
            seed=seed,
            num_workers=num_workers,
            texts=texts,
            predict_file=predict_file,
        )
        if variant not in SHA256:
            raise ValueError(f"variant must be one of {', '.join(SHA256)}; got {variant}")
        self.variant = variant
        self.data_dir = Path(data_dir or os.environ.get("CLINC150_DIR") or "data/clinc150")

    @property
    def file(self) -> Path:
        """Where the variant's file is, or will be."""
        return self.data_dir / f"data_{self.variant}.json"

    def prepare_data(self) -> None:
        """Download the file, unless it is there."""
        if not self._vectorizers:  # with a vocabulary from a checkpoint, predicting does not need it
            self._fetch()

    def read_splits(self) -> dict[str, Labelled]:
        """The official splits, each with its out-of-scope rows."""
        self._fetch()
        content = self.file.read_bytes()
        require_checksum(content, SHA256[self.variant], self.file)
        try:
            data: dict[str, Any] = json.loads(content)
            return {
                split: tuple(map(list, zip(*(data[split] + data[f"oos_{split}"]), strict=True)))  # type: ignore[misc]
                for split in ("train", "val", "test")
            }
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.file}: expected the splits of CLINC150 as JSON, got {error!r}") from error

    def _fetch(self) -> None:
        if not self.file.is_file():
            download(URL.format(variant=self.variant), self.file, SHA256[self.variant])


def download(url: str, path: Path, sha256: str) -> None:
    """Fetch a file to `path`: whole and checked, or not at all, also when two processes do it at once.

    Raises:
        OSError: no network, or no room; says both ways out.
        ValueError: what came is not the published file.
    """
    from rich.progress import wrap_file

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            total = int(answer.headers.get("Content-Length") or 0)
            with wrap_file(answer, total=total, description=f"Downloading {path.name}") as source:
                content = source.read(LARGEST_FILE + 1)
        require_checksum(content, sha256, url, remedy="try again later")
        beside.write_bytes(content)
        beside.replace(path)
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        reason = " ".join(str(error).split())
        raise OSError(
            f"cannot download {path.name} ({reason}); connect to the network, or put the file from {url} into a "
            f"folder and name it with --data.data_dir or the environment variable CLINC150_DIR"
        ) from error
    finally:
        beside.unlink(missing_ok=True)


def require_checksum(
    content: bytes, sha256: str, source: object, remedy: str = "remove the file and try again"
) -> None:
    """Refuse what is not, byte for byte, the published file."""
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(
            f"{source}: expected the published file (SHA-256 {sha256[:12]}...), got {len(content)} bytes with "
            f"{found[:12]}...; {remedy}, or use an unchanged copy"
        )
