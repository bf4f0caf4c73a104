"""OHIF, the web viewer, as a judge: its built pages from npm, served on one origin with a PACS.

Pages and the driver of the browser are fetched from npm once, into a cache folder of the user.
"""

from __future__ import annotations

import mimetypes
import shutil
import subprocess
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

OHIF = "@ohif/app@3.13.2"
DRIVER = "puppeteer-core@24.10.0"

_CONFIGURATION = """
window.config = {
  routerBasename: null, extensions: [], modes: [], customizationService: {}, showStudyList: true,
  maxNumberOfWebWorkers: 1, showWarningMessageForCrossOrigin: false, showCPUFallbackMessage: false,
  investigationalUseDialog: { option: 'never' }, defaultDataSourceName: 'pacs',
  dataSources: [{
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb', sourceName: 'pacs',
    configuration: {
      friendlyName: 'PACS', name: 'pacs', wadoUriRoot: '/dicom-web', qidoRoot: '/dicom-web',
      wadoRoot: '/dicom-web', qidoSupportsIncludeField: false, imageRendering: 'wadors',
      thumbnailRendering: 'wadors', enableStudyLazyLoad: true, supportsFuzzyMatching: false,
      supportsWildcard: true, omitQuotationForMultipartRequest: true, bulkDataURI: { enabled: true },
    },
  }],
};
"""


def install(cache: Path) -> Path:
    """Fetch viewer and driver unless they are in `cache`; return the folder of the viewer's pages."""
    npm = shutil.which("npm")
    assert npm is not None
    pages = cache / "ohif" / "package" / "dist"
    if not (pages / "index.html").exists():
        cache.mkdir(parents=True, exist_ok=True)
        _run([npm, "pack", "--silent", OHIF], cache)
        archive = next(cache.glob("ohif-app-*.tgz"))
        with tarfile.open(archive) as tar:
            tar.extractall(cache / "ohif", filter="data")
        archive.unlink()
    if not (cache / "node_modules" / "puppeteer-core").exists():
        _run([npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(cache), DRIVER], cache)
    return pages


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=280)


@contextmanager
def served(pages: Path, pacs_url: str) -> Iterator[str]:
    """Serve the viewer with the PACS behind ``/dicom-web`` of the same origin; yield its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, pages, pacs_url))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, pages: Path, pacs_url: str, *args: object) -> None:
        self._pages = pages
        self._pacs_url = pacs_url
        super().__init__(*args)  # type: ignore[arg-type]

    def log_message(self, *_args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path.startswith("/dicom-web"):
            self._forward()
        elif path == "/app-config.js":
            self._answer(200, "text/javascript", _CONFIGURATION.encode())
        else:
            self._page(path)

    def _page(self, path: str) -> None:
        file = (self._pages / path.lstrip("/")).resolve()
        if not file.is_relative_to(self._pages.resolve()) or not file.is_file():
            file = self._pages / "index.html"
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        self._answer(200, "text/javascript" if file.suffix == ".mjs" else kind, file.read_bytes())

    def _forward(self) -> None:
        request = urllib.request.Request(self._pacs_url + self.path)
        if "Accept" in self.headers:
            request.add_header("Accept", self.headers["Accept"])
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                self._answer(answer.status, answer.headers["Content-Type"], answer.read())
        except urllib.error.HTTPError as error:
            with error:
                self._answer(error.code, "text/plain", error.read())

    def _answer(self, status: int, kind: str | None, body: bytes) -> None:
        try:
            self.send_response(status)
            self.send_header("Content-Type", kind or "application/octet-stream")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            self.end_headers()
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
