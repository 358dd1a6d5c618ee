"""Properties that all images of a test dataset share."""

from peculiar.core.survey import Survey

UNIFORM = {"distribution": "uniform", "min_mpc": 50, "max_mpc": 100}
NORMAL = {"distribution": "normal", "mean_mpc": 75, "sigma_mpc": 14.5, "min_mpc": 5}
MEASURED = {"distribution": "measured"}


def make_survey(**changes):
    values = {
        "dataset": "uniform",
        "source": "test",
        "distances": UNIFORM,
        "bands": ("g", "r"),
        "pixels": 8,
        "pixel_scale_arcsec": 1.36,
        "dimming": "physical",
        "psf_fwhm_arcsec": None,
        "instrument": None,
        "H0_kms_mpc": 70,
        "sigma_v_kms": 400,
        "split_by": "galaxy",
    }
    values |= changes
    return Survey(**(values | {"bands": tuple(values["bands"])}))


def survey_meta(**changes):
    """The same as a table keeps it."""
    return make_survey(**changes).model_dump(mode="json")
