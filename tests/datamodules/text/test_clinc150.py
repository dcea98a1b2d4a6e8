"""CLINC150 from a made-up file with the same keys, from a server on this machine, and, where it is, the real one."""

import gc
import hashlib
import json
import os
import socket
import threading
import urllib.error
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from jsonargparse import ArgumentError, ArgumentParser

from datamodules import CLINC150DataModule
from datamodules.text import clinc150
from datamodules.text.features import Ngrams
from tests.tools.ready import ready

BILLS = [[f"pay bill {n}a", "pay"] for n in range(3)]
TINY = {
    "train": [[f"book a flight to city{n}", "travel"] for n in range(4)] + BILLS,
    "val": [["book another flight", "travel"]],
    "test": [["pay my bill", "pay"], ["book it", "travel"]],
    "oos_train": [["who are you", "oos"]],
    "oos_val": [["what is love", "oos"], ["who am i", "oos"]],
    "oos_test": [["where are we", "oos"]],
}
CONTENT = json.dumps(TINY).encode()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder for the data, named by nothing yet; the tiny file counts as the published one; no network."""
    monkeypatch.delenv("CLINC150_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    for variant in clinc150.SHA256:
        monkeypatch.setitem(clinc150.SHA256, variant, sha256(CONTENT))
    monkeypatch.setattr(urllib.request, "urlopen", unplugged)
    return tmp_path / "folder"


def unplugged(url, **_):
    raise urllib.error.URLError(socket.gaierror(-3, "Temporary failure in name resolution"))


def put(folder, content=CONTENT, variant="full"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"data_{variant}.json").write_bytes(content)


def texts(data):
    return {split: rows for split, (rows, _) in data.load_splits().items()}


def one_line(caught):
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- the made-up file -----------------------------------------------------------------------------------------------


def test_splits_are_the_official_ones_each_with_its_out_of_scope_rows_whose_class_is_the_last(folder):
    put(folder)
    splits = CLINC150DataModule(data_dir=str(folder)).load_splits()
    for split, (rows, labels) in splits.items():
        assert list(map(list, zip(rows, labels, strict=True))) == TINY[split] + TINY[f"oos_{split}"]
    assert list(splits) == ["train", "val", "test"]
    data = ready(CLINC150DataModule(data_dir=str(folder)))
    assert (data.class_names, data.class_counts, data.oos_class) == (["pay", "travel", "oos"], [3, 4, 1], 2)
    assert "city0" in data.feature_names and "love" not in data.feature_names


def test_the_folder_given_beats_the_environment_which_beats_the_default(folder, tmp_path, monkeypatch):
    assert CLINC150DataModule().file == Path("data/clinc150/data_full.json")
    monkeypatch.setenv("CLINC150_DIR", str(tmp_path / "elsewhere"))
    assert CLINC150DataModule().file == tmp_path / "elsewhere" / "data_full.json"
    assert CLINC150DataModule("small", data_dir=str(folder)).file == folder / "data_small.json"
    monkeypatch.setenv("CLINC150_DIR", "")
    assert CLINC150DataModule().file == Path("data/clinc150/data_full.json")


def test_the_command_line_offers_the_options_of_the_parent_with_clinc150s_defaults(folder):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(CLINC150DataModule, "data")
    data = parser.instantiate(parser.parse_args(["--data.variant=small", "--data.feature_dropout=0.5"])).data
    assert (data.variant, data.feature_dropout, data.oos_label) == ("small", 0.5, "oos")
    assert data.ngrams == {"words": Ngrams(ngram_range=(1, 2), max_features=10_000)}
    for option in ("variant=big", "oos_label=none", "train_file=x.csv", "seed=first"):
        with pytest.raises(ArgumentError):
            parser.parse_args([f"--data.{option}"])
    with pytest.raises(ValueError, match="variant must be one of full, small, imbalanced, oos_plus; got big"):
        CLINC150DataModule("big")


def test_a_file_that_is_there_is_used_without_the_network_and_left_as_it_is(folder):
    put(folder)
    before = (folder / "data_full.json").stat().st_mtime_ns
    data = ready(CLINC150DataModule(data_dir=str(folder)))
    data.prepare_data()
    assert len(texts(data)["train"]) == 8
    assert (folder / "data_full.json").stat().st_mtime_ns == before
    assert [path.name for path in folder.iterdir()] == ["data_full.json"]


@pytest.mark.parametrize(
    "content",
    [CONTENT[:-10], CONTENT + b"\n", b"", b"<html>captive portal</html>", CONTENT.replace(b"travel", b"Travel")],
    ids=["truncated", "one byte more", "empty", "html", "changed"],
)
def test_a_file_that_is_not_the_published_one_is_refused_and_left_as_it_is(folder, content):
    put(folder, content)
    with pytest.raises(ValueError, match=r"data_full\.json: expected the published file .*remove the file") as caught:
        CLINC150DataModule(data_dir=str(folder)).load_splits()
    assert str(len(content)) in one_line(caught)
    assert (folder / "data_full.json").read_bytes() == content


def test_a_folder_that_cannot_be_one_is_an_os_error(folder):
    folder.write_text("a file")
    with pytest.raises(OSError, match="folder"):
        ready(CLINC150DataModule(data_dir=str(folder))).prepare_data()
    assert folder.read_text() == "a file"


def test_without_network_one_line_names_both_remedies(folder):
    for method in ("prepare_data", "load_splits"):
        with pytest.raises(OSError, match=r"cannot download data_small\.json") as caught:
            getattr(CLINC150DataModule("small", data_dir=str(folder)), method)()
        message = one_line(caught)
        assert "connect to the network" in message
        assert "--data.data_dir" in message and "CLINC150_DIR" in message
        assert clinc150.URL.format(variant="small") in message
    assert not folder.exists() or not list(folder.iterdir())


def test_every_intent_has_its_domain_and_out_of_scope_is_a_group_of_its_own(folder, monkeypatch):
    domains = json.dumps({"auto_and_commute": ["travel"], "banking": ["pay"]}).encode()
    monkeypatch.setattr(clinc150, "DOMAINS_SHA256", sha256(domains))
    put(folder)
    data = ready(CLINC150DataModule(data_dir=str(folder)))
    assert data.class_names == ["pay", "travel", "oos"]
    with pytest.raises(OSError, match=r"cannot download domains\.json .*--data\.data_dir"):
        data.class_groups()
    (folder / "domains.json").write_bytes(domains)
    assert data.class_groups() == ["banking", "auto and commute", "oos"]
    (folder / "domains.json").write_bytes(domains + b" ")
    with pytest.raises(ValueError, match=r"domains\.json: expected the published file"):
        data.class_groups()


def test_with_a_vocabulary_from_a_checkpoint_neither_file_nor_network_is_needed(folder, tmp_path):
    put(folder)
    torch.save(ready(CLINC150DataModule(data_dir=str(folder))).state_dict(), tmp_path / "state")
    (folder / "data_full.json").unlink()
    data = CLINC150DataModule(data_dir=str(folder), predict_inputs=["book a bill"])
    data.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    data.prepare_data()
    assert len(data.dataset("predict")) == 1
    assert data.class_names == ["pay", "travel", "oos"]
    with pytest.raises(OSError, match="cannot download"):  # the rows of a split are another matter
        data.setup("test")


# --- the download ---------------------------------------------------------------------------------------------------


class Server(ThreadingHTTPServer):
    """Serves `CONTENT`, or what the path names, and counts what it was asked for."""

    daemon_threads = True

    def __init__(self):
        self.asked = Counter()
        super().__init__(("127.0.0.1", 0), Answer)

    def url(self, name):
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        name = self.path.lstrip("/")
        self.server.asked[name] += 1
        self.close_connection = True
        if name == "missing":
            return self.send_error(404)
        if name == "no-http":
            return self.wfile.write(b"220 mail server ready\r\n")
        status, content, headers = {
            "good": (200, CONTENT, {"Content-Length": len(CONTENT)}),
            "html": (200, b"<html>please log in</html>", {"Content-Length": 26}),
            "empty": (200, b"", {"Content-Length": 0}),
            "to-a-file": (302, b"", {"Location": "file:///etc/hostname"}),
            "cut": (200, CONTENT[:50], {"Content-Length": len(CONTENT)}),
            "cut-chunk": (200, b"40\r\n" + CONTENT[:10], {"Transfer-Encoding": "chunked"}),
            "without-length": (200, CONTENT, {}),
        }[name]
        self.send_response(status)
        for header, value in headers.items():
            self.send_header(header, str(value))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    running = Server()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.mark.parametrize("name", ["good", "without-length"])
def test_a_download_is_the_file_whole_and_nothing_else(tmp_path, server, name):
    path = tmp_path / "new" / "folder" / "data_full.json"
    clinc150.download(server.url(name), path, sha256(CONTENT))
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode  # as readable as any other new file


BAD_ANSWERS = ("missing", "no-http", "to-a-file", "cut", "cut-chunk", "html", "empty")


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_a_failed_download_is_one_line_and_leaves_the_folder_as_it_was(tmp_path, server, name):
    (tmp_path / "other").write_bytes(b"what was there before")
    with pytest.raises((OSError, ValueError)) as caught:
        clinc150.download(server.url(name), tmp_path / "data_full.json", sha256(CONTENT))
    message = one_line(caught)
    assert server.url(name) in message
    if name not in ("html", "empty", "cut"):  # an answer that is no file at all
        assert "cannot download data_full.json" in message and "CLINC150_DIR" in message
    else:
        assert "expected the published file" in message and "remove the file" not in message  # which was never kept
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"other": b"what was there before"}
    del caught
    gc.collect()  # a connection left open is a ResourceWarning, which is an error here


def test_several_at_once_download_one_good_file(tmp_path, server):
    path, failures, start = tmp_path / "data_full.json", [], threading.Barrier(4)

    def work():
        start.wait()
        try:
            clinc150.download(server.url("good"), path, sha256(CONTENT))
        except BaseException as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert server.asked["good"] == 1  # the others waited
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {path.name: CONTENT}


# --- the real data --------------------------------------------------------------------------------------------------

real = pytest.mark.skipif(
    not os.environ.get("CLINC150_DIR"), reason="needs the data set: set CLINC150_DIR to its folder"
)


@real
@pytest.mark.parametrize(
    "variant, in_scope, out_of_scope",
    [
        ("full", (15_000, 3_000, 4_500), (100, 100, 1_000)),
        ("small", (7_500, 3_000, 4_500), (100, 100, 1_000)),
        ("imbalanced", (10_525, 3_000, 4_500), (100, 100, 1_000)),
        ("oos_plus", (15_000, 3_000, 4_500), (250, 100, 1_000)),
    ],
)
def test_the_published_files_have_the_official_sizes(variant, in_scope, out_of_scope):
    data = ready(CLINC150DataModule(variant))
    splits = data.load_splits()
    assert tuple(len(labels) - labels.count("oos") for _, labels in splits.values()) == in_scope
    assert tuple(labels.count("oos") for _, labels in splits.values()) == out_of_scope
    assert (data.num_classes, data.class_names[-1], data.oos_class) == (151, "oos", 150)
    assert data.num_features == 10_000
    if variant == "full":
        assert data.class_counts == [100] * 151


@pytest.mark.slow
@real
def test_the_configuration_reaches_the_accuracy_that_it_promises_and_is_calibrated(cli, tmp_path):
    place = ("--trainer.default_root_dir", tmp_path / "run", "--trainer.enable_progress_bar", "false")
    cli("fit", "--config", "configs/clinc150.yaml", *place)
    cli("test", "--config", "configs/clinc150.yaml", *place, "--ckpt_path", "best")
    found = json.loads((tmp_path / "run/test_metrics.json").read_text())
    assert found["test/in_scope_accuracy"] > 0.913 - 0.004  # five seeds are within 0.002 of their mean
    assert found["test/ece"] < 0.03  # in batches of 256 at rate 300 it was 0.034
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 180
