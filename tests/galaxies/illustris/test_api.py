"""The client of Illustris' API, against a local server with the faults of a real one."""

import errno
import logging
import socket
import time
import traceback
from pathlib import Path

import numpy as np
import pytest
import requests
import urllib3.exceptions as broken

from builders.illustris_server import KEY, Behaviour, Subhalo, broadband, running
from peculiar.core.errors import InputError
from peculiar.galaxies.illustris import api, http
from peculiar.galaxies.illustris.http import Failed, Missing

SUBHALOES = [Subhalo(number) for number in (7, 8, 9)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(http, "BACKOFF_S", 0.001)


@pytest.fixture
def server():
    broadband(7)  # made once, which takes longer than some tests wait for an answer
    with running(Behaviour(list(SUBHALOES))) as server:
        yield server


@pytest.fixture
def snapshot(server):
    return f"{server.base}/api/Illustris-1/snapshots/135"


@pytest.fixture
def session():
    with api.open_session(KEY, attempts=4, timeout_s=2.0) as session:
        yield session


@pytest.fixture
def part(tmp_path):
    return tmp_path / "broadband_7.fits"


def only(*kinds, on="/data/7"):
    """A fault at the first request of a path, another at the second, ...; then none."""
    return lambda path, n: kinds[n] if path.startswith(on) and n < len(kinds) else ""


# the key


@pytest.fixture
def key_file(tmp_path, monkeypatch):
    monkeypatch.delenv("ILLUSTRIS_API_KEY", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = tmp_path / "peculiar/illustris_api_key"
    file.parent.mkdir()
    return file


def test_the_key_comes_from_the_environment_else_from_its_file(key_file, monkeypatch):
    key_file.write_text("from-file\n")
    assert api.read_key() == "from-file"
    monkeypatch.setenv("ILLUSTRIS_API_KEY", " from-environment ")
    assert api.read_key() == "from-environment"
    monkeypatch.setenv("ILLUSTRIS_API_KEY", " ")
    assert api.read_key() == "from-file"


def test_the_file_is_in_the_home_folder_by_default(tmp_path, monkeypatch):
    monkeypatch.delenv("ILLUSTRIS_API_KEY", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match=f"{tmp_path}/.config/peculiar/illustris_api_key"):
        api.read_key()


@pytest.mark.parametrize(
    "content", [b"two words", b"two\nlines", "schlüssel".encode(), b"\xff\x00"]
)
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(key_file, content):
    key_file.write_bytes(content)
    with pytest.raises(InputError, match="has characters that are not allowed: reg") as refusal:
        api.read_key()
    assert content.decode(errors="replace") not in str(refusal.value)


def test_a_missing_key_is_one_sentence_with_where_to_get_it(key_file):
    with pytest.raises(InputError) as refusal:
        api.read_key()
    assert str(refusal.value) == (
        "there is no Illustris API key: register at www.illustris-project.org or "
        "www.tng-project.org to get one, and put it in the environment variable "
        f"ILLUSTRIS_API_KEY or the file {key_file}"
    )
    key_file.write_text("\n")
    with pytest.raises(InputError, match="there is no Illustris API key"):
        api.read_key()


@pytest.mark.parametrize(("key", "status"), [("wrong", 403), ("", 401)])
def test_a_key_that_is_not_accepted_is_one_sentence(snapshot, key, status):
    with api.open_session(key or "x", 4, 2.0) as session:
        if not key:
            del session.headers["api-key"]
        words = (
            rf"127.0.0.1 does not accept the API key \(HTTP {status}\): register at .* put it in"
        )
        with pytest.raises(InputError, match=words) as refusal:
            api.details(session, snapshot, 7)
    assert "wrong" not in str(refusal.value)


def test_the_key_is_not_sent_to_another_host(server, session, snapshot, part):
    server.behaviour.data_host = "localhost"
    api.download_images(session, snapshot, 7, part)
    asked, sent_on = server.requests
    assert asked[1]["api-key"] == KEY
    assert "api-key" not in sent_on[1]
    assert part.read_bytes() == broadband(7)


def test_the_key_is_kept_on_the_same_host_and_dropped_where_encryption_is(session):
    def redirected(old, new):
        response = requests.Response()
        response.request = requests.Request("GET", old).prepare()
        request = requests.Request("GET", new, headers={"api-key": KEY}).prepare()
        session.rebuild_auth(request, response)
        return "api-key" in request.headers

    assert redirected("http://a.org/x", "http://a.org/y")
    assert redirected("http://a.org/x", "https://a.org/x")
    assert not redirected("https://a.org/x", "http://a.org/x")
    assert not redirected("http://a.org/x", "http://b.org/x")
    assert not redirected("http://a.org/x", "http://a.org:8080/x")


def test_a_host_that_the_api_has_moved_to_is_named(server, session, snapshot):
    server.behaviour.moved_to = server.base.replace("127.0.0.1", "localhost")
    port = server.server_address[1]
    words = (
        rf"127.0.0.1:{port}/api/.*/7/ redirects to http://localhost:{port}, which requires "
        r"the API key \(HTTP 401\), but it was not sent: correct the URL"
    )
    with pytest.raises(InputError, match=words):
        api.details(session, snapshot, 7)


def test_a_port_that_the_api_has_moved_to_is_named(server, session, snapshot):
    with running(Behaviour(list(SUBHALOES))) as other:
        server.behaviour.moved_to = other.base
        with pytest.raises(
            InputError, match=rf" redirects to {other.base}, which requires the API"
        ):
            api.details(session, snapshot, 7)
        assert "api-key" not in other.requests[0][1]


def chain(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def test_the_key_is_in_no_log_and_no_exception(server, session, snapshot, part, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    server.behaviour.fault = lambda path, n: ["500", "stall"][n % 2] * path.startswith("/data")
    server.behaviour.ranges = False
    texts = []
    for port in (server.server_address[1], 9):
        where = snapshot.replace(str(server.server_address[1]), str(port))
        with api.open_session(KEY, 2, 0.3) as impatient, pytest.raises(Failed) as failure:
            api.download_images(impatient, where, 7, part)
        texts += [f"{error} {error!r} {error.args}" for error in chain(failure.value)]
        texts += traceback.format_exception(failure.value)
    with api.open_session(f"{KEY}-wrong", 2, 2.0) as wrong, pytest.raises(InputError) as refusal:
        api.details(wrong, snapshot, 7)
    texts += [str(refusal.value), repr(wrong), repr(session), *capfd.readouterr()]
    assert len(caplog.records) > 5
    assert len(server.requests) > 4
    texts += [record.getMessage() + repr(record.__dict__) for record in caplog.records]
    assert not [text for text in texts if KEY in text]


# lists and numbers


def numbers(session, snapshot, log10_mass_min=10.0, primary=True):
    return list(api.subhaloes(session, snapshot, log10_mass_min, primary))


def test_pages_are_followed_to_the_end(server, session, snapshot):
    server.behaviour.subhaloes = [Subhalo(number) for number in range(250)]
    server.behaviour.subhaloes += [Subhalo(300, log10_mass=9.99), Subhalo(301, primary=False)]
    server.behaviour.subhaloes += [Subhalo(302, log10_mass=10.0)]
    assert numbers(session, snapshot) == [*range(250), 302]
    assert len(server.requests) == 3
    assert "limit=100&mass_stars__gt=0.703999296&primary_flag=1" in server.requests[0][0]
    assert numbers(session, snapshot, primary=False) == [*range(250), 301, 302]


def test_a_next_page_is_requested_with_the_scheme_of_the_first(server, session, snapshot):
    server.behaviour.subhaloes = [Subhalo(number) for number in range(150)]
    server.behaviour.page_link = "https://127.0.0.1{path}"
    assert len(numbers(session, snapshot)) == 150


@pytest.mark.parametrize(
    ("link", "why"),
    [
        ("http://elsewhere.org{path}", "ValueError: the next page is on elsewhere.org"),
        (
            "{base}/api/Illustris-1/snapshots/135/subhalos/?limit=100&mass_stars__gt=0",
            "pages repeat",
        ),
    ],
)
def test_pages_that_lead_astray_are_refused(server, session, snapshot, link, why):
    server.behaviour.subhaloes = [Subhalo(number) for number in range(250)]
    server.behaviour.page_link = link
    with pytest.raises(
        InputError, match=rf"135/subhalos/ gives an answer of unknown form \(.*{why}"
    ):
        numbers(session, snapshot)


def test_a_next_page_whose_path_looks_like_a_host_stays_on_ours(server, session, snapshot):
    server.behaviour.subhaloes = [Subhalo(number) for number in range(150)]
    with running(Behaviour([])) as other:
        server.behaviour.page_link = "{base}//" + other.base.removeprefix("http://") + "{path}"
        assert len(numbers(session, snapshot)) == 150
        assert other.requests == []
    assert "127.0.0.1:" in server.requests[1][0]  # as a path
    link = "http://h.org//evil.com/x"
    assert api._on_same_host("https://h.org/a", link) == "https://h.org//evil.com/x"


def test_details_are_in_kpc_and_solar_masses(server, session, snapshot):
    server.behaviour.subhaloes = [Subhalo(7, log10_mass=11.25, primary=False)]
    details = api.details(session, snapshot, 7)
    assert (details.id, details.primary) == (7, False)
    assert details.log10_stellar_mass == pytest.approx(11.25, abs=1e-12)
    assert details.half_mass_radius_kpc == pytest.approx(5.0)
    assert details.absolute_mag == {"g": -20.0, "r": -21.0, "i": -22.0, "z": -23.0}


def test_details_without_stars_are_infinitely_light(server, session, snapshot):
    server.behaviour.subhaloes = [Subhalo(7, log10_mass=-float("inf"))]
    assert api.details(session, snapshot, 7).log10_stellar_mass == -float("inf")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"mass_stars": None}, "TypeError"),
        ({"halfmassrad_stars": "wide"}, "ValueError: could not convert"),
        ({"stellarphotometrics_r": [1]}, "TypeError"),
        ({"id": 8}, "ValueError: it describes subhalo 8"),
        ({"mass_stars": -1.0}, "ValueError"),
        ("drop", "KeyError: 'primary_flag'"),
        (["list"], "TypeError"),
    ],
)
def test_details_of_another_form_are_refused(session, snapshot, monkeypatch, change, why):
    answer = Subhalo(7).details()
    if change == "drop":
        del answer["primary_flag"]
    answer = answer | change if isinstance(change, dict) else answer
    answer = change if isinstance(change, list) else answer
    monkeypatch.setattr(Subhalo, "details", lambda _: answer)
    with pytest.raises(Failed, match=rf"^its properties have an unknown form \({why}"):
        api.details(session, snapshot, 7)


@pytest.mark.parametrize("change", [dict.pop, lambda answer, name: answer.update({name: None})])
def test_magnitudes_and_a_radius_that_are_missing_are_nan(session, snapshot, monkeypatch, change):
    answer = Subhalo(7, log10_mass=11).details()
    for name in ("halfmassrad_stars", *(f"stellarphotometrics_{band}" for band in "ri")):
        change(answer, name)
    monkeypatch.setattr(Subhalo, "details", lambda _: answer)
    details = api.details(session, snapshot, 7)
    assert details.log10_stellar_mass == pytest.approx(11)
    expected = [np.nan, -20.0, np.nan, np.nan, -23.0]
    found = [details.half_mass_radius_kpc, *details.absolute_mag.values()]
    np.testing.assert_array_equal(found, expected)
    assert {*details.cards()} == {"SUBHALO", "PRIMARY", "LOGMSTAR", "ABSMAG_G", "ABSMAG_Z"}


@pytest.mark.parametrize("listed", [{"results": []}, {"results": [{"id": "7"}], "next": None}, 5])
def test_lists_of_another_form_are_refused(session, snapshot, monkeypatch, listed):
    monkeypatch.setattr("builders.illustris_server.Handler.page", lambda _: listed)
    with pytest.raises(InputError, match="gives an answer of unknown form"):
        numbers(session, snapshot)


def test_an_answer_that_is_no_json_is_refused(session, snapshot, monkeypatch):
    monkeypatch.setattr("json.dumps", lambda *_: "<html>sign in</html>")
    with pytest.raises(InputError, match=r"/135/subhalos/ gives .*it is not JSON\): correct fet"):
        numbers(session, snapshot)
    with pytest.raises(Failed, match="it is not JSON"):
        api.details(session, snapshot, 7)


@pytest.mark.parametrize("kind", ["429", "500", "502", "503", "cut"])
def test_lists_and_numbers_survive_faults(server, session, snapshot, kind):
    server.behaviour.fault = only(kind, kind, on="/api")
    assert numbers(session, snapshot) == [7, 8, 9]
    assert api.details(session, snapshot, 7).id == 7


# images


@pytest.mark.parametrize("kind", ["429", "500", "502", "503", "504", "cut", "stall"])
def test_images_survive_faults(server, session, snapshot, part, kind):
    session.timeout_s = 0.3
    server.behaviour.fault = only(kind, kind)
    api.download_images(session, snapshot, 7, part)
    assert part.read_bytes() == broadband(7)
    assert server.faults[kind] == 2


def test_retry_after_is_honoured(server, session, snapshot, part):
    server.behaviour.retry_after = "1"
    server.behaviour.fault = only("429")
    begin = time.monotonic()
    api.download_images(session, snapshot, 7, part)
    assert 1 <= time.monotonic() - begin < 5


def ranges(server):
    """Range and If-Range of each request for the data."""
    return [
        (headers.get("Range"), headers.get("If-Range"))
        for path, headers in server.requests
        if path.startswith("/data/")
    ]


@pytest.mark.parametrize("wait_s", ["21600", "999999999999999999999"])
def test_a_server_that_asks_to_wait_for_hours_is_not_waited_for(server, session, snapshot, wait_s):
    server.behaviour.fault = lambda _path, n: "503" if n == 0 else ""
    server.behaviour.retry_after = wait_s
    with pytest.raises(Failed, match=r"^the server asks to wait \d{5,} s$"):
        api.details(session, snapshot, 7)
    assert api.details(session, snapshot, 7).id == 7  # the next call is another attempt


@pytest.fixture
def _slow(monkeypatch):
    monkeypatch.setattr(http, "SLOW_S", 0.2)


@pytest.mark.usefixtures("_slow")
def test_a_body_that_trickles_is_given_up_and_gone_on_with(server, session, snapshot, part):
    server.behaviour.fault = lambda path, _: "trickle" if path.startswith("/data/") else ""
    begin = time.monotonic()
    with pytest.raises(Failed, match=r"^less than 1000 bytes a second for 0 s$"):
        api.download_images(session, snapshot, 7, part)
    assert time.monotonic() - begin < 20
    assert len(server.paths("/data/7")) == session.attempts
    held = part.stat().st_size
    assert held > session.attempts  # each attempt went on where the one before had stopped
    server.behaviour.fault = only()
    asked = len(server.requests)
    api.download_images(session, snapshot, 7, part)
    assert part.read_bytes() == broadband(7)
    assert server.requests[asked + 1][1]["Range"] == f"bytes={held}-"


@pytest.mark.usefixtures("_slow")
def test_an_answer_that_trickles_is_given_up(server, session, snapshot):
    server.behaviour.fault = lambda _path, _n: "trickle"
    with pytest.raises(Failed, match="less than 1000 bytes a second"):
        api.details(session, snapshot, 7)


def test_an_answer_without_end_is_refused(session, snapshot, monkeypatch):
    monkeypatch.setattr(api, "LONGEST_ANSWER", 20)
    with pytest.raises(Failed, match="its properties have an unknown form"):
        api.details(session, snapshot, 7)


def test_a_broken_download_goes_on_where_it_broke_off(server, session, snapshot, part):
    server.behaviour.fault = only("cut")
    received = []
    api.download_images(session, snapshot, 7, part, received.append)
    half = len(broadband(7)) // 2
    assert ranges(server) == [(None, None), (f"bytes={half}-", '"7"')]
    assert sum(received) == len(broadband(7))
    assert part.read_bytes() == broadband(7)
    assert all(headers["Accept-Encoding"] == "identity" for _, headers in server.requests)


def interrupt(_):
    raise KeyboardInterrupt


def test_a_later_process_goes_on_with_the_part(server, session, snapshot, part):
    with pytest.raises(KeyboardInterrupt):
        api.download_images(session, snapshot, 7, part, interrupt)
    size = part.stat().st_size
    assert 0 < size < len(broadband(7))
    api.download_images(session, snapshot, 7, part)
    assert ranges(server)[1] == (f"bytes={size}-", '"7"')
    assert part.read_bytes() == broadband(7)


def test_a_file_that_has_changed_meanwhile_begins_anew(server, session, snapshot, part):
    part.write_bytes(b"old" * 1000)
    part.with_name("broadband_7.fits.version").write_text('"another"')
    api.download_images(session, snapshot, 7, part)
    assert ranges(server) == [("bytes=3000-", '"another"')]
    assert part.read_bytes() == broadband(7)


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_strong_etag_a_range_is_asked_for_all_the_same(
    server, session, snapshot, part, etag
):
    server.behaviour.etag = etag
    server.behaviour.fault = only("cut")
    api.download_images(session, snapshot, 7, part)
    assert ranges(server)[1] == (f"bytes={len(broadband(7)) // 2}-", None)
    assert part.read_bytes() == broadband(7)


def test_a_server_without_ranges_begins_anew(server, session, snapshot, part):
    server.behaviour.ranges = False
    server.behaviour.fault = only("cut", "cut")
    received = []
    api.download_images(session, snapshot, 7, part, received.append)
    assert sum(received) == 2 * len(broadband(7))
    assert part.read_bytes() == broadband(7)


def test_a_part_that_was_complete_is_not_downloaded_again(session, snapshot, part):
    part.write_bytes(broadband(7))
    received = []
    api.download_images(session, snapshot, 7, part, received.append)
    assert received == []
    assert part.read_bytes() == broadband(7)


def test_a_part_that_is_too_long_begins_anew(session, snapshot, part):
    part.write_bytes(broadband(7) + b"more")
    api.download_images(session, snapshot, 7, part)
    assert part.read_bytes() == broadband(7)


def test_another_range_than_asked_for_begins_anew(server, session, snapshot, part, monkeypatch):
    part.write_bytes(broadband(7)[:1000])
    answers = []

    def moved(response):
        answers.append(response.status_code)
        return (999, 5) if len(answers) == 1 else content_range(response)

    content_range = http._content_range
    monkeypatch.setattr(http, "_content_range", moved)
    api.download_images(session, snapshot, 7, part)
    assert answers == [206]
    assert ranges(server)[1] == (None, None)
    assert part.read_bytes() == broadband(7)


def test_many_breaks_come_to_an_end_as_long_as_each_brings_something(
    server, session, snapshot, part
):
    server.behaviour.fault = only(*["cut"] * 10)
    api.download_images(session, snapshot, 7, part)
    assert server.faults["cut"] == 10 > session.attempts
    assert part.read_bytes() == broadband(7)


def test_a_hostile_name_does_no_harm(server, session, snapshot, part):
    server.behaviour.fault = only("hostile")
    api.download_images(session, snapshot, 7, part)
    assert part.read_bytes() == broadband(7)
    assert not (part.parent.parent / "x").exists()
    assert not Path("../../x").exists()


def test_the_name_of_another_subhalo_is_not_taken(server, session, snapshot, part):
    server.behaviour.fault = only("wrong name")
    api.download_images(session, snapshot, 7, part)
    assert len(server.paths("/data/7")) == 2
    server.behaviour.fault = lambda *_: "wrong name"
    with pytest.raises(Failed, match="the server sent another file"):
        api.download_images(session, snapshot, 8, part.with_name("broadband_8.fits"))
    assert not part.with_name("broadband_8.fits").exists()


def test_a_page_of_text_is_not_taken_for_the_file(server, session, snapshot, part):
    server.behaviour.fault = only("page")
    api.download_images(session, snapshot, 7, part)
    assert part.read_bytes() == broadband(7)
    server.behaviour.fault = lambda path, _: "page" * path.startswith("/data/")
    with pytest.raises(Failed, match="the server sent a page of text"):
        api.download_images(session, snapshot, 8, part.with_name("broadband_8.fits"))


def test_a_missing_image_differs_from_a_failure(server, session, snapshot, part):
    with pytest.raises(Missing, match=r"/subhalos/6/stellar_mocks/broadband.fits does not exist"):
        api.download_images(session, snapshot, 6, part)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("kind", "reason"), [("503", "HTTP 503"), ("418", "HTTP 418"), ("stall", "connection cut")]
)
def test_what_fails_at_every_attempt_has_a_short_reason(
    server, session, snapshot, part, kind, reason
):
    session.timeout_s = 0.2
    server.behaviour.ranges = False
    server.behaviour.fault = lambda path, _: kind * path.startswith("/data/")
    with pytest.raises(Failed, match=rf"^{reason}") as failure:
        api.download_images(session, snapshot, 7, part)
    assert "token" not in str(failure.value)
    assert len(server.paths("/data/7")) == (1 if kind == "418" else 4 + (kind == "stall"))


def test_a_server_that_does_not_answer_has_a_short_reason(session, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.listen(50)
        session.timeout_s = 0.1
        with pytest.raises(Failed, match=r"^no answer in time$"):
            api.details(session, f"http://127.0.0.1:{silent.getsockname()[1]}/api", 7)
        port = silent.getsockname()[1]
    with pytest.raises(Failed, match=r"^no connection$"):
        api.download_images(session, f"http://127.0.0.1:{port}/api", 7, tmp_path / "part")


@pytest.mark.parametrize(
    ("error", "phrase"),
    [
        (requests.TooManyRedirects("30"), "too many redirects"),
        (requests.exceptions.SSLError(broken.SSLError("why")), "no trusted connection"),
        (requests.ConnectionError(broken.NameResolutionError("a", None, OSError())), "host name"),
        (requests.ConnectionError(broken.ProtocolError("http://a?token=b")), "connection broken"),
        (requests.exceptions.InvalidURL("http://a:b?token=c"), "invalid URL"),
    ],
)
def test_reasons_quote_no_address(error, phrase):
    assert http._phrase(error).startswith(phrase)


def test_a_body_longer_than_announced_is_not_kept(tmp_path):
    class Body:
        pieces = [b"12345", b"678"]  # noqa: RUF012

        def read1(self, *_, **__):
            return self.pieces.pop(0) if self.pieces else b""

    response = requests.Response()
    response.raw = Body()
    with pytest.raises(http.Again, match="not 7 bytes long"):
        http._receive(response, tmp_path / "part", 7, lambda _: None)
    assert not (tmp_path / "part").exists()


def test_a_full_disk_is_no_fault_of_the_server(server, session, snapshot, part, monkeypatch):
    opened = Path.open

    def full(path, *args, **kwargs):
        if path == part:  # what libraries open at their first request stays as it is
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match="No space left"):
        api.download_images(session, snapshot, 7, part)
    assert len(server.paths("/data/7")) == 1
