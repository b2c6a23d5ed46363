"""A worker's side of the center."""
