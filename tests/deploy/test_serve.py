"""The server as it stands, started on loopback: good, bad and many requests at once."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from deploy.classifier import Classifier

ROOT = Path(__file__).parents[2]
QUESTIONS = ["will it snow on friday", "play the song, louder", "wake me up", "naïve ☕", ""]


class Server:
    """One that runs, and its address."""

    def __init__(self, run, log):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [sys.executable, "-W", "ignore", "deploy/serve.py", str(run), str(self.port)]
        self.log = log.open("w+")
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=self.log, stderr=self.log, start_new_session=True)

    def ask(self, method, path, body=b""):
        """Status and what came, read as JSON where it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read().decode()
            return answer.status, json.loads(text) if text.startswith("{") else text
        finally:
            connection.close()

    def predict(self, inputs):
        return self.ask("POST", "/predict", json.dumps({"inputs": inputs}).encode())

    def wait(self):
        """Until it is healthy, in a minute and a half."""
        for _ in range(180):
            try:
                if self.ask("GET", "/health")[0] == 200:
                    return
            except OSError:
                assert self.process.poll() is None, Path(self.log.name).read_text()
            time.sleep(0.5)
        raise TimeoutError(f"no server on port {self.port}")

    def stop(self, end=lambda process: process.terminate()):
        """As a supervisor does it; nothing that the server has started may stay, and no traceback."""
        end(self.process)
        try:
            assert self.process.wait(60) == 0
            assert Path(self.log.name).read_text() == ""
            with pytest.raises(ProcessLookupError):
                for _ in range(100):
                    os.killpg(self.process.pid, 0)  # whether there is any left
                    time.sleep(0.1)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.log.close()


@pytest.fixture(scope="module")
def serve(short_fit, tmp_path_factory):
    """`serve(config)` is a running server of a short fit, and the run."""
    pytest.importorskip("litserve")
    servers = {}

    def start(config):
        if config not in servers:
            run = short_fit(config)
            servers[config] = server, _ = Server(run, tmp_path_factory.mktemp(config) / "log"), run
            server.wait()
        return servers[config]

    yield start
    for server, _ in servers.values():
        server.stop()


def assert_answers(server, run, *questions):
    """The answers to each list of inputs are the model's."""
    classifier = Classifier.load(run)
    for inputs in questions:
        status, answer = server.predict(inputs)
        assert status == 200, answer
        assert [prediction["label"] for prediction in answer["predictions"]] == classifier.predict(inputs)
        for prediction, top in zip(answer["predictions"], classifier.top_k(inputs), strict=True):
            assert list(prediction["probabilities"].items()) == [(name, pytest.approx(p, abs=1e-6)) for name, p in top]


def assert_refused(server, body, message, status=422):
    """A request, or inputs, in one line that holds the message."""
    body = body if isinstance(body, bytes) else json.dumps({"inputs": body}).encode()
    found, answer = server.ask("POST", "/predict", body)
    assert (found, list(answer)) == (status, ["detail"])
    assert message in answer["detail"]
    assert "\n" not in answer["detail"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*that no training row has")
def test_answers_are_those_of_the_model_one_by_one_and_together(serve):
    towns, plans = ("Oslo", "Bern", None, "Nowhere"), ("family", "basic", "")
    rows = [[20 + n % 60, n % 48, plans[n % 3], towns[n % 4]] for n in range(100)]
    for config, inputs in (("text_csv", QUESTIONS), ("table_csv", rows), ("iris_ova", [[1.4, 0.2], [4.9, 1.7]])):
        assert_answers(*serve(config), inputs, *([each] for each in inputs))


@pytest.mark.slow
def test_answers_of_a_large_vocabulary_are_those_of_the_model(cli, tmp_path):
    pytest.importorskip("litserve")
    texts = [" ".join(f"{'abc'[n % 3]}{n * k * 7919 % 4001}" for k in range(1, 13)) for n in range(1_500)]
    file, run = tmp_path / "texts.csv", tmp_path / "run"
    file.write_text("text,label\n" + "".join(f"{text},{'abc'[n % 3]}\n" for n, text in enumerate(texts)))
    options = ("--data.train_file", file, "--data.oos_label", "null", "--trainer.max_epochs", 2)
    cli("fit", "--config", "configs/text_csv.yaml", *options, "--trainer.default_root_dir", run)
    server = Server(run, tmp_path / "log")
    try:
        server.wait()
        assert_answers(server, run, texts[:200], *([text] for text in texts[:200]))
    finally:
        server.stop()


@pytest.mark.slow
def test_what_no_training_row_has_is_told_of(serve):
    _, answer = serve("text_csv")[0].predict(["will it snow", "qqq zzz"])
    assert [bool(prediction["unseen"]) for prediction in answer["predictions"]] == [False, True]
    _, answer = serve("table_csv")[0].predict([[33, 38, "family", "Oslo"], [33, 38, "family", "Nowhere"]])
    found = [prediction["unseen"] for prediction in answer["predictions"]]
    assert found == [[], ["no training row has the 'town' 'Nowhere'"]]


@pytest.mark.slow
def test_ctrl_c_ends_it_quietly(short_fit, tmp_path):
    pytest.importorskip("litserve")
    server = Server(short_fit("iris_ova"), tmp_path / "log")
    server.wait()
    server.stop(lambda process: os.killpg(process.pid, signal.SIGINT))  # as a terminal sends it, to all at once


@pytest.mark.slow
def test_bad_requests_get_one_line_and_the_next_good_one_its_answer(serve):
    server, run = serve("text_csv")
    for body, message in (
        (b"", "body.inputs: Field required"),
        (b'{"inputs": ["half', "body.12: JSON decode error"),
        (b'["snow"]', "body.inputs: Field required"),
        ([], "body.inputs: List should have at least 1 item after validation, not 0"),
        ("snow", "body.inputs: Input should be a valid list"),
        (["snow", None], "expected a list of sentences, got None as number 1"),
        (["\ud83d"], "unable to parse raw data as a unicode string"),
        (["x"] * 257, "at most 256 items"),
        (["x" * 10_001], "at most 10000 characters"),
    ):
        assert_refused(server, body, message)
    assert_refused(server, ["x" * 1_100_000], "Payload too large", status=413)
    assert server.ask("GET", "/predict")[0] == 405
    assert server.ask("GET", "/nothing")[0] == 404
    assert_answers(server, run, QUESTIONS)


@pytest.mark.slow
def test_rows_of_a_table_are_lists_or_maps_and_answered_as_predict_answers_them(serve, cli):
    server, run = serve("table_csv")
    rows = [
        [33, 38, "family", "Oslo"],
        {"town": "Bern", "months": 3, "age": 61.5, "plan": "basic"},
        [None, 38, "", "Nowhere"],
    ]
    asked = ("--ckpt_path", "best", "--data.predict_inputs", json.dumps(rows))
    cli("predict", "--config", run / "config.yaml", *asked)
    expected = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    for inputs, records in ((rows, expected), (rows[1:2], expected[1:2])):
        status, answer = server.predict(inputs)
        assert status == 200, answer
        for prediction, record in zip(answer["predictions"], records, strict=True):
            assert prediction["label"] == record["label"]
            assert prediction["probabilities"][record["label"]] == pytest.approx(record["probability"], abs=1e-6)


@pytest.mark.slow
def test_a_row_that_does_not_fit_its_table_gets_one_line_that_says_why(serve):
    server, _ = serve("iris_ova")
    for wrong, message in (
        ([1.4], "expected rows of 2 numbers"),
        (["a", 1], "expected rows of 2 numbers"),
        ([1, float("nan")], "expected finite numbers"),
        ({"petal length": 1}, "expected rows of 2 numbers"),
    ):
        assert_refused(server, [[1.4, 0.2], wrong], message)
    server, _ = serve("table_csv")
    row = {"age": 33, "months": 38, "plan": "family", "town": "Oslo"}
    for wrong, message in (
        ([33, 38], "expected 4 values (age, months, plan, town), got [33, 38] as row 0"),
        ("family", "expected 4 values (age, months, plan, town), got family as row 0"),
        ({"age": 33, "months": 38, "plan\nB": 1}, "row 0: expected a column 'plan', 'town', got age, months, plan B"),
        (row | {"age": "old"}, "row 0: expected a number in 'age', got 'old'"),
        (row | {"age": 10**400}, "row 0: expected a number in 'age', got '1000"),
        (row | {"plan": "x" * 10_001}, "body.inputs.0: String should have at most 10000 characters"),
        (row | {"\ud83d": 1}, "body.inputs.0: Input should be a valid string"),
        ([33, 38, ["family"], "Oslo"], "body.inputs.0: Input should be a valid string"),
    ):
        assert_refused(server, [wrong], message)


@pytest.mark.slow
def test_requests_at_once_get_their_own_answers_the_bad_ones_among_them_their_own(serve):
    server, run = serve("text_csv")
    classifier = Classifier.load(run)
    requests = [QUESTIONS[number % 4 : 1 + number % 5] or [None] for number in range(400)]
    seconds = []

    def ask(inputs):
        begun = time.perf_counter()
        status, answer = server.predict(inputs)
        seconds.append(time.perf_counter() - begun)
        return status, [prediction["label"] for prediction in answer.get("predictions", [])]

    with ThreadPoolExecutor(16) as many:
        answers = list(many.map(ask, requests))
    for inputs, answer in zip(requests, answers, strict=True):
        assert answer == ((422, []) if inputs == [None] else (200, classifier.predict(inputs)))
    seconds.sort()
    print(f"p50 {seconds[200] * 1e3:.1f} ms, p99 {seconds[396] * 1e3:.1f} ms, 16 at once")
    assert seconds[200] < 1  # alone on two cores it takes some 30 ms


@pytest.mark.nightly
def test_what_cannot_be_served_ends_in_one_line(tmp_path):
    pytest.importorskip("litserve")
    for arguments, message in (
        ([tmp_path / "none"], "error: expected a checkpoint file"),
        ([], "error: main() missing"),
    ):
        command = [sys.executable, "-W", "ignore", "deploy/serve.py", *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 1
        assert done.stderr.startswith(message)
        assert len(done.stderr.splitlines()) == 1


def test_without_litserve_the_command_that_installs_it_is_named(tmp_path):
    (tmp_path / "litserve.py").write_text("raise ModuleNotFoundError(\"No module named 'litserve'\")")
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import deploy.serve"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (1, "error: No module named 'litserve': pip install -e '.[serve]'\n")
