"""A server on this machine that imitates the Illustris API and its faults."""

import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import parse_qs, urlsplit

import numpy as np
from astropy.io import fits

from peculiar.galaxies.standin.simulation import write_broadband

KEY = "0123456789abcdef-a-secret"
HUBBLE = 0.704
PIECE = 2**14
FAULTS = ("429", "500", "502", "503", "cut", "garbage", "hostile", "wrong name", "stall")
IMAGE = "/stellar_mocks/broadband.fits"


@dataclass(frozen=True)
class Subhalo:
    """Properties of a subhalo on the server."""

    id: int
    log10_mass: float = 10.5
    primary: bool = True
    image: bool = True

    def details(self) -> dict:
        return {
            "id": self.id,
            "primary_flag": int(self.primary),
            "mass_stars": 10 ** (self.log10_mass - 10) * HUBBLE,
            "halfmassrad_stars": 5.0 * HUBBLE,
            "stellarphotometrics_u": -18.0,
            **{f"stellarphotometrics_{band}": -20.0 - k for k, band in enumerate("griz")},
        }


@cache
def broadband(number: int, pixels: int = 16, filters: int = 36) -> bytes:
    """A file as in Illustris: 36 filters, cubes with and without scattering, tables."""
    images = np.random.default_rng(number).random((4, 5, pixels, pixels), dtype=np.float32)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"broadband_{number}.fits"
        write_broadband(path, number, 9.0, images, fov_kpc=50.0 + number)
        with fits.open(path, memmap=False) as hdus:
            del hdus[0].header["LOGMSTAR"], hdus[0].header["SUBHALO"]
            table = hdus["FILTERS"].data
            rows = np.r_[[0, 0], np.arange(5), np.zeros(filters - 7, int)]
            hdus["FILTERS"] = fits.BinTableHDU(table[rows], name="FILTERS")
            for row in {*range(filters)} - {*range(2, 7)}:
                hdus["FILTERS"].data["filter"][row] = f"other_{row}.res"
            for camera in range(4):
                cube = hdus[f"CAMERA{camera}-BROADBAND-NONSCATTER"]
                cube.data = np.resize(cube.data, (filters, pixels, pixels))
                cube.data[2:7] = images[camera]
            hdus.append(fits.ImageHDU(np.zeros(100), name="INTEGRATED_QUANTITIES"))
            hdus.append(fits.ImageHDU(np.ones((9, 9)), name="CAMERA0-AUX"))
            hdus.writeto(path, overwrite=True)
        return path.read_bytes()


def garbage(content: bytes, pixels: int, plane: int = 3, seed: int = 1) -> bytes:
    """The same length, with a part of one plane (u is 2, g is 3, ...) of a cube overwritten."""
    header = content.index(b"CAMERA1-BROADBAND-NONSCATTER") // 2880 * 2880
    start = header + 2880 + plane * 4 * pixels**2
    block = random.Random(seed).randbytes(4 * pixels**2)
    return content[:start] + block + content[start + len(block) :]


@dataclass
class Behaviour:
    """Settings of the server; `fault(path, n)` names the fault at the n-th request of a path."""

    subhaloes: list[Subhalo] = field(default_factory=list)
    fault: Callable[[str, int], str] = lambda _path, _n: ""
    ranges: bool = True
    filters_work: bool = True
    retry_after: str = "0"
    data_host: str = "127.0.0.1"
    etag: str = '"{number}"'
    delay_s: float = 0.0
    pixels: int = 16
    filters: int = 36
    damaged_plane: int = 3
    moved_to: str = ""
    page_link: str = "{base}{path}"

    def content(self, number: int) -> bytes:
        return broadband(number, self.pixels, self.filters)


def faults(rate: float, seed: int = 0) -> Callable[[str, int], str]:
    """Faults of all kinds at a given rate, independent of the order of requests."""

    def fault(path: str, n: int) -> str:
        dice = random.Random(f"{seed} {path} {n}")
        return dice.choice(FAULTS) if dice.random() < rate else ""

    return fault


class Server(ThreadingHTTPServer):
    """Serves `behaviour`; `requests` are (path with query, headers) in order."""

    daemon_threads = True
    request_queue_size = 50

    def __init__(self, behaviour: Behaviour) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviour = behaviour
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.faults: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self.sent = 0
        self.changed = threading.Condition()
        self.stopped = threading.Event()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def paths(self, ending: str = "") -> list[str]:
        """Requested paths with a given ending, without queries."""
        paths = [urlsplit(path).path for path, _ in self.requests]
        return [path for path in paths if path.endswith(ending)]

    def wait_for(self, ready: Callable[[], bool], timeout_s: float = 60) -> None:
        """Wait until a condition is true; it is checked after each request and piece."""
        with self.changed:
            assert self.changed.wait_for(ready, timeout_s)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore errors of clients that disconnect."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        server, behaviour = self.server, self.server.behaviour
        with server.changed:
            server.requests.append((self.path, dict(self.headers)))
            fault = behaviour.fault(path, server.counts[path])
            server.counts[path] += 1
            server.faults[fault] += 1
            server.changed.notify_all()
        server.stopped.wait(behaviour.delay_s)
        if fault.isdecimal():
            headers = {"Retry-After": behaviour.retry_after} if fault in ("429", "503") else {}
            return self.answer(int(fault), b"busy", headers)
        if path.startswith("/data/"):
            return self.data(int(path.split("/")[2]), fault)
        if behaviour.moved_to and self.headers["Host"].startswith("127"):
            return self.answer(301, b"", {"Location": behaviour.moved_to + self.path})
        key = self.headers.get("api-key")
        if key != KEY:
            return self.answer(401 if key is None else 403, b"{}")
        if "/subhalos/" not in path:
            return self.answer(404, b"{}")
        return self.api(path.split("/subhalos/")[1].rstrip("/"), fault)

    def api(self, rest: str, fault: str) -> None:
        behaviour = self.server.behaviour
        if not rest:
            return self.json(self.page(), fault)
        known = {subhalo.id: subhalo for subhalo in behaviour.subhaloes}
        subhalo = known.get(int(rest.split("/")[0]))
        if subhalo is None or (rest.endswith(IMAGE) and not subhalo.image):
            return self.answer(404, b"{}")
        if not rest.endswith(IMAGE):
            return self.json(subhalo.details(), fault)
        where = f"http://{behaviour.data_host}:{self.server.server_address[1]}"
        location = f"{where}/data/{subhalo.id}?token=also-secret"
        return self.answer(302, b"", {"Location": location})

    def page(self) -> dict:
        behaviour = self.server.behaviour
        query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        found = [subhalo.details() for subhalo in behaviour.subhaloes]
        if behaviour.filters_work:
            found = [item for item in found if item["mass_stars"] > float(query["mass_stars__gt"])]
            found = [i for i in found if i["primary_flag"] or "primary_flag" not in query]
        limit, offset = int(query["limit"]), int(query.get("offset", 0))
        rest = self.path.split("&offset=")[0] + f"&offset={offset + limit}"
        link = behaviour.page_link.format(base=self.server.base, path=rest)
        return {
            "count": len(found),
            "next": link if offset + limit < len(found) else None,
            "previous": None,
            "results": [{"id": i["id"], "url": "..."} for i in found[offset : offset + limit]],
        }

    def json(self, content: dict, fault: str) -> None:
        self.answer(200, json.dumps(content).encode(), fault=fault)

    def data(self, number: int, fault: str) -> None:
        behaviour = self.server.behaviour
        content = behaviour.content(number)
        etag = behaviour.etag.format(number=number)
        name = {"hostile": "../../x", "wrong name": "broadband_999999.fits"}.get(
            fault, f"broadband_{number}.fits"
        )
        headers = {"Content-Disposition": f"attachment; filename={name}"}
        if etag:
            headers["ETag"] = etag
        if fault == "page":
            return self.answer(200, b"<html>back soon</html>", {"Content-Type": "text/html"})
        if fault in ("garbage", "noise"):  # noise is different each time
            seed = 1 if fault == "garbage" else self.server.counts[f"/data/{number}"]
            content = garbage(content, behaviour.pixels, behaviour.damaged_plane, seed)
        asked = self.headers.get("Range") if behaviour.ranges else None
        if asked is None or self.headers.get("If-Range", etag) != etag:
            return self.answer(200, content, headers, fault)
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            return self.answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return self.answer(206, content[start:], headers, fault)

    def answer(
        self, status: int, content: bytes, headers: dict | None = None, fault: str = ""
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if fault == "trickle":
            self.trickle(content)
        half = content[: len(content) // 2]
        short = {"cut": half, "stall": half, "trickle": b""}.get(fault, content)
        for start in range(0, len(short), PIECE):
            self.wfile.write(short[start : start + PIECE])
            with self.server.changed:
                self.server.sent += len(short[start : start + PIECE])
                self.server.changed.notify_all()
        if fault == "stall":
            self.wfile.flush()
            self.server.stopped.wait(20)
        if len(short) < len(content):
            self.close_connection = True

    def trickle(self, content: bytes) -> None:
        """Send a byte each hundredth of a second."""
        for byte in content:
            self.wfile.write(bytes([byte]))
            if self.server.stopped.wait(0.01):
                break


@contextmanager
def running(behaviour: Behaviour) -> Iterator[Server]:
    """A server that runs inside the `with` block."""
    server = Server(behaviour)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopped.set()
        server.shutdown()
        thread.join()
        server.server_close()


def order(folder: Path, server: Server, **changes: object) -> dict:
    """Section `fetch.illustris` for that server, as plain values."""
    return {
        "url": f"{server.base}/api",
        "simulation": "Illustris-1",
        "snapshot": 135,
        "catalogue": None,
        "log10_mass_min": 10.0,
        "primary": True,
        "galaxies": None,
        "folder": str(folder),
        "connections": 3,
        "attempts": 8,
        "timeout_s": 5.0,
        **changes,
    }


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a store, except its lock."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
