"""Repeat failed HTTP requests, and resume interrupted downloads.

urllib3 repeats requests without an answer or with a status in `BUSY`, and waits as long as the
server requests, up to `LONGEST_WAIT_S`. It does not handle a body that ends too early; tenacity
repeats those. A server that sends little for `SLOW_S` is left, and another attempt made.
"""

import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import Self
from urllib.parse import urlsplit

import requests
import urllib3.exceptions as broken
from requests.adapters import HTTPAdapter
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt
from tenacity.wait import wait_random_exponential
from tqdm import tqdm
from urllib3 import BaseHTTPResponse
from urllib3.util import Retry

from peculiar.core.errors import InputError

BUSY = (429, 500, 502, 503, 504)
BACKOFF_S = 1.0
BACKOFF_MAX_S = 120.0
CHUNK = 2**20
LONGEST_WAIT_S = 300.0  # that a server may request (Retry-After)
SLOW_S, LEAST_BYTES_S = 30.0, 1000.0  # a body must come at this rate, over any such time


class Missing(Exception):
    """The server answered 404."""


class Failed(Exception):
    """All attempts failed; the message is a short reason."""


class Again(Failed):
    """An attempt failed, and another may succeed."""


class Slow(Again):
    """An attempt came too slowly."""


class Patience(Retry):
    """Repeats of a request, which do not wait for longer than `LONGEST_WAIT_S`."""

    def get_retry_after(self, response: BaseHTTPResponse) -> float | None:
        """Time that the server requests, s; `Failed` if it is too long."""
        wait_s = super().get_retry_after(response)
        if wait_s is not None and wait_s > LONGEST_WAIT_S:
            raise Failed(f"the server asks to wait {wait_s:.0f} s")
        return wait_s


class Progress:
    """A progress bar of galaxies with the download rate, updated by several threads."""

    def __init__(self, total: int) -> None:
        # miniters=0: refreshed by time only, since one galaxy can take minutes
        self._bar = tqdm(total=total, desc="download", unit="galaxy", miniters=0)
        self._lock, self._start, self._bytes = Lock(), time.monotonic(), 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def received(self, count: int) -> None:
        """Count received bytes."""
        with self._lock:
            self._bytes += count
            rate = self._bytes / 1e6 / max(time.monotonic() - self._start, 1e-3)
            self._bar.set_postfix_str(f"{self._bytes / 1e6:.0f} MB, {rate:.2f} MB/s", refresh=False)
            self._bar.update(0)

    def done(self) -> None:
        """Count a finished galaxy."""
        with self._lock:
            self._bar.update()

    def write(self, line: str) -> None:
        """Print a line above the bar."""
        tqdm.write(line, file=sys.stderr)


class Session(requests.Session):
    """HTTP session with one host, with API key and retries; for use in one thread.

    Parameters
    ----------
    key : str
        Sent in the header `api-key`, to this host only.
    key_advice : str
        Advice in the error message when the key is not accepted.
    attempts : int
        Number of attempts before a request counts as failed.
    timeout_s : float
        Time without an answer after which a connection is closed, s.
    """

    def __init__(self, key: str, key_advice: str, attempts: int, timeout_s: float) -> None:
        super().__init__()
        self.key_advice, self.attempts, self.timeout_s = key_advice, attempts, timeout_s
        # not compressed, so that lengths and ranges count bytes of the file
        self.headers.update({"api-key": key, "Accept-Encoding": "identity"})
        retries = Patience(
            total=attempts - 1,
            status_forcelist=BUSY,
            backoff_factor=BACKOFF_S,
            backoff_jitter=BACKOFF_S,
            backoff_max=BACKOFF_MAX_S,
            raise_on_status=False,
        )
        for scheme in ("http://", "https://"):
            self.mount(scheme, HTTPAdapter(max_retries=retries))

    def rebuild_auth(
        self, prepared_request: requests.PreparedRequest, response: requests.Response
    ) -> None:
        """Remove the key from a request to another host; requests removes only Authorization."""
        super().rebuild_auth(prepared_request, response)  # type: ignore[no-untyped-call]
        if self.should_strip_auth(response.request.url, prepared_request.url):  # type: ignore[no-untyped-call]
            prepared_request.headers.pop("api-key", None)

    def ask(self, url: str, headers: dict[str, str] | None = None) -> requests.Response:
        """Send GET and return the answer.

        Raises
        ------
        InputError
            When the key is not accepted (status 401 or 403).
        Missing
            For status 404.
        Failed
            When there is no answer, or for another status than 200, 206 or 416.
        """
        try:
            response = self.get(url, headers=headers, stream=True, timeout=self.timeout_s)
        except (requests.RequestException, broken.HTTPError) as error:
            raise Failed(_phrase(error)) from None
        status = response.status_code
        if status in (200, 206, 416):
            return response
        response.close()
        if status in (401, 403):
            raise self._refused(response, url)
        if status == 404:
            raise Missing(f"{plain(url)} does not exist")
        raise Failed(f"HTTP {status}")

    def _refused(self, response: requests.Response, url: str) -> InputError:
        status, there = response.status_code, urlsplit(response.url)
        if response.history and "api-key" not in response.request.headers:
            where = there._replace(path="", query="", fragment="").geturl()
            return InputError(
                f"{plain(url)} redirects to {where}, which requires the API key (HTTP {status}), "
                "but it was not sent: correct the URL in params.yaml if the API has moved"
            )
        return InputError(
            f"{there.hostname} does not accept the API key (HTTP {status}): {self.key_advice}"
        )


def plain(url: str) -> str:
    """The URL without its query."""
    return urlsplit(url)._replace(query="", fragment="").geturl()


def retrying(session: Session, *faults: type[Exception]) -> Retrying:
    """Retry a function after exceptions of the kinds `faults`, up to `session.attempts` calls."""
    return Retrying(
        retry=retry_if_exception_type(faults),
        stop=stop_after_attempt(session.attempts),
        wait=wait_random_exponential(multiplier=BACKOFF_S, max=BACKOFF_MAX_S),
        reraise=True,
    )


def _phrase(error: Exception) -> str:
    """State briefly why there is no answer; messages of requests would contain the URL."""
    cause = error.args[0] if error.args else error
    cause = getattr(cause, "reason", cause)
    for kind, phrase in {
        requests.TooManyRedirects: "too many redirects",
        requests.exceptions.InvalidURL: "invalid URL",
        broken.NameResolutionError: "host name not found",
        broken.NewConnectionError: "no connection",
        broken.TimeoutError: "no answer in time",
        broken.SSLError: "no trusted connection",
    }.items():
        if isinstance(cause, kind) or isinstance(error, kind):
            return phrase
    return "connection broken"


def download(
    session: Session,
    url: str,
    part: Path,
    right_name: Callable[[str], bool] = lambda _: True,
    received: Callable[[int], None] = lambda _: None,
) -> None:
    """Download a file; resume if an earlier attempt or process left a part of it.

    The download fails when `session.attempts` attempts in a row have not extended `part`, or were
    too slow. A connection that breaks every few megabytes therefore still completes.

    Parameters
    ----------
    session : Session
        Sends the requests.
    url : str
        Address of the file.
    part : Path
        File to write. The name that the server suggests is never used as a path.
    right_name : callable
        Maps the server's `Content-Disposition` to whether it fits the requested file.
    received : callable
        Called with the length of each piece received, bytes.

    Raises
    ------
    Missing, Failed
        When there is no such file, or all attempts failed.
    InputError
        When the key is not accepted.
    """
    longest, in_vain = 0, 0

    def stuck(state: RetryCallState) -> bool:
        nonlocal longest, in_vain
        size = _size(part)
        slow = state.outcome is not None and isinstance(state.outcome.exception(), Slow)
        in_vain = 0 if size > longest and not slow else in_vain + 1
        longest = max(longest, size)
        return in_vain >= session.attempts

    def attempt() -> None:
        size = _size(part)
        with session.ask(url, _rest(part, size)) as response:
            if response.status_code == 416 and _content_range(response) == (None, size):
                return  # `part` was complete already
            if not right_name(response.headers.get("Content-Disposition", "")):
                raise Again("the server sent another file")
            if response.headers.get("Content-Type", "").startswith("text/"):
                raise Again("the server sent a page of text")  # such as one about maintenance
            _receive(response, part, _begin(response, part, size), received)

    def pause(_: RetryCallState) -> float:
        return random.uniform(0, min(BACKOFF_S * 2**in_vain, BACKOFF_MAX_S))

    retrying(session, Again).copy(stop=stuck, wait=pause)(attempt)


def _receive(
    response: requests.Response, part: Path, length: int | None, received: Callable[[int], None]
) -> None:
    """Append the body to `part`, and check that it is then `length` bytes long, if known."""
    with part.open("ab") as file:
        try:
            for piece in pieces(response):
                file.write(piece)
                received(len(piece))
        except broken.HTTPError:
            raise Again(f"connection cut after {file.tell()} bytes") from None
    if length is not None and _size(part) != length:
        if _size(part) > length:
            discard(part)
        raise Again(f"not {length} bytes long")


def pieces(response: requests.Response) -> Iterator[bytes]:
    """Yield the body as it arrives.

    Raises
    ------
    Slow
        When it comes at less than `LEAST_BYTES_S` for `SLOW_S`.
    urllib3.exceptions.HTTPError
        When the connection is cut, or nothing comes for the session's `timeout_s`.
    """
    begin, count = time.monotonic(), 0
    # read1 returns what has arrived; read would lose up to a chunk at an interruption
    while piece := response.raw.read1(CHUNK, decode_content=False):
        yield piece
        count += len(piece)
        elapsed = time.monotonic() - begin
        if elapsed > SLOW_S:
            if count < LEAST_BYTES_S * elapsed:
                raise Slow(f"less than {LEAST_BYTES_S:.0f} bytes a second for {SLOW_S:.0f} s")
            begin, count = time.monotonic(), 0


def discard(part: Path) -> None:
    """Remove a part and the file with its version."""
    part.unlink(missing_ok=True)
    _validator(part).unlink(missing_ok=True)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _validator(part: Path) -> Path:
    """File with the version of a part; without it the download starts again."""
    return part.with_name(f"{part.name}.version")


def _rest(part: Path, size: int) -> dict[str, str]:
    """Headers that request the bytes after the first `size`, if the file is unchanged."""
    if not size:
        return {}
    try:  # a thread of a call that failed may remove it meanwhile
        version = _validator(part).read_text()
    except FileNotFoundError:
        version = ""
    return {"Range": f"bytes={size}-"} | ({"If-Range": version} if version else {})


def _begin(response: requests.Response, part: Path, size: int) -> int | None:
    """Prepare `part` for appending and return the length of the complete file, bytes, if known."""
    if response.status_code == 200:
        part.write_bytes(b"")
        tag = response.headers.get("ETag", "")
        weak = not tag or tag.startswith("W/")  # not valid for ranges (RFC 9110, 13.1.5)
        _validator(part).write_text(response.headers.get("Last-Modified", "") if weak else tag)
        announced = response.headers.get("Content-Length", "")
        return int(announced) if announced.isdecimal() else None
    start, length = _content_range(response)
    if response.status_code == 416 or start != size:
        discard(part)
        raise Again("the server did not send the requested range")
    return length


def _content_range(response: requests.Response) -> tuple[int | None, int | None]:
    """First byte and length of the complete file, as far as the server gives them."""
    field = response.headers.get("Content-Range", "")
    match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(?:(\d+)|\*)", field.strip())
    start, length = match.groups() if match else (None, None)
    return int(start) if start else None, int(length) if length else None
