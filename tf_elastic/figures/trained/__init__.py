"""Figures and tables of what is trained: thesis chapter 4, and momentum-2.

The runs are made in a virtual cluster (`training`), which takes from seconds
to weeks, and kept in a CSV file (`records`) that figures are drawn from.
"""
