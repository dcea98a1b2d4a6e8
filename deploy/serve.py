"""A run over HTTP, with LitServe: python -m deploy.serve runs/text_csv [PORT]

    curl localhost:8000/predict --json '{"inputs": ["will it snow on friday"]}'

A row of a table is a list in the order of its columns, or a map from column to value. Requests that come within 2 ms
are predicted together; one holds up to 256 inputs in 1 MB, and a bad one alone gets one line and a status of 4xx.
`unseen` of a prediction lists the parts of the input that no training row has: a category, or all words. GET /health
returns 200 once all is ready.
"""

import gc
import logging
import os
import signal
import sys
import warnings
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any

if __name__ == "__main__":  # of `python deploy/serve.py`, the folder of which holds a torch.py
    sys.path[0] = str(Path(__file__).parents[1])

try:
    import litserve
    from fastapi import Body, exceptions, responses
    from pydantic import AfterValidator, Field
except ModuleNotFoundError as error:
    sys.exit(f"error: {error}: pip install -e '.[serve]'")

from deploy.classifier import Classifier

warnings.simplefilter("ignore", UserWarning)  # they are in the responses
if __name__ == "__mp_main__":  # the worker, which the server ends
    signal.signal(signal.SIGINT, signal.SIG_IGN)

Text = Annotated[str, Field(max_length=10_000)]
Value = Text | int | float | bool | None


class Service(litserve.LitAPI):
    """Predicts the inputs of several requests at once."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__(max_batch_size=64, batch_timeout=0.002)
        self.classifier = classifier

    def decode_request(self, request: list[Any]) -> list[Any]:
        return request  # checked by now: of a batch that fails here, all requests would

    def predict(self, requests: list[list[Any]]) -> list[dict[str, Any]]:
        model, inputs = self.classifier, list(chain(*requests))
        columns = zip(model.predict(inputs), model.top_k(inputs), model.unseen(inputs), strict=True)
        rows = ({"label": label, "probabilities": dict(best), "unseen": unseen} for label, best, unseen in columns)
        return [{"predictions": list(islice(rows, len(request)))} for request in requests]


def in_one_line(request: Any, error: Any) -> responses.JSONResponse:
    """The error of pydantic without the input, which it would send back, and without the types that it tries."""
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
    process = os.getpid()

    def end(*_: Any) -> None:
        logging.disable()  # of a thread of LitServe's that would miss its manager
        # LitServe takes the first as Ctrl-C, and ends its workers; the other ends the HTTP server.
        raise KeyboardInterrupt if os.getpid() == process else SystemExit

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    gc.freeze()  # else a last collection goes through all of torch, which takes seconds
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (TypeError, ValueError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:  # before all was ready
        sys.exit(130)
