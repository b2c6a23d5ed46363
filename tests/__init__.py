"""Tests of tf_elastic, and the references that they compare with."""
