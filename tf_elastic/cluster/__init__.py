"""Processes that train together: who they are, and how they are started.

No module here imports TensorFlow or Keras at its top: a process that only
serves a center starts without them.
"""
