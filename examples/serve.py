"""A run over HTTP, with LitServe: python examples/serve.py runs/text_csv [PORT]

    curl localhost:8000/predict --json '{"inputs": ["will it snow on friday"]}'

Requests that come within 2 ms are answered together; a request holds up to 256 inputs in 1 MB. What is wrong with one
is told in one line with a status of 4xx, to that one alone. GET /health answers 200 once the model is loaded.
"""

import sys
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any

try:
    import litserve
    from fastapi import Body
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from pydantic import Field, FiniteFloat
except ModuleNotFoundError as error:
    sys.exit(f"error: {error}: pip install -e '.[serve]'")

sys.path.insert(0, str(Path(__file__).parents[1]))
from classifier import Classifier
from datamodules.text import TfidfDataModule


class Service(litserve.LitAPI):
    """Answers the inputs of several requests at once."""

    def __init__(self, run: str) -> None:
        super().__init__(max_batch_size=64, batch_timeout=0.002)
        self.run = run

    def setup(self, device: str) -> None:
        self.classifier = Classifier.load(self.run)

    def decode_request(self, request: list[Any]) -> list[Any]:
        return request  # checked by now: of a batch that fails here, all requests would

    def predict(self, requests: list[list[Any]]) -> list[dict[str, Any]]:
        inputs = list(chain(*requests))
        labels, top = self.classifier.predict(inputs), self.classifier.top_k(inputs)
        answers = ({"label": label, "probabilities": dict(best)} for label, best in zip(labels, top, strict=True))
        return [{"predictions": list(islice(answers, len(request)))} for request in requests]


def in_one_line(request: Any, error: Any) -> JSONResponse:
    """What pydantic finds, without the input, which it would send back."""
    first = error.errors()[0]
    return JSONResponse({"detail": f"{'.'.join(map(str, first['loc']))}: {first['msg']}"}, status_code=422)


def main(run: str, port: str = "8000") -> None:
    """Serve a run on this machine until Ctrl-C."""
    data = Classifier.load(run).data
    sentence = Annotated[str, Field(max_length=10_000)]
    row = Annotated[list[FiniteFloat], Field(min_length=len(data.feature_names), max_length=len(data.feature_names))]
    one: Any = sentence if isinstance(data, TfidfDataModule) else row
    inputs = Annotated[list[one], Field(min_length=1, max_length=256), Body(embed=True, alias="inputs")]
    Service.decode_request.__annotations__["request"] = inputs  # where LitServe looks for what to check
    server = litserve.LitServer(Service(run), accelerator="cpu", max_payload_size=1_000_000)
    server.app.add_exception_handler(RequestValidationError, in_one_line)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (TypeError, ValueError) as error:
        sys.exit(f"error: {error}")
