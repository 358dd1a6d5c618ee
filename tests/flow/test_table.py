"""The flow of a table of predictions: which galaxies count, in which frame, by which law."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import QTable

from peculiar.cli.main import main
from peculiar.core.cosmography import COSMOLOGIES, Cosmography
from peculiar.core.errors import InputError
from peculiar.core.photometry import SPEED_OF_LIGHT_KMS
from peculiar.flow.figures import cone_deg, towards_deg
from peculiar.flow.table import measure_flow
from peculiar.predict.densities import FORMATS, describe_grid
from peculiar.predict.tables import write_table
from peculiar.velocity.grid import gaussian, moments, with_prior

APEX = SkyCoord(l=280 * u.deg, b=20 * u.deg, frame="galactic")
SPEED, SIGMA_V, H0 = 350.0, 250.0, 70.0
GRID = np.arange(20.5, 200, 1.0)


def predictions(law_name="flat_lambda_cdm", number=600, seed=0):
    """A table as `peculiar predict --density` makes it, of galaxies with a flow towards `APEX`."""
    rng, law = np.random.default_rng(seed), Cosmography(law_name, H0)
    D = np.cbrt(rng.uniform(40**3, 160**3, number))
    at = SkyCoord(
        rng.uniform(0, 360, number) * u.deg, np.arcsin(rng.uniform(-1, 1, number)) * u.rad
    )
    v = SPEED * np.cos(at.separation(APEX).rad) + rng.normal(0, SIGMA_V, number)
    cosmological = law.cosmological_cz_kms(D)
    cz = cosmological + v
    if law_name != "hubble":
        cz += cosmological * v / SPEED_OF_LIGHT_KMS
    flat = gaussian(rng.normal(D, 6.0), 6.0, GRID)
    p = with_prior(flat, np.where((GRID > 40) & (GRID < 160), GRID**2, 0))
    D_p, D_error = moments(p, GRID)
    kms = u.km / u.s
    table = QTable(
        {
            "cz": cz * kms,
            "cz_error": np.zeros(number) * kms,
            "ra": at.ra.deg * u.deg,
            "dec": at.dec.deg * u.deg,
            "D_p": D_p * u.Mpc,
            "D_error": D_error * u.Mpc,
            "D_z": law.distance_mpc(cz) * u.Mpc,
            "frame": np.full(number, "cmb"),
            "flags": np.full(number, "ok", dtype="U20"),
            "p_D": p.astype(np.float32),
        }
    )
    table.meta = {"H0": H0, "prior": "volume", "training": "stand-in", **describe_grid(GRID)}
    return table


def written(table, folder, ending=".parquet"):
    path = folder / f"predicted{ending}"
    write_table(table, path)
    return path


@pytest.mark.parametrize("law", COSMOLOGIES)
@pytest.mark.parametrize("ending", FORMATS)
def test_the_flow_of_a_table_is_found(tmp_path, law, ending):
    measured = measure_flow(written(predictions(law), tmp_path, ending))
    true = SPEED * APEX.cartesian.xyz.value
    errors = np.sqrt(np.diag(measured.flow.covariance)[:3])
    assert np.abs((measured.flow.V_kms - true) / errors).max() < 3
    assert (errors < 60).all()
    assert measured.flow.sigma_v_kms == pytest.approx(
        SIGMA_V, abs=3 * measured.flow.sigma_v_error_kms
    )
    assert abs(measured.flow.zero_point) < 0.02
    assert measured.left_out == {}


def test_the_wrong_law_would_be_a_wrong_zero_point(tmp_path):
    """What is at stake: by Hubble's law galaxies at rest seem to flow out."""
    table = predictions("flat_lambda_cdm")
    right = measure_flow(written(table, tmp_path)).flow
    table["D_z"] = table["cz"] / (H0 * u.km / u.s / u.Mpc)
    wrong = measure_flow(written(table, tmp_path)).flow
    assert wrong.zero_point - right.zero_point == pytest.approx(0.007, abs=0.002)


def test_galaxies_that_cannot_be_used_are_counted_and_change_nothing(tmp_path):
    table = predictions()
    plain = measure_flow(written(table, tmp_path))
    bad = predictions(seed=1)[:7]
    bad["frame"] = ["heliocentric", *["cmb"] * 6]
    bad["flags"] = ["frame", "noise", "tension, psf", "no_cz", "ok", "ok", "ok"]
    bad["ra"][4] = bad["p_D"][5] = bad["cz_error"][6] = np.nan
    bad["cz"][3] = np.nan
    both = QTable({name: np.concatenate([table[name], bad[name]]) for name in table.colnames})
    both.meta = table.meta
    path = written(both, tmp_path, ".fits")
    measured = measure_flow(path)
    assert measured.left_out == {
        **dict.fromkeys(("frame", "noise", "psf", "no_cz"), 1),
        **dict.fromkeys(("no position", "no distance", "no cz"), 1),
    }
    np.testing.assert_allclose(measured.flow.V_kms, plain.flow.V_kms, atol=0.1)
    accepted = measure_flow(path, accepted=("noise", "psf"))
    assert accepted.flow.number == plain.flow.number + 2


def test_galaxies_are_chosen_by_their_image_and_not_by_their_redshift(tmp_path):
    """Flags that depend on the redshift are accepted: cut by it, the flow would be too small."""
    table = predictions(number=3000)
    D_z, D_p = table["D_z"].value, table["D_p"].value
    table["flags"] = np.where((D_z < 60) | (D_z > 130), "distance", "ok").astype("U20")
    table["flags"][:9] = ["tension", "cz_beyond", "tension, distance"] * 3
    table.meta |= {"D_least": 60.0, "D_most": 130.0}
    measured = measure_flow(written(table, tmp_path))
    assert measured.left_out == {"beyond the model": measured.left_out["beyond the model"]}
    far = (D_p < 45) | (D_p > 145)
    assert 0.8 * far.sum() < measured.left_out["beyond the model"] < 1.6 * far.sum()
    true = SPEED * APEX.cartesian.xyz.value
    errors = np.sqrt(np.diag(measured.flow.covariance)[:3])
    assert np.abs((measured.flow.V_kms - true) / errors).max() < 3
    assert measured.flow.sigma_v_kms == pytest.approx(SIGMA_V, abs=40)
    cut = measure_flow(written(table[table["flags"] == "ok"], tmp_path))
    assert cut.flow.sigma_v_kms < SIGMA_V  # what is at stake


def test_a_spread_beyond_all_that_is_tried_is_said(tmp_path, capsys):
    table = predictions(number=300)
    wrong = np.random.default_rng(2).normal(0, 3000, 300) * u.km / u.s
    table["cz"] += wrong
    law = Cosmography("flat_lambda_cdm", H0)
    table["D_z"] = law.distance_mpc(table["cz"].value) * u.Mpc
    main(["flow", str(written(table, tmp_path))])
    assert (
        "sigma_v is above all that is tried, so the errors do not hold" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.remove_column("cz_error"), "has no column cz_error: predict it again with `"),
        (lambda t: t.meta.pop("H0"), "does not say its H0: predict it again"),
        (lambda t: t.meta.update(H0=0), "does not say its H0: predict it again"),
        (
            lambda t: t["dec"].__setitem__(3, 91 * u.deg),
            "has a dec beyond 90 deg: predict it again",
        ),
        (
            lambda t: t["flags"].__setitem__(slice(None), "dust"),
            r"predicted\.parquet has no galaxy to use; left out: 20 dust$",
        ),
        (lambda t: t.remove_column("p_D"), "has no column p_D: predict it again with --density"),
        (
            lambda t: t["D_z"].__setitem__(12, 99 * u.Mpc),
            "D_z of row 12 is not the distance of its cz: predict it again with",
        ),
    ],
)
def test_tables_that_do_not_say_enough_are_refused(tmp_path, change, sentence):
    table = predictions(number=20)
    change(table)
    with pytest.raises(InputError, match=sentence):
        measure_flow(written(table, tmp_path))


def test_a_galaxy_twice_is_refused(tmp_path):
    table = predictions(number=20)
    table["ra"][17], table["dec"][17] = table["ra"][4], table["dec"][4]
    with pytest.raises(InputError, match="rows 4 and 17 have the same ra and dec: keep one row"):
        measure_flow(written(table, tmp_path))


def test_flags_that_do_not_exist_are_refused(tmp_path):
    with pytest.raises(InputError, match="flag 'nois' is not known: give one of unusable, "):
        measure_flow(written(predictions(number=20), tmp_path), accepted=("nois",))


def test_directions_are_galactic():
    vectors = np.array([[1.0, 0, 0], [0, 2, 0], [0, 0, 3], [-1, -1e-9, 0]])
    l_deg, b_deg = towards_deg(vectors)
    assert l_deg == pytest.approx([0, 90, 0, -180])
    assert b_deg == pytest.approx([0, 0, 90, 0])


def test_a_flow_is_printed_written_and_drawn(tmp_path, capsys):
    path = written(predictions(), tmp_path)
    outputs = tmp_path / "flow.ecsv", tmp_path / "flow.png"
    accepted = ["--accept", "dust", "--accept", "noise"]
    written_to = ["--output", str(outputs[0]), "--picture", str(outputs[1])]
    main(["flow", *written_to, *accepted, str(path)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        "600 galaxies of 600 in predicted.parquet, predicted by a network trained"
    )
    assert "prior volume" in lines[0]
    assert lines[1] == "left out: none"
    (row,) = QTable.read(outputs[0], format="ascii.ecsv")
    measured = measure_flow(path)
    assert row["speed"].to_value(u.km / u.s) == pytest.approx(measured.flow.speed_kms)
    apex = SkyCoord(l=row["l"], b=row["b"], frame="galactic")
    assert apex.separation(APEX).deg < 3 * row["cone"].to_value(u.deg)
    assert row["cone"].to_value(u.deg) == pytest.approx(
        cone_deg(measured.flow, np.random.default_rng(1))
    )
    assert lines[2].startswith(f"{measured.flow.speed_kms:.0f} ± ")
    assert outputs[1].stat().st_size > 20_000
    assert row.meta["prior"] == "volume"
    assert row.meta["accepted"] == "dust, noise"
    assert row.meta["galaxies_left_out"] == "none"
    np.testing.assert_allclose(row.meta["covariance"], measured.flow.covariance)


def test_a_uniform_prior_is_warned_of(tmp_path, capsys):
    table = predictions(number=50)
    table.meta["prior"] = "uniform"
    main(["flow", str(written(table, tmp_path)), "--sigma-v", "250"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("the prior is uniform: the zero point is biased and V is")
    assert lines[-2].startswith("sigma_v 250 km/s, mean depth ")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--sigma-v", "-3"], "--sigma-v -3: give a speed in km/s, above 0"),
        (["--output", "predicted.parquet"], "predicted.parquet"),
        (["--picture", "flow.txt"], r"flow\.txt: "),
    ],
)
def test_options_that_cannot_be_are_refused(tmp_path, monkeypatch, arguments, sentence):
    written(predictions(number=20), tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=sentence):
        main(["flow", "predicted.parquet", *arguments])
