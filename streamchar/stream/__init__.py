"""The service: source, offset ledger, worker pool, outbox (publish and commit), retry, dead letters, lifecycle."""
