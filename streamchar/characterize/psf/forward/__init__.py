"""Determiner pixel_basis: a super-sampled PSF fitted to the stars' own pixels, its spatial degree cross-validated.

Unlike the psfex determiner, nothing is interpolated before the fit: the model is drawn at each star's sub-pixel
position and compared with its pixels, with their own noise and without those that are bad, so masked pixels and
under-sampled stars need no special care.
"""
