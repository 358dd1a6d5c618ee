"""The paper's array of 432 networks: its parameters, and what is made of its numbers."""

import json
from itertools import product

import numpy as np
import pytest
from astropy.table import Table

from builders.surveys import make_survey
from experiments.paper import preliminary
from peculiar.core.errors import InputError
from peculiar.core.params import validate
from peculiar.galaxies.params import Fetch
from peculiar.mock.params import Observe
from peculiar.search.params import Search
from peculiar.search.space import grid
from peculiar.training.params import Train

LEVELS = (preliminary.KERNELS, preliminary.FILTERS) * 2 + (preliminary.STRIDES,)
rng = np.random.default_rng(0)


def trials(value=lambda *_: 1.0, state=lambda _: "COMPLETE"):
    rows = []
    for number, point in enumerate(product(*LEVELS)):
        names = {f"params_{n}": p for n, p in zip(preliminary.FACTORS, point, strict=True)}
        rows.append({"state": state(number), "value": value(*point)} | names)
    return Table(rows=list(rng.permutation(rows)))


def test_the_array_is_the_paper_s(shipped):
    before = json.dumps(shipped)
    params = preliminary.parameters(shipped, galaxies=70, validation=0.3)
    assert json.dumps(shipped) == before
    search = validate(Search, params["search"], "search")
    points = grid(search.space)
    assert len(points) == len({tuple(p.values()) for p in points}) == search.trials == 432
    assert {name for point in points for name in point} == {
        *preliminary.FACTORS,
        "learning_rate",
        "family",
        "depth",
    }
    assert {point["learning_rate"] for point in points} == {5e-4}
    assert (search.sampler, search.epochs) == ("grid", 5)
    best = validate(Train, params["train"], "train").best
    assert (best.batch_norm, best.augment, best.schedule) == (False, False, "constant")
    assert validate(Fetch, params["fetch"], "fetch").standin.galaxies == 70
    split = validate(Observe, params["observe"], "observe").split
    assert (split.train, split.validation, split.test) == (0.45, 0.3, 0.25)


def test_galaxies_that_are_not_simulated_cannot_be_counted_out(shipped):
    shipped["fetch"]["source"] = "files"
    with pytest.raises(InputError, match=r"stand-ins, fetch\.source is files: leave it out"):
        preliminary.parameters(shipped, 70, None)
    preliminary.parameters(shipped, None, None)


def test_the_grid_has_each_network_at_its_place():
    found = preliminary.as_grid(trials(lambda k1, f1, _k2, _f2, s: k1 + f1 / 100 + s * 1000))
    assert found.shape == (3, 4, 3, 4, 3)
    assert found[1, 2, 0, 3, 2] == 5 + 18 / 100 + 3000


def test_a_part_of_the_array_has_the_strides_asked_for(shipped):
    params = preliminary.parameters(shipped, None, None, strides=[2, 3])
    search = validate(Search, params["search"], "search")
    points = grid(search.space)
    assert len(points) == search.trials == 288
    assert {point["stride"] for point in points} == {2, 3}
    whole = trials(lambda *point: point[-1])
    part = whole[whole["params_stride"] > 1]
    assert preliminary.as_grid(part, [2, 3]).shape == (3, 4, 3, 4, 2)
    with pytest.raises(InputError, match="144 of 432 networks are missing"):
        preliminary.as_grid(part)


def test_missing_networks_are_refused():
    unfinished = trials(state=lambda number: "FAIL" if number < 3 else "COMPLETE")
    with pytest.raises(InputError, match="3 of 432 networks are missing: run the script again"):
        preliminary.as_grid(unfinished)


def test_main_effects_are_shares_of_the_variance():
    strides = np.broadcast_to([0.0, 1.0, 2.0], (3, 4, 3, 4, 3))
    assert preliminary.main_effects(strides) == pytest.approx([0, 0, 0, 0, 1])
    both = strides + np.array([0.0, 1.0, 2.0])[:, None, None, None, None]
    assert preliminary.main_effects(both) == pytest.approx([0.5, 0, 0, 0, 0.5])
    assert sum(preliminary.main_effects(rng.normal(size=(3, 4, 3, 4, 3)))) < 0.2
    assert preliminary.main_effects(np.ones((3, 4, 3, 4, 3))) == [0] * 5


@pytest.mark.parametrize(("scatter", "verdict"), [(0.0001, "holds"), (0.1, "does not hold")])
def test_the_report_states_whether_the_claim_holds(scatter, verdict):
    array = 10 + scatter * rng.normal(size=(3, 4, 3, 4, 3))
    survey = make_survey(source="stand-in")
    text = preliminary.report(array, np.array([9.9, 10.1]), survey, {"train": 8, "validation": 4})
    assert "stand-in" in text.splitlines()[0]
    assert f"The claim of the paper {verdict} here." in text
    assert f"| greatest less least, of the median [%] | {100 * np.ptp(array) / 10:.1f} (" in text
    assert "| deviation of 2 seeds of one network [%] | 1.4 |" in text
