"""Compression: bytes, error bounds, and two ends that agree to the bit."""

import re
import subprocess
import sys

import hypothesis
import ml_dtypes
import numpy as np
import pytest
from hypothesis import strategies as st

from tests import source_tree as tree
from tests.drawing import examples
from tf_elastic.cluster.transport import codec as codecs
from tf_elastic.cluster.transport.reference_codec import Reference

DTYPES = (np.float16, ml_dtypes.bfloat16, np.float32, np.float64)
SIZES = (0, 1, 1023, 1024, 1025, 5000, 70_001)

every_codec = pytest.mark.parametrize("codec", codecs.CODECS)
every_dtype = pytest.mark.parametrize(
    "dtype", DTYPES, ids=lambda dtype: np.dtype(dtype).name
)
every_size = pytest.mark.parametrize("size", SIZES)


def values_of(size, dtype, scale=1.0, seed=0):
    """Normal values, of very different sizes from block to block."""
    generator = np.random.default_rng(seed)
    rows = 4.0 ** (np.arange(size) // codecs.BLOCK % 5)
    return (generator.standard_normal(size) * rows * scale).astype(dtype)


def round_trip(codec, values):
    data = codecs.encode(codec, values)
    return codecs.decode(codec, bytes(data), values.dtype, values.size)


def in_float64(values):
    return np.asarray(values).astype(np.float64)


def block_error_bounds(values, dtype):
    """For each value: half a scale of its block, and the dtype's rounding."""
    values = in_float64(values)
    bounds = np.zeros_like(values)
    for start in range(0, values.size, codecs.BLOCK):
        block = slice(start, start + codecs.BLOCK)
        bounds[block] = np.abs(values[block]).max() / 254
    rounding = ml_dtypes.finfo(dtype).eps * np.abs(values)
    return bounds * (1 + 1e-5) + rounding + 2e-36


def check_range(message, place):
    """An error says where to look for a value, if not to the very place."""
    first, last = map(int, re.search(r"(\d+) to (\d+)", message).groups())
    assert first <= place <= last < first + codecs.PIECE


@every_codec
@every_dtype
@every_size
def test_lengths_shapes_and_dtypes(codec, dtype, size):
    values = values_of(size, dtype)
    data = codecs.encode(codec, values)
    assert data.dtype == np.uint8
    assert data.shape == (codecs.encoded_nbytes(codec, size, dtype),)
    decoded = codecs.decode(codec, data, dtype, size)
    assert decoded.dtype == dtype
    assert decoded.shape == (size,)
    out = np.ones(size, dtype)
    assert codecs.decode(codec, bytes(data), dtype, size, out) is out
    assert out.tobytes() == decoded.tobytes()


def test_lengths_by_hand():
    assert codecs.encoded_nbytes("none", 10, np.float64) == 80
    assert codecs.encoded_nbytes("bfloat16", 10, np.float64) == 20
    assert codecs.encoded_nbytes("bfloat16", 10, np.float16) == 20
    assert codecs.encoded_nbytes("int8", 2049, np.float64) == 2049 + 12
    assert codecs.encoded_nbytes("int8", 0, np.float64) == 0


@every_dtype
@every_size
def test_none_keeps_every_bit_and_copies_nothing(dtype, size):
    values = values_of(size, dtype)
    assert round_trip("none", values).tobytes() == values.tobytes()
    data = codecs.encode("none", values)
    assert not size or np.shares_memory(data, values)
    decoded = codecs.decode("none", data, dtype, size)
    assert not size or np.shares_memory(decoded, values)


@every_size
def test_bfloat16_rounds_to_the_nearest(size):
    values = values_of(size, np.float32)
    expected = values.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(round_trip("bfloat16", values), expected)
    assert np.all(np.abs(expected - values) <= np.abs(values) / 256)


def test_bfloat16_rounds_ties_to_even():
    values = np.array([1 + 2**-8, 1 + 3 * 2**-8], np.float32)
    expected = np.array([1, 1 + 2**-6], np.float32)
    np.testing.assert_array_equal(round_trip("bfloat16", values), expected)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_bfloat16_leaves_sixteen_bits_as_they_are(dtype):
    values = values_of(3000, dtype)
    assert round_trip("bfloat16", values).tobytes() == values.tobytes()


@every_dtype
@every_size
def test_int8_errs_by_half_a_scale_of_the_block(dtype, size):
    values = values_of(size, dtype)
    error = np.abs(in_float64(round_trip("int8", values)) - in_float64(values))
    assert np.all(error <= block_error_bounds(values, dtype))


def test_the_int8_message_by_hand():
    values = np.zeros(1026, np.float32)
    values[:4] = [254, -127, 2.4, 3.4]
    values[1024:] = [-12.7, 0.26]
    data = codecs.encode("int8", values)
    np.testing.assert_array_equal(
        data[:8].view("<f4"), np.array([254, 12.7], np.float32) / 127
    )
    numbers = data[8:].view(np.int8)
    np.testing.assert_array_equal(numbers[:4], [127, -64, 1, 2])
    np.testing.assert_array_equal(numbers[1024:], [-127, 3])
    assert not numbers[4:1024].any()


@every_dtype
def test_int8_of_zeros(dtype):
    values = np.zeros(2500, dtype)
    values[1024] = 3
    np.testing.assert_array_equal(
        in_float64(round_trip("int8", values)), in_float64(values)
    )


@every_dtype
@pytest.mark.parametrize("sign", [1, -1])
def test_int8_of_the_largest_and_smallest_values(dtype, sign):
    largest = min(ml_dtypes.finfo(dtype).max, np.finfo(np.float32).max)
    smallest = ml_dtypes.finfo(dtype).smallest_subnormal
    for value in (largest, ml_dtypes.finfo(dtype).tiny, smallest):
        values = np.full(1500, sign * float(value)).astype(dtype)
        decoded = in_float64(round_trip("int8", values))
        error = np.abs(decoded - in_float64(values))
        assert np.all(error <= block_error_bounds(values, dtype)), value


@every_dtype
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1023, 40_000, 70_000])
def test_non_finite_values(dtype, bad, place):
    values = values_of(70_001, dtype)
    values[place] = bad
    for codec in ("none", "bfloat16"):
        decoded = in_float64(round_trip(codec, values))
        np.testing.assert_array_equal(decoded[place], bad)
        assert np.isfinite(np.delete(decoded, place)).all()
    with pytest.raises(ValueError, match="finite") as error:
        codecs.encode("int8", values)
    check_range(str(error.value), place)


def test_float64_beyond_float32_is_refused_by_int8():
    with pytest.raises(ValueError, match="too large"):
        codecs.encode("int8", np.array([1.0, 1e39]))


@every_codec
@every_dtype
@pytest.mark.parametrize("change", [-1, 1])
def test_data_of_a_wrong_length(codec, dtype, change):
    size = 1500
    data = bytes(codecs.encode(codec, values_of(size, dtype)))
    data = data[:-1] if change < 0 else data + b"\0"
    out = np.ones(size, dtype)
    receiver = Reference(codec, dtype, size)
    for call in (
        lambda: codecs.decode(codec, data, dtype, size, out),
        lambda: receiver.receive(data),
    ):
        with pytest.raises(ValueError, match=f"Received: {len(data)} bytes"):
            call()
    assert np.all(out == 1)
    assert receiver.reference is None or not receiver.reference.any()


@pytest.mark.parametrize("scale", [np.nan, np.inf])
def test_a_scale_that_is_not_finite_is_refused(scale):
    data = codecs.encode("int8", np.ones(2000, np.float32))
    data[4:8].view("<f4")[:] = scale
    with pytest.raises(ValueError, match="1 of 2 are not"):
        codecs.decode("int8", data, np.float32, 2000)


def test_bad_arguments():
    values = np.ones(4, np.float32)
    with pytest.raises(ValueError, match="'none', 'bfloat16', 'int8'"):
        codecs.encode("int4", values)
    with pytest.raises(ValueError, match="codec='zip'"):
        Reference("zip", np.float32, 3)
    with pytest.raises(ValueError, match="dtype=int32"):
        codecs.encode("none", np.ones(4, np.int32))
    with pytest.raises(ValueError, match="byte order"):
        codecs.encode("none", values.astype(">f4"))
    with pytest.raises(ValueError, match="contiguous=False"):
        codecs.encode("int8", values[::2])
    with pytest.raises(ValueError, match=r"shape=\(2, 2\)"):
        codecs.encode("int8", values.reshape(2, 2))
    with pytest.raises(ValueError, match="out must be .* float32"):
        codecs.decode("none", bytes(16), np.float32, 4, np.ones(4))
    with pytest.raises(ValueError, match=r"shape \(5,\)"):
        Reference("int8", np.float32, 5).compress(values)


@every_codec
@every_dtype
@examples(15)
@hypothesis.given(data=st.data())
def test_both_ends_hold_the_same_bits(codec, dtype, data):
    size = data.draw(st.sampled_from((0, 1, 1023, 1025, 3000)), label="size")
    seed = data.draw(st.integers(0, 1000), label="seed")
    steps = data.draw(
        st.lists(
            st.tuples(
                st.sampled_from(("move", "stay", "jump", "restart")),
                st.sampled_from((1e-30, 1e-6, 1e-2, 1.0, 1e3)),
            ),
            min_size=1,
            max_size=12,
        ),
        label="steps",
    )
    sender = Reference(codec, dtype, size)
    receiver = Reference(codec, dtype, size)
    x = values_of(size, dtype, seed=seed)
    for number, (kind, scale) in enumerate(steps):
        change = values_of(size, dtype, scale / 256, seed + number + 1)
        if kind == "jump":
            x = change
        elif kind != "stay":
            x = (x + change).astype(dtype)
        if kind == "restart":
            message = bytes(codecs.encode("none", sender.restart(x)))
            received = receiver.restart(
                codecs.decode("none", message, dtype, size)
            )
            assert received.tobytes() == x.tobytes()
            assert sender.relative_error == 0
        else:
            received = receiver.receive(bytes(sender.compress(x)))
        held = x if sender.reference is None else sender.reference
        assert received.tobytes() == held.tobytes()
        assert not received.flags.writeable
        exact = in_float64(x)
        error = np.linalg.norm(exact - in_float64(held))
        if error:
            size_of_x = np.linalg.norm(exact)
            error = error / size_of_x if size_of_x else np.inf
        np.testing.assert_allclose(
            sender.relative_error, error, rtol=1e-4, atol=1e-300
        )


@pytest.mark.parametrize("codec", ["bfloat16", "int8"])
@every_dtype
def test_the_error_falls_geometrically_to_rounding(codec, dtype):
    size = 70_001
    x = values_of(size, dtype)
    sender = Reference(codec, dtype, size)
    receiver = Reference(codec, dtype, size)
    rounding = float(ml_dtypes.finfo(dtype).eps)
    errors = [1.0]
    for _ in range(12):
        received = receiver.receive(bytes(sender.compress(x)))
        errors.append(sender.relative_error)
        assert errors[-1] <= max(errors[-2] / 60, rounding)
    assert errors[-1] <= rounding
    np.testing.assert_allclose(
        in_float64(received), in_float64(x), rtol=4 * rounding
    )


def test_what_is_dropped_goes_with_later_messages():
    """With plain int8 the small value would never arrive."""
    x = np.array([1000, 1], np.float32)
    assert round_trip("int8", x)[1] == 0
    sender = Reference("int8", np.float32, 2)
    receiver = Reference("int8", np.float32, 2)
    sender.compress(x)
    assert sender.relative_error == pytest.approx(1e-3, rel=1e-3)
    receiver.receive(codecs.encode("int8", x))
    np.testing.assert_allclose(receiver.receive(sender.compress(x)), x)


@pytest.mark.parametrize("codec", ["bfloat16", "int8"])
@every_dtype
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_refused_message_changes_nothing(codec, dtype, bad):
    x = values_of(70_001, dtype)
    sender = Reference(codec, dtype, x.size)
    if sender.reference is None:
        return  # Nothing is lossy here: NaN is sent as it is.
    sender.compress(x)
    before = sender.reference.tobytes()
    error = sender.relative_error
    wrong = x.copy()
    wrong[70_000] = bad
    for call in (sender.compress, sender.restart):
        with pytest.raises(ValueError, match="finite") as raised:
            call(wrong)
        check_range(str(raised.value), 70_000)
        assert sender.reference.tobytes() == before
        assert sender.relative_error == error
    receiver = Reference(codec, dtype, x.size)
    receiver.restart(sender.reference)
    received = receiver.receive(sender.compress(x))
    assert received.tobytes() == sender.reference.tobytes()


def test_a_float32_that_bfloat16_would_make_infinite_is_refused():
    x = np.array([np.finfo(np.float32).max], np.float32)
    sender = Reference("bfloat16", np.float32, 1)
    with pytest.raises(ValueError, match="too large"):
        sender.compress(x)
    assert not sender.reference.any()


def test_without_loss_no_memory_is_held_and_nan_passes():
    sender = Reference("none", np.float32, 3)
    receiver = Reference("none", np.float32, 3)
    x = np.array([1, np.nan, np.inf], np.float32)
    for message in (sender.restart(x), sender.compress(x)):
        assert np.shares_memory(message, x)
        np.testing.assert_array_equal(receiver.receive(message), x)
    np.testing.assert_array_equal(receiver.restart(x), x)
    assert sender.relative_error == 0
    assert sender.reference is None
    assert receiver.reference is None


def test_the_error_of_zeros():
    sender = Reference("int8", np.float32, 2)
    sender.compress(np.zeros(2, np.float32))
    assert sender.relative_error == 0
    sender.restart(np.array([1, 300], np.float32))
    sender.compress(np.zeros(2, np.float32))
    assert sender.relative_error == np.inf


def test_neither_values_nor_data_are_changed():
    x = values_of(3000, np.float32)
    copy = x.copy()
    sender = Reference("int8", np.float32, x.size)
    message = sender.compress(x)
    data = message.tobytes()
    Reference("int8", np.float32, x.size).receive(message)
    np.testing.assert_array_equal(x, copy)
    assert message.tobytes() == data


def test_a_server_needs_no_tensorflow_for_it():
    source = (
        "import sys;"
        "import tf_elastic.cluster.transport.codec;"
        "import tf_elastic.cluster.center.snapshots;"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", source], check=True, cwd=tree.ROOT, timeout=60
    )
