"""The picture of a local cluster's events, at the end of `train.py`."""

import sys

import pytest
from matplotlib import image

from tf_elastic.program import event_picture
from tf_elastic.timeline import Event
from tf_elastic.timeline import event as events
from tf_elastic.timeline import event_file

EVENT = Event(events.JOIN, 1.0, "center 0", worker=0, shard=0, incarnation=1)


@pytest.fixture(autouse=True)
def not_in_the_environment(monkeypatch):
    monkeypatch.delenv(event_file.VARIABLE, raising=False)


@pytest.fixture
def told(tmp_path):
    path = tmp_path / "told" / "events.jsonl"
    path.parent.mkdir()
    path.write_text(EVENT.to_json() + "\n")
    return path


def draw(told=None, model_dir=None):
    event_picture.draw(
        {
            "events": told and str(told),
            "model_dir": model_dir and str(model_dir),
        }
    )


def test_it_is_in_the_runs_folder(told, tmp_path, capsys):
    draw(told, tmp_path / "run")
    assert image.imread(tmp_path / "run" / "events.png").shape[1] > 1000
    assert sorted(told.parent.iterdir()) == [told]
    assert capsys.readouterr() == ("", "")


def test_without_one_it_is_beside_the_events(told, monkeypatch):
    monkeypatch.setenv(event_file.VARIABLE, str(told))
    draw()
    assert (told.parent / "events.png").exists()


def test_nothing_is_drawn_of_nothing(told, monkeypatch, capsys):
    draw()
    told.write_text("")
    draw(told)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    told.write_text(EVENT.to_json() + "\n")
    draw(told)
    assert list(told.parent.iterdir()) == [told]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("is_there", [True, False])
def test_what_goes_wrong_is_told(told, is_there, capsys):
    told.write_text("damage\n")
    if not is_there:
        told.unlink()
    draw(told)
    found = capsys.readouterr().err
    assert found.startswith("train.py: ")
    assert str(told) in found
    assert found.endswith("There is no picture of the events.\n")
