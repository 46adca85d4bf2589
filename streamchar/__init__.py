"""streamchar: characterize every astronomical exposure the moment it lands."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamchar.client import subscribe

__all__ = ["__version__", "subscribe"]
__version__ = "0.1.0"
"""As in pyproject.toml; asking the installed package for it takes a tenth of a worker's start."""


def __getattr__(name: str) -> object:
    """Import the client when it is first asked for: characterization must not pull in Kafka."""
    if name == "subscribe":
        from streamchar.client import subscribe

        return subscribe
    raise AttributeError(f"module 'streamchar' has no attribute '{name}'")
