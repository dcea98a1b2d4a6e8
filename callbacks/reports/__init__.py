"""Reports: tables and metrics files of classified rows, of their data and of the weights."""
