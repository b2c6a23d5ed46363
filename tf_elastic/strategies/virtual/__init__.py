"""Clusters that are not there: workers that take turns on one device."""
