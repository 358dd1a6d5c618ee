"""Use the Illustris API: list subhaloes, read their properties, download their images."""

import json
import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import requests
import urllib3.exceptions as broken

from peculiar.core.errors import InputError
from peculiar.galaxies.illustris.http import Again, Failed, Session, pieces, plain, retrying
from peculiar.galaxies.illustris.http import download as download_file

KEY_VARIABLE = "ILLUSTRIS_API_KEY"
HUBBLE = 0.704  # h of Illustris (Vogelsberger et al. 2014, MNRAS 444, 1518)
PAGE = 100
LONGEST_ANSWER = 10**7  # bytes; a page of the list has some 10^4
MALFORMED = (LookupError, TypeError, ValueError, AttributeError)
"""Exceptions raised by an answer of unknown form."""
MAGNITUDES = ("g", "r", "i", "z")  # AB; u of the catalogue is Johnson U in Vega magnitudes


@dataclass(frozen=True)
class Details:
    """Properties of one subhalo in the simulation's catalogue.

    Attributes
    ----------
    id : int
        Subhalo number.
    primary : bool
        Whether it is the primary subhalo of its halo.
    log10_stellar_mass : float
        log10(M*/Msun) of its bound stars; -inf without stars.
    half_mass_radius_kpc : float
        Radius of the sphere with half of that mass, kpc.
    absolute_mag : dict of str to float
        Absolute AB magnitude in each band of `MAGNITUDES`, mag.
    """

    id: int
    primary: bool
    log10_stellar_mass: float
    half_mass_radius_kpc: float
    absolute_mag: dict[str, float]

    def cards(self) -> dict[str, tuple[float, str]]:
        """Values and comments for a FITS header; unknown (not finite) values are left out."""
        numbers = {
            "LOGMSTAR": (self.log10_stellar_mass, "log10(stellar mass / Msun)"),
            "HALFMASS": (self.half_mass_radius_kpc, "[kpc] stellar half-mass radius"),
        }
        for band, mag in self.absolute_mag.items():
            numbers[f"ABSMAG_{band.upper()}"] = (mag, "[mag] absolute, AB")
        return {
            "SUBHALO": (self.id, "number of the subhalo"),
            "PRIMARY": (self.primary, "primary subhalo of its halo"),
            **{name: card for name, card in numbers.items() if math.isfinite(card[0])},
        }


def read_key() -> str:
    """Read the API key from the environment variable, else from the file.

    Raises
    ------
    InputError
        When there is no key, or it has characters that HTTP headers forbid. The message does not
        contain the key.
    """
    file = _key_file()
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key and file.is_file():
        key = file.read_text(encoding="utf-8", errors="replace").strip()
    if not key:
        raise InputError(f"there is no Illustris API key: {_how_to_get_a_key()}")
    if not re.fullmatch("[!-~]+", key):  # the error of requests would show the key
        raise InputError(
            f"the Illustris API key has characters that are not allowed: {_how_to_get_a_key()}"
        )
    return key


def _key_file() -> Path:
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(config).expanduser() / "peculiar/illustris_api_key"


def _how_to_get_a_key() -> str:
    return (
        "register at www.illustris-project.org or www.tng-project.org to get one, and put it in "
        f"the environment variable {KEY_VARIABLE} or the file {_key_file()}"
    )


def open_session(key: str, attempts: int, timeout_s: float) -> Session:
    """Open a session with the API, for use in one thread; see `http.Session`."""
    return Session(key, _how_to_get_a_key(), attempts, timeout_s)


def subhaloes(
    session: Session, snapshot: str, log10_mass_min: float, primary: bool
) -> Iterator[int]:
    """List the subhaloes of a snapshot, page by page.

    Parameters
    ----------
    session : Session
        From `open_session`.
    snapshot : str
        URL of the snapshot, without a slash at the end.
    log10_mass_min : float
        Least log10(M*/Msun). The server may ignore it; check the mass in `details`.
    primary : bool
        List only primary subhaloes; the server may ignore it too.

    Yields
    ------
    int
        Subhalo numbers, in the server's order.

    Raises
    ------
    InputError
        When the key is not accepted, an answer has an unknown form, or the next page is on another
        host.
    Missing, Failed
        When there is no list, or all attempts failed.
    """
    # slightly less, since the server excludes the limit itself and the text is rounded
    mass = 10 ** (log10_mass_min - 10) * HUBBLE * (1 - 1e-6)
    query: dict[str, object] = {"limit": PAGE, "mass_stars__gt": f"{mass:.9g}"}
    if primary:
        query["primary_flag"] = 1
    following: str | None = f"{snapshot}/subhalos/?{urlencode(query)}"
    asked = set()
    while following is not None:
        url = following
        if url in asked:
            raise _unexpected(url, ValueError("its pages repeat"))
        asked.add(url)
        try:
            page = _json(session, url)
            yield from [_subhalo(item["id"]) for item in page["results"]]
            following = _on_same_host(url, page["next"])
        except MALFORMED as error:
            raise _unexpected(url, error) from None


def _subhalo(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is not a subhalo number")
    return value


def _on_same_host(url: str, link: str | None) -> str | None:
    """The link with scheme and host of `url`, since the server may give http in place of https."""
    if link is None:
        return None
    parts, base = urlsplit(link), urlsplit(url)
    if parts.hostname != base.hostname:
        raise ValueError(f"the next page is on {parts.hostname}")
    # urljoin would take a path that begins with // as a host, and the key would be sent there
    return parts._replace(scheme=base.scheme, netloc=base.netloc).geturl()


def details(session: Session, snapshot: str, subhalo: int) -> Details:
    """Read the properties of one subhalo.

    Parameters
    ----------
    session : Session
        From `open_session`.
    snapshot : str
        URL of the snapshot, without a slash at the end.
    subhalo : int
        Subhalo number.

    Returns
    -------
    Details
        In Msun and kpc, without factors of h; radius and magnitudes are NaN where the API does not
        give them.

    Raises
    ------
    InputError
        When the key is not accepted.
    Missing, Failed
        When there is no such subhalo, or all attempts failed, or the answer has an unknown form.
    """
    try:
        answer = _json(session, f"{snapshot}/subhalos/{subhalo}/")
        if answer["id"] != subhalo:
            raise ValueError(f"it describes subhalo {answer['id']}")
        mass_msun = float(answer["mass_stars"]) * 1e10 / HUBBLE
        mags = {band: _optional(answer, f"stellarphotometrics_{band}") for band in MAGNITUDES}
        return Details(
            id=subhalo,
            primary=int(answer["primary_flag"]) == 1,
            log10_stellar_mass=math.log10(mass_msun) if mass_msun else -math.inf,
            half_mass_radius_kpc=_optional(answer, "halfmassrad_stars") / HUBBLE,
            absolute_mag=mags,
        )
    except MALFORMED as error:
        raise Failed(f"its properties have an unknown form ({_brief(error)})") from None


def _optional(answer: dict[str, Any], name: str) -> float:
    """Number in an answer; NaN if missing."""
    value = answer.get(name)
    return math.nan if value is None else float(value)


def _json(session: Session, url: str) -> Any:
    """Read a JSON answer of the API, or raise `ValueError`."""

    def once() -> Any:
        with session.ask(url) as response:
            try:
                return json.loads(_text(response))
            except broken.HTTPError:
                raise Again("connection cut") from None
            except RecursionError:
                raise ValueError("it is nested too deeply") from None

    try:
        return retrying(session, Again, ValueError)(once)
    except ValueError:
        raise ValueError("it is not JSON") from None


def _text(response: requests.Response) -> bytes:
    """The body of an answer that should be short."""
    text = bytearray()
    for piece in pieces(response):
        text += piece
        if len(text) > LONGEST_ANSWER:
            raise ValueError(f"it is longer than {LONGEST_ANSWER} bytes")
    return bytes(text)


def _unexpected(url: str, error: Exception) -> InputError:
    return InputError(
        f"{plain(url)} gives an answer of unknown form ({_brief(error)}): correct "
        "fetch.illustris.url, or report that the API has changed"
    )


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:100]


def download_images(
    session: Session,
    snapshot: str,
    subhalo: int,
    part: Path,
    received: Callable[[int], None] = lambda _: None,
) -> None:
    """Download the images of one subhalo into `part`; see `http.download`.

    Parameters
    ----------
    session : Session
        From `open_session`.
    snapshot : str
        URL of the snapshot, without a slash at the end.
    subhalo : int
        Subhalo number.
    part : Path
        File to start or to resume.
    received : callable
        Called with the length of each piece received, bytes.

    Raises
    ------
    InputError, Missing, Failed
        As in `http.download`.
    """

    def right_name(disposition: str) -> bool:
        """Whether a `Content-Disposition` does not name another subhalo."""
        named = re.search(r"broadband_(\d+)", disposition)
        return named is None or int(named[1]) == subhalo

    url = f"{snapshot}/subhalos/{subhalo}/stellar_mocks/broadband.fits"
    download_file(session, url, part, right_name, received)
