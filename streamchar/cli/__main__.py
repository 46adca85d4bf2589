"""Run the command line: ``python -m streamchar.cli``."""

from streamchar.cli import main

main()
