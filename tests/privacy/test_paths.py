"""Names of files and folders, and what lies beside ordinary files: links, pipes, hidden files."""

from __future__ import annotations

import gzip
import os
import shutil
from datetime import date, timedelta
from pathlib import Path

import pydicom.examples
import pytest

from temmed.timelines.importers.build import mapper
from temmed.timelines.privacy.known import Known
from temmed.timelines.privacy.paths import Names
from temmed.timelines.privacy.run import Request, deidentify
from temmed.timelines.privacy.scan import search_bytes
from temmed.timelines.privacy.stand_ins import Recognising, StandIns
from temmed.timelines.privacy.text import Scrubber
from temmed.timelines.progress import silent

STAND_INS = StandIns("k")


@pytest.fixture
def names() -> Names:
    known = Known()
    known.add_name("Stone^Grace", "HX-40077")
    known.add_id("HX-40077", STAND_INS.patient("HX-40077"), "HX-40077")
    return Names(Scrubber(STAND_INS, known), {"HX-40077", "JD"})


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("Okafor_Jane_ct.dcm", ["Okafor", "Jane"]),
        ("grace_stone.txt", ["grace", "stone"]),
        ("hannah_keller_flair.png", ["hannah", "keller"]),
        ("STONE-GRACE.txt", ["STONE", "GRACE"]),
        ("HX40077b.png", ["40077"]),
        ("scan_00481516.nii.gz", ["481516"]),
        ("Mar2019_ct.txt", ["2019"]),
        ("ct_2019-03.txt", ["2019"]),
        ("1.2.840.113619.2.55.3.604688119.dcm", ["604688119"]),
        ("scan.Okafor", ["Okafor"]),
        ("ses-Okafor01_T1w.json", ["Okafor"]),
        ("Jo\u0308rg.txt", ["rg"]),
        ("JD/ct.dcm", ["JD"]),
        (".okafor.txt", ["okafor"]),
    ],
)
def test_names_of_files_lose_identifiers(name: str, gone: list[str], names: Names) -> None:
    clean = names.path(name, "HX-40077")
    assert not [part for part in gone if part in clean], clean


@pytest.mark.parametrize(
    "name",
    [
        "T1w_post.nii.gz", "chest_axial_2mm.dcm", "participants.tsv", "task-rest_run-01_bold.json", "README",
        "images/s00012.npy", "series-4/IM0057.dcm", "ses-baseline", "frame_001.png", "ses-m06",
    ],
)  # fmt: skip
def test_names_that_say_nothing_stay(name: str, names: Names) -> None:
    assert names.path(name, "HX-40077") == name


def test_dates_in_names_move_with_their_patient(names: Names) -> None:
    day = date(2150, 3, 4) + timedelta(days=STAND_INS.days("HX-40077"))
    assert names.name("ct_21500304.dcm", "HX-40077") == f"ct_{day:%Y%m%d}.dcm"
    assert "2150" not in names.name("ct_21500304.dcm", None)


def test_a_source_with_unique_ids_of_the_root_that_stand_ins_have_gets_others(names: Names) -> None:
    uid = "2.25.329800735698586629295641978511506172918"
    assert names.name(f"{uid}.dcm", None) == f"{STAND_INS.uid(uid)}.dcm"
    again = Names(Scrubber(Recognising("", dated=True)), ())
    assert again.name(f"{STAND_INS.uid(uid)}.dcm", None) == f"{STAND_INS.uid(uid)}.dcm"


@pytest.mark.parametrize("identifier", ["p00041", "sub-01", "7", "patient_012", "q0000012", "p0123456789ab"])
def test_a_scan_takes_counted_ids_for_pseudonyms(identifier: str) -> None:
    assert Recognising("").patient(identifier) == identifier


@pytest.mark.parametrize("identifier", ["JD1950", "00481516", "HX-40077", "Okafor", "K0481516", "MRN-70010"])
def test_a_scan_takes_no_other_id_for_a_pseudonym(identifier: str) -> None:
    assert Recognising("").patient(identifier) != identifier


def test_links_pipes_and_hidden_files(tmp_path: Path) -> None:
    """A link to a file is followed, whatever it is called; other things that are no files are left out and told."""
    source, elsewhere = tmp_path / "source", tmp_path / "elsewhere"
    source.mkdir()
    elsewhere.mkdir()
    shutil.copy(pydicom.examples.get_path("ct"), elsewhere / "Doe_Jane.dcm")
    (source / "Doe_Jane_link.dcm").symlink_to(elsewhere / "Doe_Jane.dcm")
    (source / "folder").symlink_to(elsewhere)
    (source / "broken.dcm").symlink_to(tmp_path / "nothing")
    (source / ".hidden.txt").write_text("Seen by Dr. Okafor.")
    (source / "archive.zip").write_bytes(b"PK Jane Doe")
    os.mkfifo(source / "pipe.dcm")
    out = tmp_path / "out"
    outcome = deidentify(Request(source, out, key="k"))
    assert outcome.left == []
    assert {path for path, _ in outcome.inventory.left_out} == {"folder", "broken.dcm", "pipe.dcm", "archive.zip"}
    written = {path.name: path for path in out.iterdir()}
    assert len(written) == 4, "two files, the log and the manifest"
    assert not any(path.is_symlink() for path in written.values())
    assert not [name for name in written if "Doe" in name or "Jane" in name]
    assert (out / ".hidden.txt").read_text() == "Seen by Dr. [NAME]."


@pytest.mark.parametrize(
    ("content", "kinds"),
    [
        (b"\0\1Stone, Grace\xff\xff", {"bytes (name)"}),
        ("\x00Jörg Müller-Lüders".encode(), {"bytes (name)"}),
        ("\x00MÜLLER-LÜDERS".encode("latin-1"), {"bytes (name)"}),
        (b"\x80\x90HX-40077\0", {"bytes (id)"}),
        (b"\0" + b"2.25.329800735698586629295641978511506172918", {"bytes (uid)"}),
        (b"a stone in the left kidney, 140077, Graceful Stoneware", set()),
    ],
)
def test_bytes_are_searched_for_known_identifiers(content: bytes, kinds: set[str], tmp_path: Path) -> None:
    known = Known(uids={"2.25.329800735698586629295641978511506172918"})
    known.add_name("Stone^Grace", "one")
    known.add_name("Müller-Lüders^Jörg", "two")
    known.add_id("HX-40077", STAND_INS.patient("HX-40077"), "HX-40077")
    noise = bytes(range(256)) * 20
    (tmp_path / "a.bin").write_bytes(noise + content + noise)
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(content))
    left = search_bytes(tmp_path, mapper(1, silent), known)
    assert {entry.place for entry in left if entry.path == "a.bin"} == kinds
    assert {entry.place for entry in left if entry.path == "b.json.gz"} == kinds
