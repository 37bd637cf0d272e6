"""Checklists for reports: each item once, answered for the package's networks, proofs exist."""

import msxai
from msxai.model.training_records import Card
from msxai.report.one_scan import reporting

SHIPPED = Card("c" * 64, True, "lesions", {}, 0.9)
OWN = Card("d" * 64, False, "diagnosis", {}, 0.9)


def test_each_item_stands_there_once():
    numbers = reporting.items([SHIPPED]).groupby("checklist")["item"].apply(list)
    assert numbers["CLAIM 2024"] == [str(number) for number in range(1, 45)]
    assert numbers["METRICS"] == [str(number) for number in range(1, 31)]


def test_answers_about_the_packages_networks_are_not_given_for_others():
    shipped = reporting.items([SHIPPED]).set_index(["checklist", "item"])["answer"]
    own = reporting.items([OWN]).set_index(["checklist", "item"])["answer"]
    mixed = reporting.items([SHIPPED, OWN]).set_index(["checklist", "item"])["answer"]
    sources, software, funding = [("CLAIM 2024", number) for number in ("7", "23", "44")]
    assert shipped[sources].startswith("Simulated brains alone")
    assert own[sources] == mixed[sources] == reporting.AUTHOR
    assert shipped[software] == own[software] != reporting.AUTHOR
    assert shipped[funding] == reporting.AUTHOR


def test_an_answer_names_a_file_that_exists():
    for row in reporting.items([SHIPPED]).itertuples():
        assert row.answer.endswith(".")
        assert bool(row.proof) == (row.answer != reporting.AUTHOR)
        assert (msxai.ROOT / row.proof).exists()
