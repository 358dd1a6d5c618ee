"""Stand-in galaxies: a simulation in place of Illustris', in its file layout."""
