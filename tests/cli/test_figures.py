"""Pictures of galaxies."""

import numpy as np
import pytest

from peculiar.cli import figures
from peculiar.core.photometry import surface_brightness


def test_placed_images_share_their_scale_across_distances():
    images = np.ones((3, 2, 4, 4), dtype=np.float32)
    images[1:] *= 0.1
    panels = figures.placed_figure(images, [50, 75, 100], "gr", "title").axes
    values = [float(axes.images[0].get_array().max()) for axes in panels]
    assert values == pytest.approx([0, -1, -1, 0, -1, -1])
    assert [axes.get_title() for axes in panels[:3]] == ["50 Mpc", "75 Mpc", "100 Mpc"]


def portrait(bands="gri", shape=(20, 20), arcsec=0.5, kpc=0.2, level=20.0):
    images = np.stack([np.full(shape, surface_brightness(level, band)) for band in bands])
    return figures.Portrait("galaxy.fits", images, bands, arcsec, kpc)


def test_thumbnails_have_a_row_a_file_and_colours_where_gri_are_there():
    panels = figures.thumbnail([portrait("ugriz"), portrait("gr")]).axes
    assert len(panels) == 12
    names = [[text.get_text() for text in axes.texts] for axes in panels]
    assert names[:6] == [["gri", "1 kpc = 2.5 arcsec"], ["u"], ["g"], ["r"], ["i"], ["z"]]
    assert [name[0] for name in names[6:8]] == ["g", "r"]
    assert not any(names[8:])
    assert panels[0].images[0].get_array().shape == (20, 20, 3)
    assert [axes.get_title(loc="left") for axes in (panels[0], panels[6])] == ["galaxy.fits"] * 2


def test_thumbnails_share_one_stretch():
    faint, bright = figures.thumbnail([portrait("r", level=25.5), portrait("r", level=18.5)]).axes
    assert float(bright.images[0].get_array()[0, 0]) == pytest.approx(1)
    white = 10 ** (0.4 * 7)
    expected = np.arcsinh(1) / np.arcsinh(white)
    assert float(faint.images[0].get_array()[0, 0]) == pytest.approx(expected)
    assert [axes.images[0].get_clim() for axes in (faint, bright)] == [(figures.BLACK, 1)] * 2


def test_thumbnails_of_single_bands_stand_side_by_side():
    grid = figures.thumbnail([portrait("r")] * 8).axes[0].get_gridspec()
    assert (grid.nrows, grid.ncols) == (2, 6)


def test_a_dark_galaxy_is_black_in_colour():
    dark = figures.Portrait("dark", np.zeros((3, 8, 8)), "gri", 1.0, 1.0)
    assert figures.thumbnail([dark]).axes[0].images[0].get_array().max() == 0


@pytest.mark.parametrize(
    ("arcsec", "kpc", "words", "pixels"),
    [
        (0.5, 0.25, "1 kpc = 2 arcsec", 4),
        (0.4, np.nan, "2 arcsec", 5),
        (np.nan, 3.0, "10 kpc", 10 / 3),
        (np.nan, np.nan, None, None),
    ],
)
def test_scale_bars_have_their_length(arcsec, kpc, words, pixels):
    (axes,) = figures.thumbnail([portrait("r", (30, 20), arcsec, kpc)]).axes
    if words is None:
        assert len(axes.texts) == 1
        assert not axes.lines
        return
    assert axes.texts[1].get_text() == words
    assert np.ptp(axes.lines[0].get_xdata()) == pytest.approx(pixels)
