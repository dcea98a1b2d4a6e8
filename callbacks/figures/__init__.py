"""Figures: every picture of a run, its computation, drawing and saving."""
