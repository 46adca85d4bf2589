"""What can be observed: metric definitions, health and readiness, quality grades."""
