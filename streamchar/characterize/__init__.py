"""The science: pure functions and small tasks over an Exposure.

Knows nothing of files, Kafka, event loops or metrics.
"""
