"""Runs: what a fit saves, resumes, logs and stops on, for any LightningModule."""
