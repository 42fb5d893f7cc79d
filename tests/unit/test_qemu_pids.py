"""A process is only believed to be a guest's when it was started for that guest."""

from __future__ import annotations

from pathlib import Path

import pytest

from balloond.host.qemu_pids import find_pid

UUID = "c13d24be-2a8a-42b3-994c-ee8d025bbf2a"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "web one.pid").write_text("4711\n")
    (tmp_path / "proc" / "4711").mkdir(parents=True)
    (tmp_path / "proc" / "4711" / "cmdline").write_bytes(f"qemu\0-uuid\0{UUID}\0-display\0none\0".encode())
    return tmp_path


def found(host: Path, uuid: str = UUID, name: str = "web one") -> int | None:
    return find_pid(uuid, name, host / "run", host / "proc")


def test_a_guest_s_process_is_found_by_its_name(host: Path) -> None:
    assert found(host) == 4711


def test_a_number_that_is_another_process_s_by_now_is_not_believed(host: Path) -> None:
    assert found(host, uuid="00000000-2a8a-42b3-994c-ee8d025bbf2a") is None


@pytest.mark.parametrize("name", ["unknown", "../run/web one", "a\0b", ""])
def test_a_name_without_a_file_has_no_process(host: Path, name: str) -> None:
    assert found(host, name=name) is None


@pytest.mark.parametrize("text", ["", "many", "99999"])
def test_a_file_that_leads_nowhere_is_no_process(host: Path, text: str) -> None:
    (host / "run" / "web one.pid").write_text(text)
    assert found(host) is None


def test_the_file_s_name_is_the_guest_s_with_xml_s_entities(host: Path) -> None:
    (host / "run" / "web &lt;&apos;a&apos; &amp; &quot;b&quot;&gt;.pid").write_text("4711\n")
    assert found(host, name="web <'a' & \"b\">") == 4711
