"""streamchar: characterize every astronomical exposure the moment it lands."""

from importlib.metadata import version

__version__ = version("streamchar")
