"""K-corrections of power laws have a closed form."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.real.k_corrections import k_corrections, main
from peculiar.core.photometry import BANDS, PIVOT_WAVELENGTH_M


@given(alpha=st.floats(-6, 4), z=st.floats(0, 0.2), zero=st.floats(10, 20))
def test_a_power_law_is_corrected_exactly(alpha, z, zero):
    """The magnitude of f_nu at nu (1 + z), with (1 + z) for the width of the band."""
    nu = 1 / np.array([PIVOT_WAVELENGTH_M[band] for band in BANDS])
    at_rest = zero - 2.5 * alpha * np.log10(nu / nu[0])
    seen = zero - 2.5 * alpha * np.log10(nu * (1 + z) / nu[0]) - 2.5 * np.log10(1 + z)
    assert k_corrections(at_rest, z) == pytest.approx(seen - at_rest, abs=1e-9)


def test_the_table_is_printed(capsys):
    main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 4 * 2
    assert lines[2].startswith("| 50 | 0.0117 | 0.05 | 10 Gyr | +0.06 |")
