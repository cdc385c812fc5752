"""An HTTP service as a specialist, and what happens when the service is gone.

Run it with ``python examples/own_specialist_http.py``. The service takes a PNG and answers with
probabilities in JSON; here it runs in a thread, elsewhere it may run on another machine.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

import numpy as np
from gsco import GSCo
from gsco.models.mini.samples import samples
from known_images import LABELS, TASK, pixels
from own_specialist_sklearn import train
from PIL import Image


class HttpSpecialist:
    """A service that classifies one image per request."""

    name, task, labels, version = "service", TASK, LABELS, "1"

    def __init__(self, url: str, timeout: float = 10.0) -> None:
        self.url = url
        self.timeout = timeout

    def predict(self, images: Sequence[Image.Image]) -> list[list[float]]:
        """Return probabilities, (n, labels)."""
        return [self._ask(image) for image in images]

    def _ask(self, image: Image.Image) -> list[float]:
        png = io.BytesIO()
        image.save(png, "PNG")
        request = Request(self.url, png.getvalue(), {"content-type": "image/png"})
        with urlopen(request, timeout=self.timeout) as answer:
            probabilities = json.load(answer)
        return [probabilities[label] for label in self.labels]


def serve() -> ThreadingHTTPServer:
    """Start the service on a free port of this machine."""
    pipeline, _ = train()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            x = pixels([Image.open(io.BytesIO(body))]).reshape(1, -1)
            row = np.asarray(pipeline.predict_proba(x))[0]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(dict(zip(LABELS, row.tolist(), strict=True))).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main() -> None:
    """Diagnose one image with the service, and another one after the service has stopped."""
    server = serve()
    specialist = HttpSpecialist(f"http://127.0.0.1:{server.server_port}/")
    with GSCo.from_settings(specialists=[specialist]) as gsco:
        first = gsco.diagnose(samples(TASK)[3].path, task=TASK)
        print(f"decision: {first.label}")
        for opinion in first.evidence.opinions:
            print(f"{opinion.specialist}: {opinion.labels[0]} {opinion.probabilities[opinion.labels[0]]:.2f}")
        server.shutdown()
        server.server_close()
        second = gsco.diagnose(samples(TASK)[0].path, task=TASK)
        print(f"decision without the service: {second.label}")
        for missing in second.evidence.missing:
            print(f"missing {missing.source}: {missing.reason}")


if __name__ == "__main__":
    main()
