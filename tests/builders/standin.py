"""Small stand-in galaxies."""

from peculiar.galaxies.params import StandIn


def small_standin(**changes):
    """Parameters of stand-in galaxies of 32 pixels and a few hundred particles."""
    values = {
        "seed": 7,
        "galaxies": 5,
        "pixels": 32,
        "field_of_view_kpc": 84.4,
        "field_of_view_radii": None,
        "particle_mass_msun": 2e7,
        "log10_mass_min": 10.0,
        "log10_mass_max": 10.5,
        "size_factor": 2.0,
        "size_scatter": 1.0,
        "colour_scatter": 1.0,
        "neighbours": 16,
        "resolution_factor": 1.0,
    }
    return StandIn(**(values | changes))
