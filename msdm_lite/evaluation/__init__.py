"""Metrics of separation and generation, and the records that results are kept in. It contains no studies."""
