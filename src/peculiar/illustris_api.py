"""Client of Illustris' API: which subhaloes there are, their numbers, their images."""

import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urljoin, urlsplit

import requests

from peculiar.download import Again, Session, patiently, plain
from peculiar.download import download as download_file
from peculiar.errors import InputError

KEY_VARIABLE = "ILLUSTRIS_API_KEY"
HUBBLE = 0.704  # h of Illustris (Vogelsberger et al. 2014, MNRAS 444, 1518)
PAGE = 100
MAGNITUDES = ("g", "r", "i", "z")  # in AB; the catalogue's u is Johnson's U in Vega magnitudes


@dataclass(frozen=True)
class Details:
    """Numbers of one subhalo in the simulation's catalogue.

    Attributes
    ----------
    id : int
        Subhalo number.
    primary : bool
        Whether it is the primary subhalo of its halo.
    log10_stellar_mass : float
        log10(M*/Msun) of its bound stars; -inf where there are none.
    half_mass_radius_kpc : float
        Radius of the sphere that holds half of that mass, kpc.
    absolute_mag : dict of str to float
        Absolute AB magnitude in each band of `MAGNITUDES`, mag.
    """

    id: int
    primary: bool
    log10_stellar_mass: float
    half_mass_radius_kpc: float
    absolute_mag: dict[str, float]


def read_key() -> str:
    """Read the API key from the environment, else from its file.

    Raises
    ------
    InputError
        When there is none, or one that no HTTP header may hold; the key is not in the message.
    """
    file = _key_file()
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key and file.is_file():
        key = file.read_text(encoding="utf-8", errors="replace").strip()
    if not key:
        raise InputError(f"there is no Illustris API key: {_key_mend()}")
    if not re.fullmatch("[!-~]+", key):  # requests would print it in its complaint
        raise InputError(f"the Illustris API key has characters no key has: {_key_mend()}")
    return key


def _key_file() -> Path:
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(config).expanduser() / "peculiar/illustris_api_key"


def _key_mend() -> str:
    return (
        "register at www.illustris-project.org or www.tng-project.org to get one, and put it in "
        f"the environment variable {KEY_VARIABLE} or the file {_key_file()}"
    )


def connect(key: str, attempts: int, timeout_s: float) -> Session:
    """Give a session for the API, for one thread; see `download.Session`."""
    return Session(key, _key_mend(), attempts, timeout_s)


def subhaloes(
    session: Session, snapshot: str, log10_mass_min: float, primary: bool
) -> Iterator[int]:
    """Ask for the subhaloes of a snapshot, page by page.

    Parameters
    ----------
    session : Session
        From `connect`.
    snapshot : str
        URL of the snapshot, without a slash at the end.
    log10_mass_min : float
        Least log10(M*/Msun). The server may ignore it, so `details` decide.
    primary : bool
        Only primary subhaloes; the same holds.

    Yields
    ------
    int
        Subhalo numbers, in the server's order.

    Raises
    ------
    InputError
        When an answer is of another form, or leads elsewhere.
    Missing, Failed
        When there is no list, or it cannot be had.
    """
    # a little less, since the server excludes the limit itself and the text is rounded
    mass = 10 ** (log10_mass_min - 10) * HUBBLE * (1 - 1e-6)
    query: dict[str, object] = {"limit": PAGE, "mass_stars__gt": f"{mass:.9g}"}
    if primary:
        query["primary_flag"] = 1
    following: str | None = f"{snapshot}/subhalos/?{urlencode(query)}"
    asked = set()
    while following is not None:
        url = following
        if url in asked:
            raise _unexpected(url, ValueError("its pages go in a circle"))
        asked.add(url)
        page = _json(session, url)
        try:
            yield from [_subhalo(item["id"]) for item in page["results"]]
            following = _on_same_host(url, page["next"])
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise _unexpected(url, error) from None


def _subhalo(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no subhalo number")
    return value


def _on_same_host(url: str, link: str | None) -> str | None:
    """The link, asked for in the way of `url`: it may say http where we said https."""
    if link is None:
        return None
    parts = urlsplit(link)
    if parts.hostname != urlsplit(url).hostname:
        raise ValueError(f"the next page is on {parts.hostname}")
    return urljoin(url, parts._replace(scheme="", netloc="").geturl())


def details(session: Session, snapshot: str, subhalo: int) -> Details:
    """Ask for the numbers of one subhalo.

    Parameters
    ----------
    session : Session
        From `connect`.
    snapshot : str
        URL of the snapshot, without a slash at the end.
    subhalo : int
        Subhalo number.

    Returns
    -------
    Details
        In Msun and kpc, with the Hubble constant put in.

    Raises
    ------
    InputError
        When the answer is of another form.
    Missing, Failed
        When there is no such subhalo, or it cannot be had.
    """
    url = f"{snapshot}/subhalos/{subhalo}/"
    answer = _json(session, url)
    try:
        if answer["id"] != subhalo:
            raise ValueError(f"it is of subhalo {answer['id']}")
        mass_msun = float(answer["mass_stars"]) * 1e10 / HUBBLE
        mags = {band: float(answer[f"stellarphotometrics_{band}"]) for band in MAGNITUDES}
        return Details(
            id=subhalo,
            primary=int(answer["primary_flag"]) == 1,
            log10_stellar_mass=math.log10(mass_msun) if mass_msun else -math.inf,
            half_mass_radius_kpc=float(answer["halfmassrad_stars"]) / HUBBLE,
            absolute_mag=mags,
        )
    except (LookupError, TypeError, ValueError) as error:
        raise _unexpected(url, error) from None


def _json(session: Session, url: str) -> Any:
    """What the API answers; `InputError` where that is no JSON."""

    def once() -> Any:
        with session.ask(url) as response:
            try:
                return response.json()
            except (requests.exceptions.ChunkedEncodingError, requests.ConnectionError):
                raise Again("connection cut") from None

    try:
        return patiently(session, Again, ValueError)(once)
    except ValueError:
        raise InputError(f"{plain(url)} answers with no JSON: mend fetch.illustris.url") from None


def _unexpected(url: str, error: Exception) -> InputError:
    reason = f"{type(error).__name__}: {error}"[:100]
    return InputError(
        f"{plain(url)} answers in an unknown form ({reason}): mend "
        "fetch.illustris.url, or report that the API has changed"
    )


def download(
    session: Session,
    snapshot: str,
    subhalo: int,
    part: Path,
    received: Callable[[int], None] = lambda _: None,
) -> None:
    """Download the images of one subhalo into `part`; see `download.download`.

    Parameters
    ----------
    session : Session
        From `connect`.
    snapshot : str
        URL of the snapshot, without a slash at the end.
    subhalo : int
        Subhalo number.
    part : Path
        File to begin or to go on with.
    received : callable
        Is told of every piece, bytes.
    """

    def right_name(disposition: str) -> bool:
        """Whether it does not name the images of another subhalo."""
        named = re.search(r"broadband_(\d+)", disposition)
        return named is None or int(named[1]) == subhalo

    url = f"{snapshot}/subhalos/{subhalo}/stellar_mocks/broadband.fits"
    download_file(session, url, part, right_name, received)
