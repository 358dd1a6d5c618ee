"""Frames of redshifts: apex and antapex, round trips, and velocities that RC3 published."""

from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st

from peculiar.core.frames import (
    APEX,
    FRAMES,
    UNKNOWN,
    convert_cz_kms,
    in_cmb_frame,
    one_plus_z_sun,
    sun_kms,
)

C_KMS = 299792.458
MOVING = ("lg", "cmb")
CATALOGUES = Path(__file__).resolve().parents[3] / "shared" / "data" / "catalogues"
needs_catalogues = pytest.mark.skipif(
    not CATALOGUES.is_dir(), reason=f"no published velocities at {CATALOGUES}"
)
ra = st.floats(0, 360)
dec = st.floats(-90, 90)


def apex_of(frame):
    lon, lat, speed_kms = APEX[frame]
    return SkyCoord(lon, lat, unit="deg", frame="galactic").icrs, speed_kms


@pytest.mark.parametrize("frame", MOVING)
def test_apex_antapex_and_ninety_degrees(frame):
    apex, speed_kms = apex_of(frame)
    antapex = apex.directional_offset_by(0 * u.deg, 180 * u.deg)
    across = apex.directional_offset_by(30 * u.deg, 90 * u.deg)
    at = SkyCoord([apex, antapex, across])
    found = sun_kms(at.ra.deg, at.dec.deg, frame)
    np.testing.assert_allclose(found, [speed_kms, -speed_kms, 0], atol=1e-6)
    # we fly towards the apex: its galaxies recede from the Sun more slowly than in the frame
    cz = convert_cz_kms([5000.0] * 3, at.ra.deg, at.dec.deg, "heliocentric", frame)
    assert cz[1] < 5000 < cz[0]
    np.testing.assert_allclose(cz[:2] - 5000, [speed_kms * 1.0167, -speed_kms * 1.0167], rtol=2e-3)
    np.testing.assert_allclose(cz[2], 5000, atol=0.3)  # the transverse Doppler shift


def test_the_sun_s_redshift_is_special_relativity_s():
    apex, speed_kms = apex_of("cmb")
    beta = speed_kms / C_KMS
    towards = one_plus_z_sun(apex.ra.deg, apex.dec.deg, "cmb")
    np.testing.assert_allclose(towards, np.sqrt((1 - beta) / (1 + beta)), rtol=1e-14)


def test_the_local_group_moves_towards_hydra():
    """Its motion against the CMB: 627 km/s towards (276, 30) by Kogut et al. 1993."""
    cartesian = {
        frame: APEX[frame][2] * apex_of(frame)[0].galactic.cartesian.xyz.value for frame in MOVING
    }
    motion = cartesian["cmb"] - cartesian["lg"]
    towards = SkyCoord(*motion, representation_type="cartesian", frame="galactic")
    assert np.linalg.norm(motion) == pytest.approx(627, abs=22)
    assert towards.separation(SkyCoord(276, 30, unit="deg", frame="galactic")).deg < 8


@given(
    cz=st.floats(-1000, 30000),
    ra=ra,
    dec=dec,
    first=st.sampled_from(FRAMES),
    second=st.sampled_from(FRAMES),
)
def test_a_round_trip_and_a_detour_change_nothing(cz, ra, dec, first, second):
    there = convert_cz_kms([cz], [ra], [dec], first, second)
    assert convert_cz_kms(there, [ra], [dec], second, first) == pytest.approx(cz, abs=1e-8)
    direct = convert_cz_kms([cz], [ra], [dec], first, "cmb")
    assert convert_cz_kms(there, [ra], [dec], second, "cmb") == pytest.approx(direct, abs=1e-8)
    # at most the speeds of the Sun in both frames
    assert abs(there[0] - cz) <= 1.11 * (APEX[first][2] + APEX[second][2])


@needs_catalogues
def test_velocities_of_rc3():
    """Their 3K velocities are sums with the dipole of COBE; ours are a product with Planck's."""
    table = Table.read(CATALOGUES / "rc3_velocities.csv", format="ascii.csv")
    cz, published = table["v_helio_kms"], table["v_3k_kms"]
    position = table["ra_j2000_deg"], table["dec_j2000_deg"]
    plain = cz + sun_kms(*position, "cmb")
    assert len(table) == 400
    assert np.median(np.abs(plain - published)) < 6
    ours = convert_cz_kms(cz, *position, "heliocentric", "cmb")
    product = np.asarray(sun_kms(*position, "cmb") * np.asarray(cz) / C_KMS)
    assert np.median(np.abs(ours - product - published)) < 6
    rms = np.sqrt(np.mean(np.square(ours - cz)))
    assert 200 < rms < 280  # 370 km/s over the square root of three, by where these galaxies are


@needs_catalogues
def test_velocities_of_the_local_group():
    """EDD's Local Sheet (Tully et al. 2008) moves by some 30 km/s against the Local Group."""
    table = Table.read(CATALOGUES / "edd_cf4_tf_98.csv", format="ascii.csv")
    ours = convert_cz_kms(table["Vhel"], table["ra"], table["dec"], "heliocentric", "lg")
    difference = np.asarray(ours - table["Vls"])
    assert np.median(np.abs(difference)) < 30
    assert np.abs(difference).max() < 90


def test_redshifts_are_converted_where_frame_and_position_are_known():
    nan = np.nan
    cz, frames = in_cmb_frame(
        [5000.0] * 6,
        ["heliocentric", "lg", "cmb", "heliocentric", UNKNOWN, "lg"],
        [168, 168, 168, nan, 168, 168],
        [-7, -7, nan, -7, -7, nan],
    )
    assert frames.tolist() == ["cmb", "cmb", "cmb", "heliocentric", UNKNOWN, "lg"]
    assert cz[2:].tolist() == [5000.0] * 4
    # close to the apex of the CMB frame, (168, -7)
    assert cz[0] == pytest.approx(5000 + 369.8 * (1 + 5000 / C_KMS), abs=1)
    assert 5550 < cz[1] < 5650  # the Local Group moves at some 620 km/s
    assert in_cmb_frame([], [], [], [])[0].size == 0
