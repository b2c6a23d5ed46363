"""Layout: every value of every section is in one shard, shards are equal."""

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.drawing import examples
from tf_elastic import version
from tf_elastic.cluster import errors
from tf_elastic.cluster import layout
from tf_elastic.cluster.transport import wire
from tf_elastic.core import rules

DTYPES = ["float16", "bfloat16", "float32", "float64"]

specs = st.builds(
    layout.VariableSpec,
    name=st.text(max_size=8),
    shape=st.lists(st.integers(0, 5), max_size=3).map(tuple),
    dtype=st.sampled_from(DTYPES),
    role=st.sampled_from([layout.PARAMETERS, layout.STATISTICS]),
)
layouts = st.builds(
    layout.Layout, st.lists(specs, max_size=8), st.integers(1, 9)
)
quick = examples(40)


def size_of(spec):
    return int(np.prod(spec.shape, dtype=np.int64))


@quick
@given(layouts)
def test_shards_partition_every_section_evenly(made):
    for section in made.sections:
        cuts = [made.cut(section, k) for k in range(made.num_shards)]
        positions = [k for cut in cuts for k in range(section.size)[cut]]
        assert positions == list(range(section.size))
        sizes = [cut.stop - cut.start for cut in cuts]
        assert max(sizes) - min(sizes) <= 1
        for k, size in enumerate(sizes):
            where = made.sections.index(section)
            assert made.shard_sizes(k)[where] == size


@quick
@given(st.lists(specs, max_size=8), st.integers(1, 9))
def test_a_rule_that_looks_at_variables_has_them_whole(variables, num_shards):
    made = layout.Layout(variables, num_shards, rules.Aligned())
    for section in made.sections:
        cuts = [made.cut(section, k) for k in range(num_shards)]
        positions = [k for cut in cuts for k in range(section.size)[cut]]
        assert positions == list(range(section.size))
        if section.role == layout.STATISTICS:
            assert not made.is_by_variable(section)
            continue
        ends = np.cumsum([size_of(variables[k]) for k in section.members])
        assert {cut.stop for cut in cuts} <= {0, *ends}


@quick
@given(layouts)
def test_sections_hold_every_variable_once(made):
    members = sorted(k for s in made.sections for k in s.members)
    assert members == list(range(len(made.variables)))
    for section in made.sections:
        sizes = [size_of(made.variables[k]) for k in section.members]
        assert section.size == sum(sizes)
        for k in section.members:
            assert made.variables[k].role == section.role
            assert made.variables[k].dtype == section.dtype


@quick
@given(layouts)
def test_every_value_has_the_name_of_its_variable(made):
    for section in made.sections:
        names = [
            made.variables[k].name
            for k in section.members
            for _ in range(size_of(made.variables[k]))
        ]
        found = [made.variable_at(section, k) for k in range(section.size)]
        assert found == names
        with pytest.raises(IndexError):
            made.variable_at(section, section.size)


@quick
@given(layouts)
def test_parts_are_views_of_whole_sections(made):
    flat = made.zeros()
    for k in range(made.num_shards):
        for part in made.parts(flat, k):
            part[...] = k + 1
    for section, array in zip(made.sections, flat, strict=True):
        assert array.dtype == layout.np_dtype(section.dtype)
        assert array.nbytes == section.nbytes
        assert (np.diff(array.astype(np.float64)) >= 0).all()
        assert (array > 0).all()


@quick
@given(layouts)
def test_a_description_round_trips_through_json(made):
    description = json.loads(json.dumps(made.describe()))
    again = layout.Layout.from_description(description)
    assert again.variables == made.variables
    assert again.sections == made.sections
    assert again.num_shards == made.num_shards
    assert layout.difference(description, made.describe()) is None


@quick
@given(layouts, st.randoms(use_true_random=False))
def test_what_is_cut_into_messages_comes_back(made, random):
    flat = made.empty()
    for array in flat:
        array.view(np.uint8)[...] = random.randrange(256)
    received = made.zeros()
    for k in range(made.num_shards):
        messages = wire.chunks(made.parts(flat, k))
        wire.receive(messages, made.parts(received, k))
    for there, here in zip(flat, received, strict=True):
        assert there.tobytes() == here.tobytes()


def described(*variables, num_shards=2):
    return layout.Layout(variables, num_shards).describe()


A = layout.VariableSpec("a", (2, 3), "float32", layout.PARAMETERS)
B = layout.VariableSpec("b", (4,), "float32", layout.PARAMETERS)


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        (described(A, B, num_shards=3), "center servers is 2 at the center"),
        (described(A), "has 2 variables, the worker's 1"),
        (
            described(A, B._replace(shape=(5,))),
            r"variable 1 is 'b' float32\[4\] at the center and 'b' float32\[5",
        ),
        (
            described(A._replace(dtype="float64"), B._replace(shape=())),
            r"variable 0 is 'a' float32\[2, 3\] .* 'a' float64\[2, 3\]",
        ),
        (
            described(A, B._replace(role=layout.STATISTICS)),
            r"'b' float32\[4\] at the center .* \(statistics\)",
        ),
        ({**described(A, B), "format": 0}, "the format of the calls"),
        (
            {**described(A, B), "tf_elastic": "0.0.1"},
            f"release of tf_elastic is {version.__version__} at the center "
            "and 0.0.1 at the worker",
        ),
    ],
)
def test_the_first_difference_is_named(theirs, words):
    found = layout.difference(described(A, B), theirs)
    assert re.search(words, found), found


def test_names_of_variables_may_differ():
    ours, theirs = described(A, B), described(A._replace(name="c"), B)
    assert layout.difference(ours, theirs) is None


def test_runs_are_few_and_come_back():
    assert layout.runs_of([]) == []
    assert layout.runs_of([7, 3, 4, 5]) == [[3, 6], [7, 8]]
    for indices in ([0], [0, 1, 2], [1, 3, 5], [2, 3, 9, 10, 11]):
        assert layout.members_of(layout.runs_of(indices)) == set(indices)


@pytest.mark.parametrize("num_shards", [1, 2, 3, 5])
def test_places_of_variables_are_theirs(num_shards):
    """On all shards together, and no value more."""
    specs = [
        layout.VariableSpec("a", (3, 4), "float64", layout.PARAMETERS),
        layout.VariableSpec("s", (5,), "float64", layout.STATISTICS),
        layout.VariableSpec("b", (7,), "float64", layout.PARAMETERS),
        layout.VariableSpec("c", (2,), "float64", layout.PARAMETERS),
    ]
    made = layout.Layout(specs, num_shards)
    [section] = [s for s in made.sections if s.role == layout.PARAMETERS]
    for wanted in ([0], [2], [0, 3], [0, 2, 3]):
        flat = np.zeros(section.size)
        for shard in range(num_shards):
            part = flat[made.cut(section, shard)]
            for place in made.places(section, shard, layout.runs_of(wanted)):
                part[place] += 1
        first, expected = 0, np.zeros(section.size)
        for k in section.members:
            size = int(np.prod(specs[k].shape))
            expected[first : first + size] = k in wanted
            first += size
        np.testing.assert_array_equal(flat, expected)


@pytest.mark.parametrize("runs", [[[0, 5]], [[2, 2]], [[3, 1]]])
def test_runs_of_another_model_are_refused(runs):
    specs = [layout.VariableSpec("a", (3,), "float32", layout.PARAMETERS)] * 4
    with pytest.raises(errors.MessageError, match="Runs of variables"):
        layout.Layout(specs, 1).check_runs(runs)
