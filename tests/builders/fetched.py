"""The section fetch as shipped, but small."""

import yaml

from builders.pipeline import ROOT
from builders.standin import small_standin
from peculiar.core.params import validate
from peculiar.galaxies.params import Fetch


def fetch_section(source="standin", folder=".", catalogue=None, bands="ugriz", galaxies=5):
    """Section fetch as shipped, with tiny stand-ins and two galaxies a shard."""
    shipped = yaml.safe_load((ROOT / "params.yaml").read_text())["fetch"]
    return shipped | {
        "source": source,
        "bands": list(bands),
        "shard_galaxies": 2,
        "standin": small_standin(galaxies=galaxies).model_dump(),
        "files": {"folder": str(folder), "catalogue": catalogue and str(catalogue)},
    }


def small_fetch(*arguments, **changes):
    """`fetch_section`, validated."""
    return validate(Fetch, fetch_section(*arguments, **changes), "fetch")
