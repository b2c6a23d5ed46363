"""Snapshots: whole or not there, whatever happens to process and disk."""

import functools
import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import textwrap
import zlib

import ml_dtypes
import numpy as np
import pytest

from tests import source_tree as tree
from tests.cluster_support import until
from tf_elastic.cluster.center import snapshots

DTYPES = [
    np.dtype(name)
    for name in (
        *("bool", "int8", "int16", "int32", "int64"),
        *("uint8", "uint16", "uint32", "uint64"),
        *("float16", ml_dtypes.bfloat16, "float32", "float64"),
    )
]


@pytest.fixture
def store(tmp_path):
    with snapshots.SnapshotStore(tmp_path / "center") as store:
        yield store


def small_state(number=1):
    return {
        "center": np.full(100, number, np.float32),
        "pushes": {"worker 0": number},
        "average": np.full(7, number, ml_dtypes.bfloat16),
    }


def assert_same(state, expected):
    assert list(state) == list(expected)
    for name, value in expected.items():
        if isinstance(value, np.ndarray):
            assert state[name].dtype == value.dtype
            assert state[name].shape == value.shape
            assert state[name].tobytes() == value.tobytes()
        else:
            assert state[name] == value


def python(source, *arguments, prefix=(), **options):
    """Starts a Python process that runs `source`, with pipes."""
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", textwrap.dedent(source), *arguments],
        cwd=tree.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def finished(process):
    """Its output, once it has ended well."""
    try:
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, errors
    return output


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (1,), (1001,), (3, 5, 2)])
def test_arrays_come_back_to_the_bit(store, dtype, shape):
    generator = np.random.default_rng(1)
    array = generator.integers(0, 100, shape).astype(dtype).reshape(shape)
    state = {"a": array, "odd": np.arange(3, dtype=np.uint8), "b": array}
    store.save(state, 5)
    loaded = store.load()
    assert_same(loaded.state, state)
    assert all(a.flags.writeable for a in loaded.state.values())
    assert all(a.flags.aligned for a in loaded.state.values())


def test_special_values_and_strides(store):
    values = np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45], np.float32)
    state = {
        "special": values,
        "bfloat16": values.astype(ml_dtypes.bfloat16),
        "strided": np.arange(12)[::3],
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "text": 'Grüße, "center"\n',
        "none": None,
        "list": [1, 2.5, True, {"deep": [None]}],
        "big": 2**80,
    }
    store.save(state, 0)
    assert_same(store.load().state, state)


def test_an_empty_folder_and_an_empty_state(store):
    assert store.load() is None
    store.save({}, 0)
    assert store.load().state == {}


def test_the_format_by_hand(store):
    array = np.arange(5, dtype=np.float32)
    path = store.save({"steps": 9, "x": array, "y": array}, 123)
    assert path.name == "center-000123.snapshot"
    data = path.read_bytes()
    magic, version, zero, header_length, length = struct.unpack(
        "<8sIIQQ", data[:32]
    )
    assert (magic, version, zero, length) == (b"TFECSNAP", 1, 0, len(data))
    header = json.loads(data[32 : 32 + header_length])
    assert header["generation"] == 123
    assert header["names"] == ["steps", "x", "y"]
    assert header["values"] == {"steps": 9}
    start = -(-(32 + header_length) // 64) * 64
    for entry, offset in zip(header["arrays"], (0, 64), strict=True):
        assert entry["offset"] == offset
        first = start + offset
        content = data[first : first + entry["nbytes"]]
        assert content == array.astype("<f4").tobytes()
    assert struct.unpack("<I", data[-4:]) == (zlib.crc32(data[:-4]),)


def test_the_newest_is_loaded_and_older_ones_go(tmp_path):
    with snapshots.SnapshotStore(tmp_path, keep=3) as store:
        for generation in (0, 1, 5, 999_999, 1_000_000, 12_345_678):
            store.save(small_state(generation % 99), generation)
            loaded = store.load()
            assert loaded.generation == generation
            assert loaded.skipped == []
            assert_same(loaded.state, small_state(generation % 99))
        assert store.generations() == [12_345_678, 1_000_000, 999_999]
        names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [
        "center-1000000.snapshot",
        "center-12345678.snapshot",
        "center-999999.snapshot",
        "center.lock",
    ]


def test_a_generation_can_be_saved_again(store):
    store.save(small_state(1), 4)
    store.save(small_state(2), 4)
    assert_same(store.load().state, small_state(2))
    assert store.generations() == [4]


def test_an_older_generation_is_refused(store):
    store.save(small_state(), 4)
    with pytest.raises(ValueError, match="generation=3; .* holds 4"):
        store.save(small_state(), 3)
    with pytest.raises(ValueError, match=">= 0"):
        store.save(small_state(), -1)
    assert store.generations() == [4]


def test_truncated_anywhere(store):
    store.save(small_state(1), 1)
    path = store.save(small_state(2), 2)
    whole = path.read_bytes()
    header_length = struct.unpack("<Q", whole[16:24])[0]
    data_start = -(-(32 + header_length) // 64) * 64
    interesting = {0, len(whole) - 4}
    for edge in (8, 12, 16, 24, 32, 32 + header_length, data_start):
        interesting |= {edge - 1, edge, edge + 1}
    for edge in (data_start + 400, len(whole) - 4, len(whole) - 1):
        interesting |= {edge - 1, edge}
    for length in sorted(interesting):
        path.write_bytes(whole[:length])
        loaded = store.load()
        assert loaded.generation == 1, length
        assert_same(loaded.state, small_state(1))
        ((file, reason),) = loaded.skipped
        assert file == path
        assert "bytes" in reason
    path.write_bytes(whole + b"\0")
    assert "should have" in store.load().skipped[0].reason
    path.write_bytes(whole)
    assert store.load().generation == 2


def test_a_flipped_bit_anywhere(store):
    store.save(small_state(1), 1)
    path = store.save(small_state(2), 2)
    whole = path.read_bytes()
    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= 1 << position % 8
        path.write_bytes(data)
        loaded = store.load()
        # The four zeros are read by nobody, but for the checksum.
        assert loaded.generation == 1, position
        assert len(loaded.skipped) == 1


def with_new_checksum(data):
    return data[:-4] + struct.pack("<I", zlib.crc32(data[:-4]))


def with_header(text):
    """A file without arrays, with a header and the right checksum."""
    start = -(-(32 + len(text)) // 64) * 64
    head = struct.pack("<8sI4xQQ", b"TFECSNAP", 1, len(text), start + 4)
    return with_new_checksum((head + text).ljust(start, b"\0") + bytes(4))


def test_the_reasons(store):
    store.save(small_state(1), 1)
    path = store.save(small_state(2), 2)
    whole = path.read_bytes()
    header_end = 32 + struct.unpack("<Q", whole[16:24])[0]
    for data, reason in (
        (b"PK" + whole[2:], "does not begin as"),
        (whole[:8] + b"\2" + whole[9:], "version 2; this program reads 1"),
        (whole[:-9] + b"\1" + whole[-8:], "checksum"),
        (whole[:20] + b"\1" + whole[21:], "header is longer"),
        (with_new_checksum(whole[:40] + b"{" + whole[41:]), "header is wrong"),
        (
            with_new_checksum(
                whole[:header_end].replace(b"float32", b"float31")
                + whole[header_end:]
            ),
            "header is wrong: 'float31'",
        ),
        (b"", "cut short, after 0 bytes"),
    ):
        path.write_bytes(data)
        ((_, found),) = store.load().skipped
        assert reason in found
    for text, reason in (
        (b"[" * 100_000, "nested too deep"),
        (b"[]", "header is wrong"),
        (b'{"generation":2}', "header is wrong: 'values'"),
        (
            b'{"generation":2,"values":{},"names":["a"],"arrays":[{"name":"a",'
            b'"dtype":"int8","shape":[9],"offset":0,"nbytes":9e9}]}',
            "header is wrong",
        ),
    ):
        path.write_bytes(with_header(text))
        ((_, found),) = store.load().skipped
        assert reason in found
    path.unlink()
    path.mkdir()
    assert "cannot be read" in store.load().skipped[0].reason
    path.rmdir()
    whole_first = path.with_name("center-000001.snapshot").read_bytes()
    path.write_bytes(whole_first)
    assert "generation 1, not 2" in store.load().skipped[0].reason


def test_none_whole_is_an_error_and_not_a_new_beginning(store):
    for generation in (1, 2):
        store.save(small_state(), generation).write_bytes(b"no")
    with pytest.raises(snapshots.SnapshotError) as error:
        store.load()
    assert "000002.snapshot: it is cut short" in str(error.value)
    assert "000001.snapshot: it is cut short" in str(error.value)
    assert "move these files away" in str(error.value)


def test_damaged_files_do_not_crowd_out_whole_ones(store):
    for generation in (1, 2):
        store.save(small_state(generation), generation)
    folder = store.load().file.parent
    for generation in (3, 9):
        (folder / f"center-{generation:06d}.snapshot").write_bytes(b"no")
    assert store.load().generation == 2
    store.save(small_state(4), 4)
    assert store.generations() == [4, 2]
    assert (folder / "center-000009.snapshot.damaged").read_bytes() == b"no"
    loaded = store.load()
    assert loaded.generation == 4
    assert not loaded.skipped


def test_damage_that_was_not_loaded_is_found_when_saving(store):
    store.save(small_state(), 1).with_name(
        "center-000007.snapshot"
    ).write_bytes(b"no")
    store.save(small_state(2), 2)
    assert store.load().generation == 2
    assert store.generations() == [2, 1]


def test_other_files_are_left_alone(store):
    store.save(small_state(), 1)
    folder = store.load().file.parent
    names = [
        "notes.txt",
        "center-12.snapshot",
        "center-0000012.snapshot",
        "center-000050.snapshot.damaged",
    ]
    for name in names:
        (folder / name).write_text("mine")
    for generation in range(2, 6):
        store.save(small_state(), generation)
    assert store.load().generation == 5
    assert all((folder / name).read_text() == "mine" for name in names)


def test_what_cannot_be_stored(store):
    bad = {
        "object": np.array([{}], object),
        "text": np.array(["a"]),
        "complex": np.ones(2, np.complex64),
        "byte_order": np.ones(2, ">f4"),
        "scalar": np.float32(1),
        "set": {1},
    }
    for name, value in bad.items():
        with pytest.raises(TypeError, match=rf"state\['{name}'\]"):
            store.save({name: value}, 1)
    with pytest.raises(TypeError, match="Names must be text"):
        store.save({1: 1}, 1)
    assert store.load() is None


def test_bad_arguments_and_a_closed_store(tmp_path):
    with pytest.raises(ValueError, match="keep=0"):
        snapshots.SnapshotStore(tmp_path, keep=0)
    store = snapshots.SnapshotStore(tmp_path)
    store.close()
    store.close()
    with pytest.raises(ValueError, match="closed"):
        store.save({}, 1)


def test_a_folder_that_cannot_be_made(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(snapshots.SnapshotError) as error:
        snapshots.SnapshotStore(file / "center")
    assert str(file / "center") in str(error.value)
    assert "Not a directory" in str(error.value)


def test_a_folder_that_goes_away_is_made_and_locked_anew(tmp_path):
    folder = tmp_path / "center"
    with snapshots.SnapshotStore(folder) as store:
        store.save(small_state(1), 1)
        for generation, others in ((2, False), (3, True)):
            assert store.has(generation - 1)
            shutil.rmtree(folder)
            assert not store.has(generation - 1)
            with pytest.raises(snapshots.SnapshotError, match="No such file"):
                store.load()
            if others:  # Somebody has made it anew, and uses it.
                with (
                    snapshots.SnapshotStore(folder),
                    pytest.raises(snapshots.SnapshotError, match="in use by"),
                ):
                    store.save(small_state(generation), generation)
            store.save(small_state(generation), generation)
            assert_same(store.load().state, small_state(generation))
            with pytest.raises(snapshots.SnapshotError, match="in use by"):
                snapshots.SnapshotStore(folder)


def test_only_the_owner_reads_a_snapshot(tmp_path):
    before = os.umask(0)
    try:
        with snapshots.SnapshotStore(tmp_path / "a" / "center") as store:
            file = store.save(small_state(), 1)
            partial = file.with_name(".partial-center-000002.snapshot")
            partial.touch(0o666)  # As one that is as old as the umask.
            newest = store.save(small_state(2), 2)
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in (file, newest)}
    assert set(modes.values()) == {0o600}
    assert (file.parent / "center.lock").stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


FILL = """
    import os, sys
    import numpy as np
    from tf_elastic.cluster.center import snapshots

    store = snapshots.SnapshotStore(sys.argv[1])
    small = {"x": np.ones(10_000, np.float32)}
    large = {"x": np.ones(10_000_000, np.float32)}
    for generation in (1, 2):
        store.save(small, generation)
    LIMIT
    try:
        store.save(large, 3)
    except snapshots.SnapshotError as error:
        print(error)
    else:
        sys.exit("The disk was not full.")
    print(sorted(os.listdir(sys.argv[1])))
    loaded = store.load()
    print(loaded.generation, loaded.skipped)
    store.save(small, 3)
    print(store.load().generation, store.generations())
"""


def assert_a_full_disk_is_survived(output, folder, reason):
    message, names, loaded, after = output.splitlines()
    assert str(folder) in message
    assert reason in message
    assert "Generation 2 is still there" in message
    assert "next save can succeed" in message
    assert names == str(
        ["center-000001.snapshot", "center-000002.snapshot", "center.lock"]
    )
    assert loaded == "2 []"
    assert after == "3 [3, 2]"


def test_a_file_may_not_grow_further(tmp_path):
    limit = (
        "import resource, signal;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, -1))"
    )
    output = finished(python(FILL.replace("LIMIT", limit), str(tmp_path)))
    assert_a_full_disk_is_survived(output, tmp_path, "File too large")


def test_a_disk_that_is_really_full(tmp_path):
    mount = 'mount -t tmpfs -o size=1m none "$0" && exec "$@"'
    prefix = ["unshare", "-Urm", "sh", "-c", mount, str(tmp_path)]
    try:
        probe = subprocess.run(
            [*prefix, "true"], capture_output=True, text=True, timeout=30
        )
    except FileNotFoundError:
        pytest.skip("There is no `unshare` here to mount a small disk with.")
    if probe.returncode:
        pytest.skip(f"No small disk can be mounted here: {probe.stderr}")
    child = python(FILL.replace("LIMIT", ""), str(tmp_path), prefix=prefix)
    output = finished(child)
    assert_a_full_disk_is_survived(output, tmp_path, "No space left")


def test_a_failure_to_reach_the_disk(store, monkeypatch):
    store.save(small_state(1), 1)

    def fsync(_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(snapshots.SnapshotError, match="Input/output error"):
        store.save(small_state(2), 2)
    assert store.generations() == [1]
    folder = store.load().file.parent
    assert not list(folder.glob(".partial-*"))


def test_a_first_save_that_fails_says_so(store, monkeypatch):
    def replace(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(snapshots.SnapshotError, match="would begin anew"):
        store.save(small_state(2), 2)


SAVE_FOREVER = """
    import sys
    import numpy as np
    from tf_elastic.cluster.center import snapshots

    store = snapshots.SnapshotStore(sys.argv[1])
    loaded = store.load()
    number = loaded.generation if loaded else 0
    print(number, flush=True)
    while True:
        number += 1
        state = {
            "x": np.full(400_000, number, np.float32),
            "number": number,
            "y": np.full(200_000, number, np.float64),
        }
        store.save(state, number)
        print(number, flush=True)
"""


def is_stopped_in_a_save(process, folder):
    """Stops it; lets it go on if that was between two saves."""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    if list(folder.glob(".partial-*")):
        return True
    process.send_signal(signal.SIGCONT)
    return False


def test_killed_while_saving(tmp_path):
    """Nothing that was reported as saved is lost; nothing half is loaded."""
    partial = 0
    for saves in range(8):
        process = python(SAVE_FOREVER, str(tmp_path))
        try:
            reported = [
                int(process.stdout.readline()) for _ in range(1 + saves)
            ]
            if saves % 2:
                stopped = functools.partial(is_stopped_in_a_save, process)
                until(functools.partial(stopped, tmp_path))
        finally:
            process.send_signal(signal.SIGKILL)
        output, errors = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL, errors
        partial += bool(list(tmp_path.glob(".partial-*")))
        with snapshots.SnapshotStore(tmp_path) as store:
            loaded = store.load()
        assert not list(tmp_path.glob(".partial-*"))
        reported += [int(line) for line in output.split("\n")[:-1]]
        if loaded is None:
            assert reported == [0]
            continue
        assert loaded.skipped == []
        assert loaded.generation >= max(reported, default=0)
        assert loaded.state["number"] == loaded.generation
        for name in "xy":
            assert np.all(loaded.state[name] == loaded.generation)
    assert loaded.generation > 5
    assert partial >= 4


HOLD = """
    import sys, time
    from tf_elastic.cluster.center import snapshots

    store = snapshots.SnapshotStore(sys.argv[1])
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_names_its_holder_and_dies_with_it(tmp_path):
    process = python(HOLD, str(tmp_path))
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(snapshots.SnapshotError) as error:
            snapshots.SnapshotStore(tmp_path)
        assert str(tmp_path) in str(error.value)
        assert f"process {process.pid}." in str(error.value)
    finally:
        process.kill()
        process.communicate(timeout=60)
    with snapshots.SnapshotStore(tmp_path) as store:
        store.save(small_state(), 1)


def test_the_lock_holds_within_a_process_until_closed(tmp_path):
    with snapshots.SnapshotStore(tmp_path):
        with pytest.raises(snapshots.SnapshotError, match=str(os.getpid())):
            snapshots.SnapshotStore(tmp_path)
        with snapshots.SnapshotStore(tmp_path / "other"):
            pass
    with snapshots.SnapshotStore(pathlib.Path(tmp_path)):
        pass


def test_a_program_that_was_started_does_not_keep_the_lock(tmp_path):
    with snapshots.SnapshotStore(tmp_path):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1)
    try:
        with snapshots.SnapshotStore(tmp_path):
            pass
    finally:
        child.communicate(b"\n", timeout=60)


def test_an_array_of_many_pieces(store):
    array = np.random.default_rng(0).standard_normal(1_000_003)
    store.save({"center": array, "bytes": array.view(np.uint8)[:-1]}, 1)
    loaded = store.load().state
    assert loaded["center"].tobytes() == array.tobytes()
    assert loaded["bytes"].tobytes() == array.tobytes()[:-1]
