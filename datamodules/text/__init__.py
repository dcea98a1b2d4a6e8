"""Text: sentences as sparse TF-IDF rows."""
