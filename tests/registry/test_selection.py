import math

import numpy as np
import pytest

from builders.nulls import failing_nulls, make_nulls, nulls_of_real
from builders.records import make_run
from builders.surveys import MEASURED
from builders.validation import validation_table
from peculiar.registry.decision import candidate_table
from peculiar.registry.selection import (
    ALLOWABLE,
    Candidate,
    Holder,
    alias_of_kind,
    compare_candidates,
    data_digest,
    null_refusal,
    refusal,
)
from peculiar.registry.spending import Round
from peculiar.velocity.metrics import METRICS

GOOD = dict.fromkeys(METRICS, 1.0)
SETTINGS = {"confidence": 0.95, "samples": 2000, "seed": 1}
RMS = "posterior_rms_kms"


def run(rms=300.0, **changes):
    validation = GOOD | {RMS: rms}
    return make_run(**{"validation": validation, "zero_rms_kms": 400.0, **changes})


def candidate(error_kms, seed=0, **changes):
    predicted = validation_table(error_kms, seed)
    rms = float(np.sqrt(np.mean((predicted["v_kms"] - predicted["v_hat_kms"]) ** 2)))
    one = run(rms, run_id=f"{error_kms}-{seed}", **changes)
    return Candidate(one, predicted, refusal(one, GOOD))


def holder(error_kms, seed=0, **changes):
    values = {
        "version": "3",
        "run_id": "old",
        "data": data_digest(run()),
        "validation": validation_table(error_kms, seed),
    }
    return Holder(**{**values, **changes})


def test_a_sound_network_is_not_refused():
    assert refusal(run(), GOOD) is None
    assert "does not beat v = 0" in refusal(run(400.0), GOOD)


@pytest.mark.parametrize("key", METRICS)
def test_missing_metrics_are_refused(key):
    lacking = {name: value for name, value in GOOD.items() if name != key}
    assert refusal(run(), lacking) == f"its test metrics lack {key}"
    assert refusal(run(validation=lacking), GOOD) == f"its validation metrics lack {key}"
    assert "test metrics lack" in refusal(run(), None)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_metrics_that_are_not_finite_are_refused(value):
    assert refusal(run(value), GOOD) == f"its validation metrics {RMS} are not finite"
    reason = refusal(run(), GOOD | {"l1_d_mpc": value})
    assert reason == "its test metrics l1_d_mpc are not finite"


def test_of_measured_distances_only_the_labels_are_asked_for():
    unknown = {key: math.nan for key in METRICS if not key.startswith(("l1_", "l2_", "shift_"))}
    metrics = GOOD | unknown | {"l2_dz_mpc": 14.9}
    real = run(distances=MEASURED, validation=metrics)
    assert refusal(real, metrics) is None
    worse = run(distances=MEASURED, validation=metrics | {"l2_dz_mpc": 15.0})
    assert refusal(worse, metrics).endswith("does not beat a constant distance, 15.0")


def test_a_champion_stays_unless_surely_beaten():
    surely = compare_candidates([candidate(100)], holder(130), **SETTINGS)[0]
    assert surely.against is None
    assert surely.paired.share > 0.95
    # better on these images, but for few galaxies more than for others
    (perhaps,) = compare_candidates([candidate(100, 1)], holder(105, 2), **SETTINGS)
    assert 0.05 < perhaps.paired.share < 0.95
    assert "of the bootstrap samples, but more than 97.88% are required" in perhaps.against
    assert perhaps.against.endswith("in comparison 1 on these images")
    assert perhaps.paired.share <= perhaps.required
    assert compare_candidates([candidate(100)], None, **SETTINGS)[0].against is None


def test_a_network_without_passing_null_tests_is_refused():
    one = run()
    assert null_refusal(one, make_nulls(one.run_id)) is None
    missing = "its null tests are missing: run `dvc repro nulls` first"
    assert null_refusal(one, None) == missing
    other = null_refusal(one, make_nulls("0ther"))
    assert other.startswith("its null tests are those of run 0ther, before it was trained again")
    first = "scenes 0: it predicts D with r = +0.50 (limit 0.1)"
    failing = null_refusal(one, failing_nulls(one.run_id))
    assert failing == f"it fails the null test {first} (and 1 more)"
    single = make_nulls(one.run_id, scenes=failing_nulls().scenes[:1])
    assert null_refusal(one, single) == f"it fails the null test {first}"


def test_empty_null_tests_pass_only_where_none_is_possible():
    one = run()
    for kind in ("scenes", "renderings"):
        empty = make_nulls(one.run_id, **{kind: ()})
        assert null_refusal(one, empty).startswith(f"its null tests have no {kind}: run `dvc")
    assert null_refusal(one, nulls_of_real(one.run_id)) is None
    # what was tested counts all the same
    failing = nulls_of_real(one.run_id).model_copy(update={"scenes": failing_nulls().scenes})
    assert "(and 1 more)" in null_refusal(one, failing)


def test_later_comparisons_require_more_and_the_same_pair_spends_nothing():
    champion, first, second = holder(102), candidate(100, 1), candidate(100, 2)
    (one,) = compare_candidates([first], champion, **SETTINGS)
    ledger = [one.round]
    assert (one.round.number, one.round.candidates) == (1, (first.run.run_id,))
    (again,) = compare_candidates([first], champion, ledger=ledger, **SETTINGS)
    assert (again.round, again.required) == (one.round, one.required)
    both = compare_candidates([first, second], champion, ledger=ledger, **SETTINGS)
    required = {c.run.run_id: c.required for c in both}
    assert required[first.run.run_id] == one.required
    (new,) = (c.round for c in both if c.run.run_id == second.run.run_id)
    assert (new.number, new.candidates) == (2, (second.run.run_id,))
    assert required[second.run.run_id] > one.required


def test_few_galaxies_cannot_decide_a_late_comparison():
    ledger = [Round(data=data_digest(run()), number=10_000_000, holder="x", candidates=("y",))]
    (one,) = compare_candidates([candidate(100)], holder(300), ledger=ledger, **SETTINGS)
    assert one.against == (
        "50 galaxies cannot decide in comparison 10000001 on these images: validate on more "
        "galaxies"
    )


def test_what_is_not_compared_is_not_counted():
    excluded = candidate(100, dimming="literal")
    (one,) = compare_candidates([excluded], holder(130), **SETTINGS)
    assert (one.round, one.required) == (None, 0.0)
    (first,) = compare_candidates([candidate(100)], None, **SETTINGS)
    assert (first.round, first.required) == (None, 0.0)


def test_many_candidates_must_each_be_surer():
    """Equal networks are promoted by chance in fewer than 5% of cases, however many there are."""
    won = 0
    for trial in range(40):
        many = [candidate(100, 1000 + 10 * trial + i) for i in range(5)]
        best = compare_candidates(
            many, holder(100, 5000 + trial), confidence=0.95, samples=300, seed=0
        )[0]
        won += best.against is None
    assert won <= 6  # P(more than 6 of 40 at 5%) = 0.3%


@pytest.mark.parametrize(
    ("changes", "held", "key"),
    [
        ({}, {"data": "others"}, "other-data"),
        ({}, {"validation": None}, "other-data"),
        ({}, {"validation": validation_table(130, galaxies=49)}, "other-data"),
        ({"split_by": "image"}, {}, "leaking-split"),
        ({"dimming": "literal"}, {}, "literal-dimming"),
        ({"scale": "paper"}, {}, "paper-scale"),
    ],
)
def test_candidates_are_excluded_unless_allowed(changes, held, key):
    one, champion = candidate(100, **changes), holder(130, **held)
    assert compare_candidates([one], champion, **SETTINGS)[0].against.endswith(f": --allow {key}")
    allowed = compare_candidates([one], champion, allowed=[key], **SETTINGS)[0]
    assert allowed.against is None
    assert (allowed.paired is None) == (key == "other-data")


def test_a_network_that_reads_as_the_paper_does_is_refused_in_one_sentence():
    paper = {"dataset": "paper-uniform", "scale": "paper", "dimming": "literal"}
    one = candidate(100, **paper, data={"data/observe/paper-uniform": "0a1b.dir"})
    refused = compare_candidates([one], None, **SETTINGS)[0].against
    assert refused == (
        "its images have the distance printed into the pixels (dimming: literal): "
        "--allow literal-dimming paper-scale"
    )
    still = compare_candidates([one], None, allowed=["literal-dimming"], **SETTINGS)[0].against
    assert still == (
        "its images take every frame as 84.4 kpc, whatever the file says (scale: paper): "
        "--allow paper-scale"
    )
    both = ["literal-dimming", "paper-scale"]
    assert compare_candidates([one], None, allowed=both, **SETTINGS)[0].against is None


def test_a_withdrawn_network_is_excluded():
    one = candidate(100)
    kept = compare_candidates([one], holder(130), withdrawn={one.run.run_id}, **SETTINGS)[0]
    assert kept.against == "it was rolled back: --allow withdrawn"


def test_allow_does_not_admit_a_bad_network():
    everything = list(ALLOWABLE)
    bad = Candidate(run(450.0), validation_table(450), refusal(run(450.0), GOOD))
    assert (
        "does not beat v = 0"
        in compare_candidates([bad], None, allowed=everything, **SETTINGS)[0].against
    )


def test_the_champion_itself_is_named():
    one = candidate(100)
    itself = holder(100, run_id=one.run.run_id)
    assert compare_candidates([one], itself, **SETTINGS)[0].against == "it is version 3 already"


def test_the_best_allowed_candidate_is_first_and_the_table_has_all():
    compared = compare_candidates(
        [candidate(110), candidate(90, dimming="literal"), candidate(100)], holder(130), **SETTINGS
    )
    assert [c.run.run_id for c in compared] == ["100-0", "110-0", "90-0"]
    text = candidate_table(compared, holder(130))
    assert len(text.splitlines()) == 4
    assert "less version 3's [95%]" in text
    assert "required (comparison)" in text
    assert ">99.03% (1)" in text  # two of the three are compared
    assert "may take its place" in text
    assert "--allow literal-dimming" in text


def test_kinds_of_data_have_aliases_that_mlflow_takes():
    assert alias_of_kind(run()) == "champion-uniform-stand-in"
    odd = run(source="NASA-Sloan Atlas (r), v0.1.2 é")
    assert alias_of_kind(odd) == "champion-uniform-NASA-Sloan-Atlas-r-v0-1-2-"
