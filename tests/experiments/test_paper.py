"""Table A2 beside ours: forty rows, the published numbers, and a page that needs nothing else."""

import csv
import json
import re
import subprocess
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from astropy.table import Table
from PIL import Image
from selenium.webdriver.common.by import By

from builders.browser import needs_chromium
from builders.pipeline import inside, tiny_params, write_params
from builders.surveys import make_survey
from experiments.paper import claims as paper_claims
from experiments.paper import report as paper_report
from experiments.paper import table as paper
from peculiar.core.errors import InputError
from peculiar.core.params import load, validate
from peculiar.galaxies.params import Fetch
from peculiar.mock.params import Observe
from peculiar.pipeline import evaluate, fetch, observe, search, train
from peculiar.search.params import Search
from peculiar.training.params import Train

KEYS = paper.keys_of("")


@pytest.fixture(scope="module")
def theirs():
    return paper_claims.published()


@pytest.fixture
def shipped():
    return yaml.safe_load((paper.ROOT / "params.yaml").read_text())


@pytest.fixture
def clones(tmp_path, monkeypatch, raw_folder, observed_folder):
    """Two folders as `dvc repro evaluate` leaves them, with rows in another order."""
    folders = []
    for seed in (1, 2):
        folder = tmp_path / f"seed-{seed}"
        (folder / "results/evaluate/figures").mkdir(parents=True)
        table = [{"dataset": "normal", "network": "v = 0", "source": "stand-in"}]
        for key in reversed(KEYS):
            dataset, network = key[-1].split("-")
            numbers = {metric: seed + len(network) for metric in paper_claims.METRICS}
            table.append({"dataset": dataset, "network": network, "source": "stand-in"} | numbers)
        Table(rows=[dict.fromkeys(paper_claims.METRICS, 0.0) | row for row in table]).write(
            folder / "results/evaluate/table.csv", format="ascii.csv"
        )
        (folder / "results/evaluate/predictions").mkdir()
        D = np.linspace(50, 100, 10)
        tested = Table({"galaxy": [3] * 5 + [5] * 5, "D_mpc": D[::-1], "D_p_mpc": D[::-1] + 3})
        tested["D_p_mpc"][:2] += 1  # the farthest fifth
        tested["v_kms"] = [-900, 800, *range(8)]
        tested["v_p_kms"] = tested["v_kms"] + [50, 50, *[40] * 8]
        for key in KEYS:
            tested.write(folder / f"results/evaluate/predictions/{key[-1]}.csv")
        (folder / "data/observe").mkdir(parents=True)
        (folder / "data/fetch").symlink_to(raw_folder)
        (folder / "data/observe/uniform").symlink_to(observed_folder)
        picture = folder / "results/evaluate/figures/uniform-cnn2_Dz_redshift_distances.png"
        Image.new("L", (4, 4)).save(picture)
        folders.append(folder)

    def read_run(folder):
        seed = int(folder.parts[-4].removeprefix("seed-"))
        return SimpleNamespace(
            seed=seed,
            data={"data/observe/uniform": "12ab.dir"},
            seconds=60.0 * seed,
            survey=make_survey(pixels=128, bands="ugriz"),
            spec=SimpleNamespace(epochs=7),
        )

    monkeypatch.setattr(paper_report.record, "read_run", read_run)
    return folders


def test_the_rows_are_those_of_the_published_table_in_its_order(theirs):
    assert len({key[-1] for key in KEYS}) == len(KEYS) == len(theirs.table) == 40
    columns = ("distances", "normalised", "label", "network")
    found = [paper_report.match(theirs, dict(zip(columns, key[:4], strict=True))) for key in KEYS]
    assert found == list(range(40))


@pytest.mark.parametrize(("epochs", "resnet_epochs"), [(None, None), (3, None), (None, 2), (3, 2)])
def test_parameters_are_valid_and_differ_in_the_rows_alone(shipped, epochs, resnet_epochs):
    before = yaml.safe_dump(shipped)
    params = paper.parameters(shipped, 9, 70, epochs, resnet_epochs)
    assert yaml.safe_dump(shipped) == before
    for section, model in (("fetch", Fetch), ("observe", Observe), ("search", Search)):
        validate(model, params[section], section)
    train = validate(Train, params["train"], "train")
    assert (train.seed, params["fetch"]["standin"]["galaxies"]) == (9, 70)
    assert [f"{d}-{n}" for d, n in train.items() if n != "best"] == [key[-1] for key in KEYS]
    shipped_specs = validate(Train, shipped["train"], "train").specs
    for row in paper.rows():
        own = {"label": row.label, "normalise": row.normalised}
        wanted = (resnet_epochs if row.network in paper.RESNETS else None) or epochs
        own |= {} if wanted is None else {"epochs": wanted}
        assert train.specs[row.name] == shipped_specs[row.network].model_copy(update=own)
    assert params["evaluate"] == shipped["evaluate"]
    assert params["observe"]["distances"] == shipped["observe"]["distances"]
    assert params["observe"]["psf_fwhm_arcsec"] is None  # the paper's resampling
    others = {"fetch": {"standin"}, "observe": {"datasets", "psf_fwhm_arcsec"}}
    for section, changed in others.items():
        for key in params[section].keys() - changed:
            assert params[section][key] == shipped[section][key]


def test_the_paper_s_reading_has_datasets_and_frames_of_its_own(shipped):
    params = paper.parameters(shipped, 4, 70, reading="paper")
    train = validate(Train, params["train"], "train")
    names = [f"{d}-{n}" for d, n in train.items() if n != "best"]
    assert names == [key[-1] for key in paper.keys_of("paper-")]
    assert validate(Search, params["search"], "search").dataset == "paper-uniform"
    observe = validate(Observe, params["observe"], "observe")
    for dataset in observe.datasets:
        reading = observe.reading(dataset)
        assert (reading.scale, reading.dimming) == ("paper", "literal")
        assert reading.psf_fwhm_arcsec is None
    standin = validate(Fetch, params["fetch"], "fetch").standin
    assert (standin.pixels, standin.field_of_view_radii) == (256, 10)
    files = shipped["fetch"] | {"source": "illustris"}
    genuine = paper.parameters(shipped | {"fetch": files}, 4, None, reading="paper")
    assert genuine["fetch"]["standin"] == shipped["fetch"]["standin"]  # genuine frames are theirs


def test_folders_of_galaxies_are_found_from_the_clones(shipped):
    shipped["fetch"] |= {"source": "illustris"}
    shipped["fetch"]["illustris"] |= {"folder": "../far", "catalogue": "list.txt"}
    fetch = paper.parameters(shipped, 4, None, None)["fetch"]
    assert fetch["illustris"]["folder"] == str(paper.ROOT.parent / "far")
    assert fetch["illustris"]["catalogue"] == str(paper.ROOT / "list.txt")
    with pytest.raises(
        InputError, match=r"--galaxies is for stand-ins, fetch\.source is illustris"
    ):
        paper.parameters(shipped, 4, 10, None)


def test_a_network_that_the_table_needs_must_be_there(shipped):
    del shipped["train"]["specs"]["resnet50"]
    with pytest.raises(InputError, match=r"train\.specs lacks resnet50, a row of Table A2"):
        paper.parameters(shipped, 4, None, None)


@pytest.mark.parametrize(("work", "output"), [("a", "a"), ("a", "a/b"), ("a/b", "a")])
def test_report_and_clones_do_not_hold_each_other(tmp_path, work, output):
    with pytest.raises(InputError, match="must not hold each other: take another folder"):
        paper.check_folders(tmp_path / work, tmp_path / output)
    paper.check_folders(tmp_path / "a", tmp_path / "ab")


def test_the_recipe_is_the_paper_s(shipped):
    """Section 3.3 and Appendix A: epochs, learning rates, Adam."""
    specs = validate(Train, paper.parameters(shipped, 4, None, None)["train"], "train").specs
    for row in paper.rows():
        spec = specs[row.name]
        resnet = row.network.startswith("resnet")
        assert (spec.epochs, spec.learning_rate) == ((40, 1e-5) if resnet else (20, 5e-4))
        assert (spec.schedule, spec.weight_decay, spec.head) == ("constant", 0, "point")
        assert (spec.fresh, spec.augment, spec.ema) == (False, False, 0)


def test_claims_that_the_published_table_bears_out_have_its_numbers(theirs):
    """What differs is said below the report's table: text and table of the paper disagree."""
    numbers = {claim.text: (claim.said, claim.number(theirs)) for claim in paper_claims.CLAIMS}
    agree = {
        text
        for text, (said, number) in numbers.items()
        if re.fullmatch(r"[\d.]+", said) and abs(float(said) - number) < 0.05
    }
    assert len(agree) == 9
    of = dict(numbers.values())
    assert of["3.765"] == pytest.approx(6.072, abs=1e-3)
    assert of["4.231"] == pytest.approx(2.675, abs=1e-3)
    assert of["2.675"] == pytest.approx(4.231, abs=1e-3)
    assert of["6.072"] == pytest.approx(5.634, abs=1e-3)  # so that 3.765 is neither
    (slopes,) = (number for text, (_, number) in numbers.items() if text.startswith("slopes"))
    assert slopes == pytest.approx(0.923 - 0.95)
    assert of["up to 250"] > 250


def test_the_published_velocities_of_cnns_on_uniform_distances_are_exchanged(theirs):
    def of(metric, normalised):
        which = {"distances": "uniform", "label": "D_z", "network": "CNN"}
        return theirs.values(metric, normalised=normalised, **which)

    for normalised in (True, False):
        expected = 70 * of("l2_d_mpc", normalised)
        assert (np.abs(of("velocity_rms_kms", normalised) / expected - 1) > 0.1).all()
        np.testing.assert_allclose(of("velocity_rms_kms", not normalised), expected, rtol=0.02)
    digits = (
        theirs.values(
            "velocity_rms_kms", distances="normal", normalised=False, label="D_z", network="4-Layer"
        )[0]
        / 70
    )
    assert round(digits, 3) == 9.699
    assert (
        theirs.values(
            "l2_d_mpc", distances="normal", normalised=False, label="D_z", network="4-Layer"
        )[0]
        == 9.969
    )
    rms, own = (
        theirs.values(metric, label="D_z", network="ResNet")
        for metric in ("velocity_rms_kms", "l2_d_mpc")
    )
    np.testing.assert_allclose(rms / own / 70, [0.26, 0.29, 1.00, 0.64], atol=0.006)
    slopes = theirs.values("velocity_slope", label="D_z")
    assert sorted(slopes[np.abs(slopes - 1) > 0.0501]) == [0.923, 0.946, 0.946]
    same = [
        row["l2_d_mpc"]
        for row in theirs.table
        if row["label"] == "D_z" and row["l2_d_mpc"] == row["l2_dz_mpc"]
    ]
    assert same == [7.832, 23.304]
    marked = [row for row in theirs.table if row["label"] == "D_z" and paper_claims.broken(row)]
    assert len(marked) == 12


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([1.0], ("1.000", "one seed")),
        ([1.0, 1.2, 1.1], ("1.100 ± 0.058", "yes")),
        ([-1.0, -1.2, -1.1], ("-1.100 ± 0.058", "no")),
        ([-1.0, 1.2, 1.1], ("0.433 ± 0.717", "undecided")),
        ([1.0, 3.0], ("2.000 ± 1.000", "undecided")),  # 2 errors, but of two seeds
    ],
)
def test_a_claim_holds_by_student_s_t_or_is_undecided(numbers, expected):
    claim = paper_claims.Claim("x", "1", lambda _: 0.0)
    assert paper_claims.verdict(claim, numbers) == expected
    open_claim = paper_claims.Claim("x", "1", lambda _: 0.0, None)
    assert paper_claims.verdict(open_claim, numbers) == (expected[0], "-")


def test_a_claim_with_a_diverged_training_is_not_measured():
    claim = paper_claims.Claim("x", "1", lambda _: 0.0)
    assert paper_claims.verdict(claim, [np.nan, 1, 2]) == ("-", "not measured")


class Page(HTMLParser):
    """Tags, their references, and cells of a page."""

    def __init__(self, text):
        super().__init__()
        self.references, self.cells, self.cell = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.references += [value for name, value in attrs if name in ("src", "href")]
        self.cell = tag in ("td", "th")
        if self.cell:
            self.cells.append("")

    def handle_data(self, data):
        if self.cell:
            self.cells[-1] += data.strip()


def test_the_report_agrees_with_the_table_and_is_self_contained(clones, tmp_path):
    paper_report.report(clones, KEYS, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "figure_1.png",
        "figure_2.png",
        "report.html",
        "report.md",
        "table.csv",
    ]
    text = (tmp_path / "out/report.html").read_text()
    seen = Page(text)
    assert "stand-in" in text.split("</h1>")[0].split("<h1>")[1]
    assert all(reference.startswith("data:") for reference in seen.references)
    assert sum(reference.startswith("data:image/png") for reference in seen.references) == 3
    with (tmp_path / "out/table.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["seed"] for row in rows] == ["1"] * 40 + ["2"] * 40
    for key, first, second in zip(KEYS, rows[:40], rows[40:], strict=True):
        mean = (float(first["l2_d_mpc"]) + float(second["l2_d_mpc"])) / 2
        their = float(first["paper_l2_d_mpc"])
        assert (first["distances"], first["label"], first["network"]) == (key[0], key[2], key[3])
        assert f"{mean:.2f} ({their:.2f}, {mean - their:+.2f})" in seen.cells
    assert text.count("[a]") == 12 + 1
    assert "2 galaxies in the test split" in text
    assert "Epochs of CNNs 7 (the paper's: 20), of ResNets 7 (the paper's: 40)" in text.replace(
        "&#x27;", "'"
    )
    assert "Seeds 1, 2. Data (DVC&#x27;s md5): data/observe/uniform 12ab.dir. Commit" in text or (
        "Seeds 1, 2. Data (DVC's md5): data/observe/uniform 12ab.dir. Commit" in text
    )
    assert f"torch {torch.__version__.split('+')[0]}" in text


@needs_chromium
@pytest.mark.slow
def test_the_report_opens_without_the_network_and_without_errors(clones, tmp_path, browser):
    paper_report.report(clones, KEYS, tmp_path / "out")
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get((tmp_path / "out/report.html").as_uri())
    assert "stand-in" in browser.title
    claims, rows = browser.find_elements(By.TAG_NAME, "table")
    assert len(rows.find_elements(By.TAG_NAME, "tr")) == 1 + 40
    pictures = browser.find_elements(By.TAG_NAME, "img")
    assert all(int(picture.get_property("naturalWidth")) > 0 for picture in pictures)
    assert len(pictures) == 3
    assert "holds" in claims.text
    assert browser.get_log("browser") == []
    asked = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = {
        one["params"]["request"]["url"].split(":")[0]
        for one in asked
        if one["method"] == "Network.requestWillBeSent"
    }
    assert urls <= {"file", "data"}
    assert "file" in urls


def test_claims_have_fifths_by_distance_and_by_velocity_and_a_share(clones, theirs):
    ours = paper_report.measured(clones[0], KEYS)
    first = ours.table[0]
    assert (first["l2_near_mpc"], first["l2_far_mpc"]) == pytest.approx((3, 4))
    assert (first["velocity_slow_kms"], first["velocity_fast_kms"]) == pytest.approx((40, 50))
    assert first["within_10_percent"] == 1  # 3 of 50 and 4 of 100 Mpc
    expected = {
        "constant with distance": 0.2 - 1 / 3,
        "independent of |v|": -0.05,
        "within 10": 0.5,
    }
    for words, number in expected.items():
        (claim,) = (c for c in paper_claims.CLAIMS if words in c.text)
        assert claim.number(ours) == pytest.approx(number)
        assert np.isnan(claim.number(theirs))  # the paper does not print it
    (line,) = (
        line for line in paper_claims.claims(theirs, [ours]) if "of v is independent" in line
    )
    assert line.endswith("| above 0 | - | -0.050 | one seed |")


def test_rows_that_were_not_trained_are_not_measured(theirs):
    cnns = theirs.table[["CNN" in name for name in theirs.table["network"]]]
    lines = paper_claims.claims(theirs, [paper_claims.Rows(cnns)] * 2)
    about_resnets = [line for line in lines if "ResNet" in line]
    assert len(about_resnets) == 4
    assert all(line.endswith("| - | not measured |") for line in about_resnets)
    assert sum(line.endswith("| yes |") for line in lines) > 4


def test_what_the_paper_does_not_print_is_no_number(theirs, clones):
    assert np.isnan(theirs.values("velocity_intercept_kms", label="D_z")).all()
    lines = paper_claims.claims(theirs, [paper_report.measured(clones[0], KEYS)])
    (line,) = (line for line in lines if "largest" in line and "intercept" in line)
    assert [cell.strip() for cell in line.replace("\\|", "").split("|")][3] == "-"
    assert {line.replace("\\|", "").count("|") for line in lines} == {6}


def test_the_best_of_each_block_is_counted(theirs):
    """Of the published CNNs, two, three and five layers are somewhere the best."""
    assert theirs.least("l1_d_mpc", *(f"{n}-Layer" for n in (2, 3, 4, 5))) == 3


def test_an_unfinished_clone_is_refused(tmp_path):
    with pytest.raises(
        InputError, match=r"table\.csv is missing: run experiments/paper/table.py to the end"
    ):
        paper_report.measured(tmp_path, KEYS)


def test_a_clone_keeps_what_has_been_done_in_it(tmp_path, monkeypatch):
    def git(folder, *arguments):
        who = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
        subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)

    root, work = tmp_path / "root", tmp_path / "work/seed-1"
    (root / ".dvc").mkdir(parents=True)
    (root / "src").mkdir()
    for name in ("dvc.lock", "src/code", ".dvc/config"):
        (root / name).write_text("1")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "1")
    monkeypatch.setattr(paper, "ROOT", root)
    paper.clone(work)
    (work / "dvc.lock").write_text("done")
    (root / "src/code").write_text("2")
    with pytest.raises(InputError, match=r"src or dvc\.yaml has changes that no clone would have"):
        paper.clone(work)
    git(root, "commit", "-qam", "2")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    paper.clone(work)
    assert (work / "src/code").read_text() == "2"
    assert (work / "dvc.lock").read_text() == "done"
    assert str(root / ".dvc/cache") in (work / ".dvc/config.local").read_text()

    (root / "results/paper").mkdir(parents=True)  # in the repository, but no clone
    with pytest.raises(InputError, match="is no clone of this repository: take another folder"):
        paper.clone(root / "results/paper")


def test_a_failing_git_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match="git fetch failed: "):
        paper.git(tmp_path, "fetch", "nowhere")


@pytest.mark.slow
def test_all_forty_rows_from_standins_to_the_report(tmp_path, monkeypatch):
    """The stages of `make paper` in this process; tests/system tries them under DVC."""
    monkeypatch.setattr(evaluate, "save", lambda *_: None)  # 250 figures that the report has not
    small = tiny_params("ugriz")
    specs = yaml.safe_load((paper.ROOT / "params.yaml").read_text())["train"]["specs"]
    for name in paper.RESNETS:  # small, or they would take most of the time
        specs[name] |= {"family": "cnn", "layers": specs["cnn2"]["layers"]}
    small["train"]["specs"] = specs
    small["observe"] |= {"pixels": 104, "pixel_scale_arcsec": 1.7}  # what five layers leave one of
    params = paper.parameters(small, 4, galaxies=12, epochs=1)
    folder = tmp_path / "seed-4"
    folder.mkdir()
    write_params(params, folder)
    with inside(folder):
        fetch.main([])
        for dataset in paper.DISTANCES:
            observe.main(["--dataset", dataset])
        search.main([])
        for dataset, network in load(Train).items():
            train.main(["--dataset", dataset, "--network", network])
        evaluate.main([])
    paper_report.report([folder], KEYS, tmp_path / "out")
    with (tmp_path / "out/table.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(r["distances"], r["label"], r["network"]) for r in rows] == [
        (key[0], key[2], key[3]) for key in KEYS
    ]
    for row in rows:
        rms = float(row["velocity_rms_kms"])
        assert rms == pytest.approx(70 * float(row["l2_d_mpc"]), rel=1e-6)
        assert 0 < rms < 1e6
    assert "stand-in" in (tmp_path / "out/report.md").read_text().splitlines()[0]


def test_cameras_share_one_scale_and_stand_in_rows():
    images = np.ones((2, 3, 4, 4), dtype=np.float32)
    images[1] *= 0.01
    panels = paper_report.cameras_figure(images, "gri", "title").axes
    values = [float(axes.images[0].get_array().max()) for axes in panels]
    assert values == pytest.approx([0, 0, 0, -2, -2, -2])
    assert [axes.get_title() for axes in panels[:3]] == ["g", "r", "i"]
    assert [axes.get_ylabel() for axes in panels[::3]] == ["CAM0", "CAM1"]
