"""Clusters that are not there: what would happen in one, and when."""
