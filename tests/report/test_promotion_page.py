"""The page and the description of a promotion: whatever comes from a store is shown and neither run nor laid out."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

from fmnist_sweep.data import LABELS
from fmnist_sweep.report.promotion_page import (
    FreshTraining,
    PromotionDecision,
    StandingRow,
    draw_promotion_pictures,
    format_version_description,
    render_promotion_page,
)

NASTY = "</style><script>alert('x')</script><img src=x onerror=alert(1)>&amp;{{ 7 * 7 }}\"|"


class Elements(HTMLParser):
    """The names and attributes of a page's elements, and its text."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def make_decision(name: str) -> PromotionDecision:
    row = StandingRow(name, "0.9000 (n=1)", "–", [name], [0.9], dict.fromkeys(LABELS, 0.9))
    training = FreshTraining(name, name, None, 0.9, name)
    told: dict[str, Any] = {"why": name, "cost": name, "looks": [name], "account": [name], "correction": name}
    return PromotionDecision("better", name, [name], [name], name, [name], [row], row, [training], **told)


def test_whatever_comes_from_a_store_is_shown_and_not_run() -> None:
    decision = make_decision(NASTY)
    page = render_promotion_page(decision, {NASTY: NASTY}, draw_promotion_pictures(decision))
    outline = Elements(page)
    assert "script" not in {tag for tag, _ in outline.elements}
    assert not any(key.startswith("on") for _, attributes in outline.elements for key in attributes)
    images = [attributes for tag, attributes in outline.elements if tag == "img"]
    assert [image["alt"] for image in images] == ["accuracies.png", "recalls.png"]
    assert all(str(image["src"]).startswith("data:image/png;base64,") for image in images)
    assert outline.text.count(NASTY) == 17


def test_a_command_is_shown_without_the_password_of_its_store() -> None:
    page = render_promotion_page(make_decision("promote --uri http://me:secret@host"), None, {})
    assert "secret" not in Elements(page).text.partition("Command:")[2]


def test_a_name_with_a_bar_stays_in_its_cell_of_the_description() -> None:
    text = format_version_description(make_decision("a | b"), name="a", command="python", evidence="`page.html`")
    assert "| a \\| b | 0.9000 (n=1) | – |" in text
    assert text.startswith("**a**: better.")


def test_the_page_tells_the_verdict_the_gain_the_cost_the_looks_and_what_is_left_in_this_order() -> None:
    decision = replace(
        make_decision("a name"), why="It is better.", cost="14 trainings.", looks=["a look"], account=["1% is left"]
    )
    text = Elements(render_promotion_page(decision, None, {})).text
    told = ["It is better.", "gain over the champion", "14 trainings.", "a look", "1% is left", "How it was decided"]
    places = [text.index(words) for words in told]
    assert places == sorted(places)


def test_the_page_of_a_promotion_that_opened_no_test_image_says_so_and_has_no_table_of_gains() -> None:
    decision = replace(make_decision("a name"), verdict="futile", standings=[], champion=None, openings=[], account=[])
    text = Elements(render_promotion_page(decision, None, {})).text
    assert "no finalist was likely to pass the test" in text
    assert "The test images stayed closed." in text
    assert "so nothing is spent" in text
    assert "gain over the champion" not in text
