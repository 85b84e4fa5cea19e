"""What commands write and print: a pipe is written to, users' texts stay as they are, a person is never a machine."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from threading import Thread

import pytest
from rich.text import Text

from bindu.dspy.arguments import checked_actor
from bindu.dspy.cli.files import put
from bindu.dspy.cli.output import emit, table, user_name
from bindu.dspy.models import MACHINES


def test_a_pipe_stays_one_and_gets_the_bytes(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    put(pipe, b"You help.")
    reader.join(10)
    assert read == [b"You help."]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_link_to_a_file_stays_one_and_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    put(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"
    with pytest.raises(IsADirectoryError):
        put(tmp_path, b"new")


def test_what_users_wrote_is_no_code_for_a_picture(capsys: pytest.CaptureFixture[str]) -> None:
    emit({}, as_json=False, text=lambda: "Say :smile: [b]not[/b] :thumbs_up:")
    emit({}, as_json=False, text=lambda: table("what", rows=[(":smile:",)]))
    emit({}, as_json=False, text=lambda: Text(":smile:"))
    said = capsys.readouterr().out
    assert said.startswith("Say :smile: [b]not[/b] :thumbs_up:\n")
    assert said.count(":smile:") == 3


@pytest.mark.parametrize("name", MACHINES)
def test_a_user_of_a_machine_s_name_is_still_a_person(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("LOGNAME", name)
    assert user_name() == f"user {name}"
    assert checked_actor(user_name())
