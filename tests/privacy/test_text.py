"""The scrubber of free text and the dates in it."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from benchmarks.privacy_corpus import CLINICAL
from temmed.prompts.questions import PHRASINGS, render
from temmed.timelines.privacy import dates
from temmed.timelines.privacy.known import Known
from temmed.timelines.privacy.stand_ins import Recognising, StandIns
from temmed.timelines.privacy.text import Scrubber

STAND_INS = StandIns("key")
SCRUBBER = Scrubber(STAND_INS)
DAYS = STAND_INS.days("one")


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("Dictated by Maria Gonzalez, MD.", ["Maria", "Gonzalez"]),
        ("Her daughter May was told.", ["May "]),
        ("Dr Shane Evans and Dr. Okafor were called.", ["Shane", "Evans", "Okafor"]),
        ("Call (555) 123-4567 or +49 30 1234567.", ["123", "1234567"]),
        ("MRN: 00482913, accession no. AB-12345-6", ["00482913", "12345"]),
        ("SSN 123-45-6789, jane@example.org, https://example.org/jane", ["6789", "jane"]),
        ("Lives at 12 Elm Street, Springfield, IL 62704.", ["Elm", "Springfield", "62704"]),
        ("Transferred from St. Brannoc's Hospital.", ["Brannoc"]),
        ("93-year-old woman, aged 101.", ["93", "101"]),
        ("Operated in 2017 and in March 2018, seen on 3/14.", ["2017", "2018", "3/14"]),
        ("UID 1.2.276.0.7230010.3.1.4.8323329", ["1.2.276"]),
        ("DOB 12 March 1950.", ["1950", "March"]),
        ("NHS number: 943 476 5919, NHS 943-476-5919, his NHS is 9434765919", ["943", "476", "5919"]),
        ("SSN 123 45 6789", ["123", "6789"]),
        ("MRN: 48 29 13, MRN - 48291, MRN (48292), unit number K4829", ["48", "29"]),
        ("or 555 123 4567, 020 7946 0958, 07700 900123, (030) 1234567, bleep 1234", ["555", "020", "900123", "123"]),
        ("passport X1234567, driver's license D123-4567, license plate ABC-1234, SN: 98765", ["1234", "4567", "9876"]),
        ("Dr. Łucja Šimić, reported by Žofia Novák", ["ucja", "imi", "ofia", "Nov"]),
        ("Read by Jean-Luc Picard-Stone, RE: Jane Q. Public, Doe^Jane^M", ["Jean", "Picard", "Public", "Doe", "Jane"]),
        ("Dr.\u00a0Okafor; Dr.\nStone; Oka\u00adfor^Mary", ["Okafor", "Stone", "for"]),
        ("Jo\u0308rg Mu\u0308ller was called", ["rg", "ller"]),
        ("MARIA GONZALEZ WAS CALLED, JANE DOE TOO. DICTATED BY: OKAFOR, MARY J.", ["GONZ", "DOE", "OKAF", "MARY"]),
        ("J.D. is a woman. Initials: JD. Dictated: JD/km", ["J.D", "JD"]),
        ("14 High Street, Oxford OX1 4AA; 1600 PENNSYLVANIA AVE", ["High", "Oxford", "OX1", "PENN"]),
        ("see /home/okafor/x, C:\\Users\\okafor\\y, \\\\okafor\\z and example.org/jane", ["okafor", "jane"]),
        ("93 y.o. man, 95yo, 94F with cough, ninety-three year old", ["93", "95", "94", "ninety"]),
        ("on 2020-03, Mar 2020, 03/2020, 03.2020, the study of 3/14", ["2020", "Mar", "3/14"]),
    ],
)
def test_identifiers_go(text: str, gone: list[str]) -> None:
    clean = SCRUBBER.scrub(text, "one").text
    assert not [part for part in gone if part in clean], clean


@pytest.mark.parametrize(
    "text",
    [
        *(sentence.format(a=12, b=31) for sentence in CLINICAL),
        "MR Brain: MS plaques, L4/5, 12 x 14 x 9 mm, 2 of 5, C3-C7, T1-weighted, 18F-FDG PET, SUVmax 4.2.",
        "Evans index 0.31. Cobb angle 24 degrees. Wilson disease. IDH1 mutant, 1p/19q codeleted.",
        "FINDINGS:\n1. Cardiomegaly.\n2. Effusion, right greater than left, over the last 18 months.",
        "The volume was 2000 mL at 1950 HU; 120 kVp, 250 mAs, TR 2000 ms, 1250 mm^3.",
        "Series 3 Axial CT images. COMPARED WITH 2 PRIOR CT. AT L4 5MM LESION.",
        "PERIBRONCHIAL CUFFING AND SUBSEGMENTAL ATELECTASIS. STATUS POST CABG AND TAVR. BYPASS REMOVED.",
        "AP/lat views. Power improved from 3/5 to 4/5, seen on 3/4 views. 92 years ago.",
        "Bilateral Baker cysts, Hill-Sachs deformity, Takotsubo cardiomyopathy. Omnipaque 350, 100 mL.",
        "BI-RADS 4B, Gleason 4+3, L5-S1, T10/T11, SUVmax 12.3, LI-RADS 5, RECIST 1.1, Deauville 4.",
    ],
)
def test_clinical_text_stays_as_it_is(text: str) -> None:
    assert SCRUBBER.scrub(text, "one").text == text


@pytest.mark.parametrize(
    "form", ["%Y-%m-%d", "%Y%m%d", "%d %B %Y", "%B %d, %Y", "%d-%b-%Y", "%Y/%m/%d", "%d%b%Y", "%d.%m.%Y", "%d/%b/%Y"]
)
@given(day=st.dates(date(1912, 1, 1), date(2210, 12, 31)))
@settings(max_examples=25, deadline=None)
def test_dates_move_by_their_patients_shift_and_keep_their_form(form: str, day: date) -> None:
    # May is short and whole at once; what it becomes may be either.
    assume(day.month != 5)
    order: dates.Order = "dmy"
    text = f"Seen on {day.strftime(form)} again"
    moved = Scrubber(STAND_INS, order=order).scrub(text, "one").text
    assert moved == f"Seen on {(day + timedelta(days=DAYS)).strftime(form)} again"


@given(first=st.dates(date(1920, 1, 1), date(2210, 12, 31)), gap=st.integers(0, 4_000), key=st.text(max_size=5))
@settings(max_examples=50, deadline=None)
def test_intervals_survive_under_any_key(first: date, gap: int, key: str) -> None:
    second = first + timedelta(days=gap)
    clean = Scrubber(StandIns(key)).scrub(f"{first.isoformat()} to {second.isoformat()}", "p").text
    before, after = (date.fromisoformat(part) for part in clean.split(" to "))
    assert after - before == timedelta(days=gap)
    assert before != first


def test_a_date_whose_order_nobody_said_is_removed_and_not_guessed() -> None:
    assert SCRUBBER.scrub("Seen 03/04/2020.", "one").text == "Seen [DATE]."
    told = SCRUBBER.scrub("Seen 03/04/2020 and 25/04/2020.", "one").text
    assert told.count("/") == 4
    said = Scrubber(STAND_INS, order="mdy").scrub("Seen 03/04/2020.", "one").text
    assert said == f"Seen {date(2020, 3, 4) + timedelta(days=DAYS):%m/%d/%Y}."


def test_two_digit_years_move_in_every_form() -> None:
    day = date(2020, 3, 25) + timedelta(days=DAYS)
    for form in ("%d.%m.%y", "%d/%m/%y", "%d-%b-%y", "%d %b '%y"):
        assert SCRUBBER.scrub(f"{date(2020, 3, 25):{form}}", "one").text == f"{day:{form}}"


def test_a_text_without_identifiers_keeps_its_spaces_and_accents() -> None:
    text = "Nodule\u00a04\u2009mm, caf\u0065\u0301-au-lait."
    assert SCRUBBER.scrub(text, "one").text == text


@pytest.mark.parametrize("template", PHRASINGS)
def test_built_in_questions_stay(template: str) -> None:
    words = {"finding": "cyst in the left frontal lobe", "first": "time point 1", "last": "184 days"}
    for phrasing in range(len(PHRASINGS[template])):
        prompt = render(template, phrasing, **words)
        assert Scrubber(StandIns("key")).scrub(prompt, None).text == prompt


def test_without_a_patient_dates_are_removed() -> None:
    assert SCRUBBER.scrub("Seen 2020-03-04.").text == "Seen [DATE]."


_PIECES = st.one_of(
    st.sampled_from([*CLINICAL, "Dr. ", "Mr ", "MRN: ", "Smith", "Okafor", "2020-03-04", "3/4/20", "in 2017", "\n"]),
    st.sampled_from(["555-123-4567", "[NAME]", "[DATE]", "p0123456789ab", ". ", ", ", "Street ", "12 ", "by ", "St."]),
    st.text(max_size=12),
)


@given(st.lists(_PIECES, max_size=12).map("".join))
@settings(max_examples=150, deadline=None)
def test_scrubbing_again_finds_nothing_but_dates_that_were_moved(text: str) -> None:
    once = SCRUBBER.scrub(text, "one").text
    again = Scrubber(Recognising("", dated=True)).scrub(once, "one")
    assert again.text == once


@given(st.text(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_text_is_scrubbed_without_a_crash(text: str) -> None:
    SCRUBBER.scrub(text, None)


@given(
    number=st.decimals(0, 99, places=1),
    unit=st.sampled_from(["mm", "cm", "mL", "HU", "%", "ms", "months", "years", "weeks ago"]),
    noun=st.sampled_from(["nodule", "effusion", "lesion", "ejection fraction"]),
)
@settings(max_examples=60, deadline=None)
def test_measurements_and_time_words_stay(number: object, unit: str, noun: str) -> None:
    text = f"The left {noun} was {number} {unit} in the upper lobe, image 3 of 57."
    assert SCRUBBER.scrub(text, "one").text == text


class TestKnown:
    def test_a_patients_name_is_found_in_every_order_case_and_spelling(self) -> None:
        known = Known()
        known.add_name("Müller-Lüders^Jörg", "one")
        for text in ("MULLER-LUDERS", "jörg müller-lüders", "Jorg_Muller", "J. Müller-Lüders", "jorgmullerluders"):
            assert list(known.find(text, "one")), text

    def test_a_name_that_is_a_word_stays_where_it_is_only_a_word(self) -> None:
        known = Known()
        known.add_name("Stone^Grace", "one")
        scrubber = Scrubber(STAND_INS, known)
        clean = scrubber.scrub("Stone has a stone in the left kidney.", "one").text
        assert clean == "[NAME] has a stone in the left kidney."
        assert scrubber.scrub("Stone in the left kidney.", "two").text == "Stone in the left kidney."

    def test_a_name_of_two_words_is_found_in_lower_case_too(self) -> None:
        known = Known()
        known.add_name("Long^Hunter", "one")
        assert list(known.find("seen: hunter long", "one"))
        assert not list(known.find("a long segment", "one"))
        assert list(known.find("long_ct", "one", any_case=True))

    def test_half_of_a_name_that_is_known_does_not_hide_the_other_half(self) -> None:
        known = Known()
        known.add_name("Stone^Jane", "one")
        assert Scrubber(STAND_INS, known).scrub("Okafor^Jane", "one").text == "[NAME]"

    def test_an_id_is_found_between_letters_and_with_other_separators(self) -> None:
        known = Known()
        known.add_id("HX-40077", "p0123456789ab", "one")
        for text in ("hx 40077", "HX_40077", "HX40077b"):
            assert list(known.find(text)), text

    def test_a_number_is_not_found_inside_of_a_longer_one_or_of_a_measurement(self) -> None:
        known = Known()
        known.add_id("40077", "p0123456789ab", "one")
        assert not list(known.find("140077 and 0.40077"))

    def test_a_telephone_number_is_found_however_it_is_written(self) -> None:
        known = Known()
        known.add_phone("+1 (555) 123-4567 ext. 12", "one")
        assert list(known.find("1 555 123 4567"))

    def test_a_birth_date_is_removed_even_where_nothing_says_that_it_is_one(self) -> None:
        known = Known(births={"one": {date(1950, 3, 12)}})
        assert Scrubber(STAND_INS, known).scrub("1950-03-12", "one").text == "[DATE]"
