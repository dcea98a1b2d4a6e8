"""Files: rows read from CSV, TSV, JSON, JSON Lines and Parquet, and downloads."""
