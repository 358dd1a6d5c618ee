import csv
import json
import re
import shutil

import mlflow
import numpy as np
import pytest
from astropy.table import Table
from pydantic import TypeAdapter, ValidationError
from scipy.stats import norm

from builders.measured import NETWORKS, as_measured
from builders.pipeline import inside
from peculiar.core.dataset import Observed
from peculiar.core.params import Name
from peculiar.pipeline import evaluate
from peculiar.runs import record, tracking
from peculiar.training.predictions import baselines, column_mpc, predict_split
from peculiar.velocity.metrics import METRICS
from peculiar.velocity.posterior import velocity_from_distance, velocity_on_grid

TEST_KINDS = ("distances", "redshift_distances", "velocities", "calibration")
UNITS = ("_mpc", "_kms", "_err")
pytestmark = pytest.mark.xdist_group("pipeline")


def table(pipeline):
    with (pipeline / "results/evaluate/table.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_every_network_and_baseline_has_a_row_with_errors(pipeline):
    rows = table(pipeline)
    assert [row["network"] for row in rows] == [
        "v = 0",
        "constant distance",
        "E[D | D_z]",
        *NETWORKS,
    ]
    for row in rows:
        assert row["source"] == "stand-in"
        for key in METRICS:
            assert np.isfinite(float(row[key]))
            assert float(row[f"{key}_err"]) >= 0


def test_velocity_error_is_hubble_times_distance_error_on_every_row(pipeline):
    for row in table(pipeline):
        assert float(row["velocity_rms_kms"]) == pytest.approx(
            70 * float(row["l2_d_mpc"]), rel=1e-6
        )


def test_metrics_json_agrees_with_the_table(pipeline):
    metrics = json.loads((pipeline / "results/evaluate/metrics.json").read_text())
    for row in table(pipeline):
        for key, value in metrics[f"{row['dataset']}-{row['network']}"].items():
            assert value == pytest.approx(float(row[key]), nan_ok=True)


def test_dvc_reads_a_headline_of_each_network_and_baseline(pipeline):
    names = dict.fromkeys(NETWORKS) | evaluate.BASELINES
    folder = pipeline / "results/evaluate/metrics"
    found = {path.stem: json.loads(path.read_text()) for path in folder.iterdir()}
    assert set(found) == {f"uniform-{names[name] or name}" for name in names}
    for row in table(pipeline):
        metrics = found[f"uniform-{names[row['network']] or row['network']}"]
        assert list(metrics) == ["l2_d_mpc", "posterior_rms_kms", "coverage_68"]
        for key, value in metrics.items():
            assert value == pytest.approx(float(row[key]), rel=5.1e-4)
            assert len(f"{value:.10g}".replace(".", "").lstrip("0")) <= 4


def test_file_names_of_baselines_are_safe_and_no_network_s():
    for name in evaluate.BASELINES.values():
        assert re.fullmatch(r"[A-Za-z0-9_-]+", name)
        with pytest.raises(ValidationError):
            TypeAdapter(Name).validate_python(name)


def test_measured_distances_have_no_true_velocities(pipeline, tmp_path):
    folder = tmp_path / "real"
    as_measured(pipeline, folder)
    rows, uniform = table(folder), table(pipeline)
    assert [row["network"] for row in rows] == ["constant distance", *NETWORKS]
    metrics = json.loads((folder / "results/evaluate/metrics.json").read_text())
    for row, before in zip(rows, [uniform[1], *uniform[3:]], strict=True):
        for key in METRICS:
            value = metrics[f"measured-{row['network']}"][key]
            if key.startswith(("l1_", "l2_", "shift_")):
                assert value == float(row[key])
                if row["network"] not in ("pyramid", "starlet"):  # whose prior is the dataset's law
                    assert value == pytest.approx(float(before[key]))
            else:
                assert np.isnan([value, float(row[key]), float(row[f"{key}_err"])]).all()
    for line in (folder / "results/evaluate/table.md").read_text().splitlines()[2:]:
        assert line.endswith("| - | - | - | - |")
        assert line.count("±") == 3
    for name in NETWORKS:
        predicted = Table.read(folder / f"results/evaluate/predictions/measured-{name}.csv")
        assert np.isnan([predicted["v_kms"], predicted["pit"]]).all()
        assert np.isfinite(predicted["v_hat_kms"]).all()
    figures = {path.name for path in (folder / "results/evaluate/figures").iterdir()}
    kinds = ("history", "validation", "distances", "redshift_distances")
    assert figures == {f"measured-{n}_{kind}.png" for n in NETWORKS for kind in kinds}
    headline = json.loads((folder / "results/evaluate/metrics/measured-cnn2.json").read_text())
    assert list(headline) == ["l2_d_mpc"]


def test_the_leak_of_a_split_is_a_number(pipeline):
    assert {(row["split_by"], row["leak"]) for row in table(pipeline)} == {("galaxy", "0.0")}
    observed = Observed.read(pipeline / "data/observe/uniform")
    by_image = observed.table.copy()
    by_image["split"] = np.resize(["train", "validation", "test", "train"], len(by_image))
    assert evaluate.leak(Observed(observed.images, by_image)) == 1


def test_the_best_network_beats_the_baselines_without_an_image(pipeline):
    rows = {
        row["network"]: {key: float(row[key]) for key in row if key.endswith(UNITS)}
        for row in table(pipeline)
    }
    networks = [rows[name] for name in NETWORKS]
    best = min(networks, key=lambda row: row["l2_d_mpc"])
    constant, zero = rows["constant distance"], rows["v = 0"]
    assert best["l2_d_mpc"] < constant["l2_d_mpc"] - best["l2_d_mpc_err"]
    assert best["posterior_rms_kms"] < zero["posterior_rms_kms"]


def test_the_table_for_people_rounds_the_same_numbers(pipeline):
    lines = (pipeline / "results/evaluate/table.md").read_text().splitlines()
    rows = table(pipeline)
    assert len(lines) == 2 + len(rows)
    for line, row in zip(lines[2:], rows, strict=True):
        l2, error = float(row["l2_d_mpc"]), float(row["l2_d_mpc_err"])
        name = row["network"].replace("|", "\\|")  # a bar would end the cell
        assert f"| uniform (stand-in) | {name} |" in line
        assert f"| {l2:.2f} ± {error:.2f} |" in line


def test_baselines_know_no_image(pipeline):
    observed = Observed.read(pipeline / "data/observe/uniform")
    rows = {row["network"]: row for row in table(pipeline)}
    velocities = observed.table["velocity_kms"].value[observed.rows("test")]
    rms = np.sqrt(np.mean(velocities**2))
    assert float(rows["v = 0"]["posterior_rms_kms"]) == pytest.approx(rms)
    assert float(rows["v = 0"]["velocity_rms_kms"]) == pytest.approx(rms)
    distances = observed.table["distance_mpc"].value
    mean = distances[observed.rows("train")].mean()
    spread = np.sqrt(np.mean((distances[observed.rows("test")] - mean) ** 2))
    assert float(rows["constant distance"]["l2_d_mpc"]) == pytest.approx(spread)


def test_baselines_state_their_errors(pipeline):
    """`v = 0` that of all velocities; `E[D | D_z]` less, since it knows more."""
    observed = Observed.read(pipeline / "data/observe/uniform")
    prior = column_mpc(observed, "distance_mpc")[observed.rows("train")]
    predicted = baselines(observed, "test", prior)
    v = observed.table["velocity_kms"].value[observed.rows("test")]
    zero, informed = predicted["v = 0"], predicted["E[D | D_z]"]
    np.testing.assert_allclose(zero["v_kms"], v, atol=1e-9)
    for level, ends in {68: 400, 95: 800}.items():
        np.testing.assert_allclose(zero[f"v_high{level}_kms"], ends)
        np.testing.assert_allclose(zero[f"v_low{level}_kms"], -ends)
    np.testing.assert_allclose(zero["pit"], norm(0, 400).cdf(v))
    np.testing.assert_array_equal(zero["v_hat_kms"], 0)
    assert informed["v_error_kms"].mean() < 400  # above it in a gap of the training distances
    np.testing.assert_allclose(informed["v_hat_kms"], informed["v_p_kms"])
    constant = predicted["constant distance"]
    assert (np.abs(constant["v_hat_kms"]) < np.abs(constant["v_p_kms"])).all()
    rows = {row["network"]: row for row in table(pipeline)}
    for name, columns in predicted.items():
        inside = (columns["v_low68_kms"] <= v) & (v <= columns["v_high68_kms"])
        assert float(rows[name]["coverage_68"]) == pytest.approx(inside.mean())
        assert inside.mean() == pytest.approx(0.683, abs=0.15)  # of 80 images


@pytest.mark.parametrize("name", NETWORKS)
def test_intervals_hold_the_stated_posterior_probability(pipeline, name):
    p = Table.read(pipeline / f"results/evaluate/predictions/uniform-{name}.csv")
    assert ((p["pit"] >= 0) & (p["pit"] <= 1)).all()
    for level, tail in {68: 0.158655, 95: 0.0227501}.items():
        np.testing.assert_array_equal(p["v_kms"] < p[f"v_low{level}_kms"], p["pit"] < tail)
        np.testing.assert_array_equal(p["v_kms"] < p[f"v_high{level}_kms"], p["pit"] < 1 - tail)


@pytest.mark.parametrize("name", ["pyramid", "starlet"])
def test_posteriors_of_distributions_are_by_their_grid(pipeline, name):
    run = record.read_run(pipeline / f"results/train/uniform-{name}")
    network = record.read_network(pipeline / f"results/train/uniform-{name}", run)
    observed = Observed.read(pipeline / "data/observe/uniform")
    p, grid = predict_split(network, observed, "test"), np.array(run.grid_mpc)
    predicted = Table.read(pipeline / f"results/evaluate/predictions/uniform-{name}.csv")
    np.testing.assert_allclose(predicted["D_p_mpc"], p @ grid, rtol=1e-5)
    v = velocity_on_grid(p, grid, np.array(predicted["D_z_mpc"]), 400, 70)
    np.testing.assert_allclose(predicted["v_hat_kms"], v.mean_kms, rtol=1e-4, atol=0.01)
    np.testing.assert_allclose(predicted["v_high95_kms"], v.high_kms[95], rtol=1e-4, atol=0.01)


def test_predictions_are_of_the_test_split_alone(pipeline):
    observed = Observed.read(pipeline / "data/observe/uniform")
    predicted = Table.read(pipeline / "results/evaluate/predictions/uniform-cnn2.csv")
    rows = observed.rows("test")
    assert list(predicted["galaxy"]) == list(observed.table["galaxy"][rows])
    np.testing.assert_allclose(predicted["D_mpc"], observed.table["distance_mpc"].value[rows])


def test_sigma_comes_from_validation(pipeline):
    run = record.read_run(pipeline / "results/train/uniform-cnn2")
    predicted = Table.read(pipeline / "results/evaluate/predictions/uniform-cnn2.csv")
    D_p, D_z = np.array(predicted["D_p_mpc"]), np.array(predicted["D_z_mpc"])
    v = velocity_from_distance(D_p, D_z, run.sigma_D_mpc, 400, 70, (50, 100))
    np.testing.assert_allclose(predicted["v_hat_kms"], v.mean_kms)
    np.testing.assert_allclose(predicted["v_error_kms"], v.deviation_kms)
    np.testing.assert_allclose(predicted["v_low95_kms"], v.low_kms[95])


def test_figures_and_test_metrics_are_there(pipeline):
    names = {path.name for path in (pipeline / "results/evaluate/figures").iterdir()}
    kinds = ("history", "validation", *TEST_KINDS)
    assert names == {f"uniform-{n}_{kind}.png" for n in NETWORKS for kind in kinds}
    run = record.read_run(pipeline / "results/train/uniform-cnn2")
    with inside(pipeline):
        tracking.connect()
    client = mlflow.MlflowClient()
    figures = {file.path for file in client.list_artifacts(run.run_id, "figures")}
    # another test evaluates a copy into the same store
    assert figures >= {f"figures/uniform-cnn2_{kind}.png" for kind in kinds}
    logged = client.get_run(run.run_id).data.metrics
    for row in table(pipeline):
        if row["network"] == "cnn2":
            assert logged["test_l2_d_mpc"] == pytest.approx(float(row["l2_d_mpc"]))


def test_a_training_that_diverged_has_a_history_and_no_predictions_to_draw(pipeline, tmp_path):
    folder = shutil.copytree(pipeline / "results/train/uniform-cnn2", tmp_path / "diverged")
    validation = Table.read(folder / record.VALIDATION, format="ascii.ecsv")
    assert set(evaluate.training_figures(folder, "title")) == {"history", "validation"}
    validation["D_p_mpc"][0] = np.nan
    validation.write(folder / record.VALIDATION, format="ascii.ecsv", overwrite=True)
    assert set(evaluate.training_figures(folder, "title")) == {"history"}
    predicted = {name: np.asarray(validation[name]) for name in validation.colnames}
    assert evaluate.predicted_figures(predicted, 400 / 70, "title") == {}


def test_bootstrap_error_shrinks_with_the_square_root_of_the_galaxies():
    rng = np.random.default_rng(0)

    def error(galaxies):
        n = 4 * galaxies
        D = rng.uniform(50, 100, n)
        v = rng.normal(0, 400, n)
        predicted = {
            "galaxy": np.repeat(np.arange(galaxies), 4),
            "D_mpc": D,
            "D_z_mpc": D + v / 70,
            "D_p_mpc": D + rng.normal(0, 5, n),
            "v_kms": v,
            "v_hat_kms": np.zeros(n),
            "v_error_kms": np.full(n, 400.0),
            **{f"v_low{level}_kms": np.full(n, -4.0 * level) for level in (68, 95)},
            **{f"v_high{level}_kms": np.full(n, 4.0 * level) for level in (68, 95)},
        }
        params = evaluate.Evaluate(bootstrap=300, seed=1)
        return evaluate.row({}, predicted, 70, params)["l2_d_mpc_err"]

    # the error of an rms is sigma / sqrt(2 n)
    assert error(100) == pytest.approx(5 / np.sqrt(800), rel=0.25)
    assert error(1600) == pytest.approx(5 / np.sqrt(12800), rel=0.25)
