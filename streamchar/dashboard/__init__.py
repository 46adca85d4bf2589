"""The live night: what an operator sees. Itself only a subscriber of the published topics."""
