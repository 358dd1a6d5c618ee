"""`python -m peculiar` is the command `peculiar`."""

from peculiar.cli.main import main

main()
