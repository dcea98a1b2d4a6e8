"""Callbacks and loggers: a run's own, reports and figures; each is imported from its own module."""
