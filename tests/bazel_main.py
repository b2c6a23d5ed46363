"""What each py_test of BUILD runs: pytest on the files named to it."""

import sys

import pytest

if __name__ == "__main__":
    sys.exit(pytest.main(sys.argv[1:]))
