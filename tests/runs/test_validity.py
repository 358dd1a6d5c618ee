"""What training images spanned is what they were made with."""

import json

import pytest

from peculiar.core.photometry import half_light_arcsec, magnitudes
from peculiar.runs import validity
from peculiar.runs.validity import Validity, validity_of, validity_once


def test_a_dataset_is_measured_on_its_training_split(observed):
    found = validity_of(observed)
    images = observed.images[observed.rows("train")]
    assert found.distance_mpc == (50, 100)
    mag = magnitudes(images, "gr", 1.36)
    assert list(found.mag_ab) == ["g", "r"]
    assert found.mag_ab["r"] == (mag[:, 1].min(), mag[:, 1].max())
    radius = half_light_arcsec(images, 1.36)
    assert found.half_light_arcsec == (radius.min(), radius.max())
    assert Validity(**json.loads(found.model_dump_json())) == found


def test_it_is_measured_once_for_a_dataset(observed, tmp_path, monkeypatch):
    first = validity_once(observed, "sha256:1", tmp_path)
    assert first == validity_of(observed)
    monkeypatch.setattr(validity, "validity_of", lambda _: 1 / 0)
    assert validity_once(observed, "sha256:1", tmp_path) == first
    with pytest.raises(ZeroDivisionError):
        validity_once(observed, "sha256:2", tmp_path)
    monkeypatch.setattr(validity, "imported_code_digest", lambda _: "other")
    with pytest.raises(ZeroDivisionError):
        validity_once(observed, "sha256:1", tmp_path)
