"""Instrument profiles: how the FITS files of each camera become an exposure. A new camera is a TOML file, no code."""

from streamchar.image.profiles.loader import Facts, ProfileSet, load_profiles, read_profile
from streamchar.image.profiles.model import InstrumentProfile

__all__ = ["Facts", "InstrumentProfile", "ProfileSet", "load_profiles", "read_profile"]
