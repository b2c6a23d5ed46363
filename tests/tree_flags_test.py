"""The flags of a tree: what they ask for, and what is refused."""

import pytest

from tf_elastic.program import settings
from tf_elastic.program import usage


def parse(*args):
    return settings.parse(["train.py", *args])


@pytest.mark.parametrize(
    "flag", ["tree=2", "scheme=up_down", "periods=1,10", "most_waiting=1"]
)
def test_one_process_is_no_tree(flag):
    with pytest.raises(
        usage.UsageError, match="strategy=elastic_mirrored knows no trees"
    ):
        parse(f"--{flag}")
