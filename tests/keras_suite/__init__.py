"""Keras' own tests under an elastic strategy; see `__main__.py`."""
