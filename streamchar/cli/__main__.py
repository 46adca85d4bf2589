"""Run the command line: ``python -m streamchar.cli``."""

from streamchar.cli import main

# Worker processes that are spawned import this module again.
if __name__ == "__main__":
    main()
