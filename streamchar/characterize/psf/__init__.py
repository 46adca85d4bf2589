"""The point-spread function: candidate stars, star selectors, determiners, models, one registry of each."""
