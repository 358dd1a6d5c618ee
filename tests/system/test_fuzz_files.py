"""Files with faults in them are refused in one sentence, or read; no traceback, no hang.

Each input is drawn from its number. The long form has 2,000: `make torture`.
"""

import json
import random
import shutil
from pathlib import Path

import pytest

from builders import layouts
from builders.fuzz import check, outcome, spoil_fits, spoil_json, spoil_text
from builders.registries import signed_again, write_export
from peculiar.cli.main import main
from peculiar.core.params import load
from peculiar.galaxies.params import Fetch
from peculiar.mock.params import Observe
from peculiar.nulls.params import Nulls
from peculiar.registry import exchange, models
from peculiar.registry.params import Promote
from peculiar.search.params import Search
from peculiar.training.params import Train

pytestmark = pytest.mark.xdist_group("mlflow")
LENGTHS = [
    pytest.param(50, id="short"),
    pytest.param(700, id="long", marks=[pytest.mark.torture, pytest.mark.slow]),
]
LAYOUTS = [layouts.sunrise, layouts.skirt, layouts.nsa]
SECTIONS = [Fetch, Observe, Search, Train, Nulls, Promote]


@pytest.mark.parametrize("number", LENGTHS)
def test_headers(tmp_path, capsys, number):
    whole = {make: make(tmp_path) for make in LAYOUTS}
    contents = {make: path.read_bytes() for make, path in whole.items()}

    def inspected(path):
        main(["inspect", str(path)])
        return capsys.readouterr().out

    right = {make: inspected(path) for make, path in whole.items()}
    found = {}
    for seed in range(number):
        dice, make = random.Random(seed), LAYOUTS[seed % len(LAYOUTS)]
        whole[make].write_bytes(spoil_fits(contents[make], dice))
        found[seed] = outcome(lambda path=whole[make]: inspected(path), right[make])
    counts = check(found)
    assert counts["sentence"] > number / 5


@pytest.mark.parametrize("number", LENGTHS)
def test_parameters(tmp_path, params_file, number):
    text, path = params_file.read_text(), tmp_path / "params.yaml"

    def loaded():
        return [load(section, path) for section in SECTIONS]

    path.write_text(text)
    right, found = loaded(), {}
    for seed in range(number):
        path.write_text(spoil_text(text, random.Random(seed)), errors="surrogatepass")
        found[seed] = outcome(loaded, right)
    counts = check(found)
    assert counts["sentence"] > number / 5


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    return write_export(tmp_path_factory.mktemp("sender"))


@pytest.mark.parametrize("number", LENGTHS)
def test_exports_with_right_digests(tmp_path, export, number):
    names = [
        *(exchange.INDEX, "versions/1/model/network.json", "versions/1/model/MLmodel"),
        *("versions/1/run/run.json", "versions/1/run/validation.ecsv"),
    ]
    folder = Path(shutil.copytree(export, tmp_path / "export"))
    right, found = exchange.check(folder), {}
    for seed in range(number):
        dice, name = random.Random(seed), names[seed % len(names)]
        before = {n: (folder / n).read_bytes() for n in (*names, exchange.SUMS)}
        spoil = spoil_json if name.endswith("json") else spoil_text
        spoilt = spoil((export / name).read_text(), dice)
        (folder / name).write_text(spoilt, errors="surrogatepass")
        signed_again(folder, digest="/model/" in name)
        found[f"{seed} {name}"] = outcome(lambda: exchange.check(folder), right)
        for n, content in before.items():
            (folder / n).write_bytes(content)
    counts = check(found)
    assert counts["sentence"] > number / 5


def test_the_digest_of_a_model_is_made_right(export):
    """Else the fuzz of a model's files would find no more than a wrong digest."""
    index = json.loads((export / exchange.INDEX).read_text())
    assert models.DIGEST in index["versions"]["1"]["tags"]
