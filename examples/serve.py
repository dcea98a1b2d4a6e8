"""A run over HTTP, with LitServe: python examples/serve.py runs/text_csv [PORT]

    curl localhost:8000/predict --json '{"inputs": ["will it snow on friday"]}'

A row of a table is a list in the order of its columns, or a map from column to value. A request holds up to 256 inputs
in 1 MB; what is wrong with it is told in one line with a status of 4xx. GET /health answers 200 once all is ready.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

try:
    import litserve
    from fastapi import Body, HTTPException, exceptions, responses
    from pydantic import Field
except ModuleNotFoundError as error:
    sys.exit(f"error: {error}: pip install -e '.[serve]'")

sys.path.insert(0, str(Path(__file__).parents[1]))
from classifier import Classifier
from cli.errors import one_line

Text = Annotated[str, Field(max_length=10_000)]
Value = Text | int | float | bool | None
Inputs = Annotated[list[Value | list[Value] | dict[Text, Value]], Field(min_length=1, max_length=256)]


class Service(litserve.LitAPI):
    """Answers one request after the other: an answer takes less time than waiting for others to join it."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier

    def decode_request(self, request: Annotated[Inputs, Body(embed=True, alias="inputs")]) -> list[Any]:
        return request  # of the shape that LitServe finds in this signature

    def predict(self, inputs: list[Any]) -> dict[str, Any]:
        try:
            labels, top = self.classifier.predict(inputs), self.classifier.top_k(inputs)
        except (ValueError, OverflowError) as error:  # inputs that the data cannot encode
            raise HTTPException(422, one_line(error)) from error
        return {"predictions": [{"label": k, "probabilities": dict(p)} for k, p in zip(labels, top, strict=True)]}


def in_one_line(request: Any, error: Any) -> responses.JSONResponse:
    """What pydantic finds, without the input, which it would send back, and without the types that it tries."""
    found = max(error.errors(), key=lambda found: len(found["loc"]))  # that of the type that fits best
    return responses.JSONResponse({"detail": f"{'.'.join(map(str, found['loc'][:3]))}: {found['msg']}"}, 422)


def main(run: str, port: str = "8000") -> None:
    """Serve a run on this machine until Ctrl-C."""
    server = litserve.LitServer(Service(Classifier.load(run)), accelerator="cpu", max_payload_size=1_000_000)
    server.app.add_exception_handler(exceptions.RequestValidationError, in_one_line)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (TypeError, ValueError) as error:
        sys.exit(f"error: {error}")
