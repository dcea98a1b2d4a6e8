"""Lessons to run and to change: the articles' lines, experiments, a notebook, and weights shown while they move."""
