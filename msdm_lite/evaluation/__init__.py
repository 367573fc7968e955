"""Measures of separation and generation, and the records that results are kept in. No study of its own."""
