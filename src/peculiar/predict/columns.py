"""Columns and flags of every table of predictions."""

from dataclasses import dataclass

from peculiar.core.photometry import BANDS


@dataclass(frozen=True)
class Column:
    """Unit (empty for text), meaning and printed format of a column."""

    unit: str
    description: str
    format: str | None = ".1f"


def _interval(end: str, per_cent: str) -> Column:
    return Column("km / s", f"{end} end of the central {per_cent} % interval of the posterior")


USED = {
    "cz": Column("km / s", "redshift used, times the speed of light, in the frame of the row"),
    "cz_error": Column("km / s", "standard deviation of cz"),
    "ra": Column("deg", "right ascension (ICRS) used, of the row or of the galaxy's file", ".5f"),
    "dec": Column("deg", "declination (ICRS) used, of the row or of the galaxy's file", ".5f"),
    "v_prior": Column("km / s", "mean of the prior on the peculiar velocity"),
    "v_prior_error": Column("km / s", "standard deviation of that prior"),
}
"""Columns of what the numbers are computed from; a terminal does not show them."""

EXTINCTION = {
    f"A_{band}": Column("mag", f"extinction by the Milky Way that was removed in {band}", ".3f")
    for band in BANDS
}
"""Columns of what was removed from the images, of which a table has those of the model's bands."""

COLUMNS = {
    "D_p": Column("Mpc", "distance predicted from the image"),
    "D_error": Column("Mpc", "standard deviation of D_p"),
    "D_z": Column("Mpc", "distance of the redshift, by the law in the metadata"),
    "eta": Column("", "mean of log10(D_z / D) over the distances that the image allows", ".4f"),
    "eta_error": Column("", "standard deviation of eta", ".4f"),
    "v_p": Column("km / s", "peculiar velocity of D_p and the redshift, away from us"),
    "v_hat": Column("km / s", "mean of the posterior of the peculiar velocity"),
    "v_error": Column("km / s", "standard deviation of the posterior"),
    "v_low68": _interval("lower", "68.3"),
    "v_high68": _interval("upper", "68.3"),
    "v_low95": _interval("lower", "95.4"),
    "v_high95": _interval("upper", "95.4"),
}
"""Columns of what is predicted."""

NUMBERS = USED | EXTINCTION | COLUMNS
"""Columns of numbers in tables of predictions."""

FLAGS = {
    "unusable": "the image cannot be read or placed; no numbers",
    "nan_pixels": "the image has pixels that are not finite; no numbers",
    "bad_row": "the row has more or fewer cells than the header; no numbers",
    "bad_distance": "the distance to place the galaxy at cannot be used; no numbers",
    "no_cz": "no redshift; no velocity",
    "bad_cz": "redshift or its error cannot be used; no posterior of the velocity",
    "bad_prior": "prior on the velocity incomplete or not usable; no posterior of the velocity",
    "coarse_pixels": "pixels of the input are wider than the model's: detail is missing",
    "small_field": "the input ends within the model's frame, which is dark there",
    "saturated": "several pixels share the greatest brightness of a band",
    "prior": "no distance that the prior allows fits the image; no distance",
    "cz_beyond": "no distance of the model's grid and the prior fits the redshift; no posterior",
    "distance": "outside the distances that the model is offered for, with 95 % probability",
    "frame": "the redshift is not in the CMB's frame: its frame or the position is unknown",
    "dust": "dust of the Milky Way is not removed from the image: its extinction is unknown",
    "tension": "D_p and D_z differ by more than three deviations",
    "brightness": "magnitude outside those of the training images",
    "size": "half-light radius outside those of the training images",
    "noise": "noise of the pixels outside that of the training images",
    "psf": "sharper or blunter than the training images",
}
"""Every flag and its meaning, in the order in which `flags` lists them."""

DENSITY = {
    "p_D": Column("", "p(D | image), probability of each cell of the grid in the metadata", None)
}
"""Column of tables that are asked to hold the distribution itself, `peculiar.predict.densities`."""

TEXT_COLUMNS = {
    "frame": Column("", "frame of cz, and so of D_z and all velocities", None),
    "flags": Column("", 'problems, separated by commas; "ok" if none', None),
}

UCDS = {
    "row": "meta.record",
    "name": "meta.id",
    "cz": "spect.dopplerVeloc",
    "cz_error": "stat.error;spect.dopplerVeloc",
    "ra": "pos.eq.ra;meta.main",
    "dec": "pos.eq.dec;meta.main",
    "D_p": "pos.distance",
    "D_error": "stat.error;pos.distance",
    "D_z": "pos.distance",
    "v_p": "phys.veloc",
    "v_hat": "phys.veloc;stat.mean",
    "v_error": "stat.error;phys.veloc",
    "flags": "meta.code.qual",
    "p_D": "stat.probability",
}
"""What columns are in the words of the Virtual Observatory, UCD1+, where it has one."""
