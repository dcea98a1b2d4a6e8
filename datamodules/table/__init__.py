"""Tables: rows of numbers and categories as dense features."""
