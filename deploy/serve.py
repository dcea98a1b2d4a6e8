"""A run over HTTP, with LitServe: python deploy/serve.py runs/text_csv [PORT]

    curl localhost:8000/predict --json '{"inputs": ["will it snow on friday"]}'

A row of a table is a list in the order of its columns, or a map from column to value. Requests that come within 2 ms
are answered together; one holds up to 256 inputs in 1 MB. What is wrong with it is told in one line with a status of
4xx, to that one alone. GET /health answers 200 once all is ready.
"""

import signal
import sys
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any

try:
    import litserve
    from fastapi import Body, exceptions, responses
    from pydantic import AfterValidator, Field
except ModuleNotFoundError as error:
    sys.exit(f"error: {error}: pip install -e '.[serve]'")

sys.path.insert(0, str(Path(__file__).parents[1]))
from deploy.classifier import Classifier

Text = Annotated[str, Field(max_length=10_000)]
Value = Text | int | float | bool | None


class Service(litserve.LitAPI):
    """Answers the inputs of several requests at once."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(max_batch_size=64, batch_timeout=0.002)
        self.classifier = classifier

    def decode_request(self, request: list[Any]) -> list[Any]:
        return request  # checked by now: of a batch that fails here, all requests would

    def predict(self, requests: list[list[Any]]) -> list[dict[str, Any]]:
        inputs = list(chain(*requests))
        labels, top = self.classifier.predict(inputs), self.classifier.top_k(inputs)
        answers = ({"label": label, "probabilities": dict(best)} for label, best in zip(labels, top, strict=True))
        return [{"predictions": list(islice(answers, len(request)))} for request in requests]


def in_one_line(request: Any, error: Any) -> responses.JSONResponse:
    """What pydantic finds, without the input, which it would send back, and without the types that it tries."""
    found = max(error.errors(), key=lambda found: len(found["loc"]))  # that of the type that fits best
    message = " ".join(f"{'.'.join(map(str, found['loc'][:3]))}: {found['msg']}".split())
    return responses.JSONResponse({"detail": message}, 422)


def main(run: str, port: str = "8000") -> None:
    """Serve a run on this machine until Ctrl-C or SIGTERM."""
    classifier = Classifier.load(run)
    shape = Annotated[list[Value | list[Value] | dict[Text, Value]], Field(min_length=1, max_length=256)]
    encodable = AfterValidator(lambda inputs: (classifier.data.encode(inputs), inputs)[1])
    inputs = Annotated[shape, encodable, Body(embed=True, alias="inputs")]
    Service.decode_request.__annotations__["request"] = inputs  # where LitServe looks for what to check
    server = litserve.LitServer(Service(classifier), accelerator="cpu", max_payload_size=1_000_000)
    server.app.add_exception_handler(exceptions.RequestValidationError, in_one_line)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # else only this process ends, and its workers stay
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (TypeError, ValueError) as error:
        sys.exit(f"error: {error}")
