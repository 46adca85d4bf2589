"""HTML: nothing that is put in can break out."""

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from streamchar.report.html import Html, element, join, text


class Seen(HTMLParser):
    def __init__(self, source):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.texts = [], [], []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append(dict(attrs))

    def handle_data(self, data):
        self.texts.append(data)


@given(st.text(), st.text())
def test_any_text_and_any_attribute_come_back_as_they_were(words, value):
    # Parsers may turn carriage returns into newlines, and drop null bytes.
    words, value = (part.replace("\r", " ").replace("\0", " ") for part in (words, value))
    seen = Seen(element("p", words, title=value))
    assert seen.tags == ["p"]
    assert seen.attributes == [{"title": value}]
    assert "".join(seen.texts) == words


def test_html_is_not_escaped_twice():
    inner = element("b", "a & b")
    assert inner == "<b>a &amp; b</b>"
    assert element("p", inner, "<", 3) == "<p><b>a &amp; b</b>&lt;3</p>"
    assert join("<", None, Html("<br>")) == "&lt;<br>"
    assert text(text("<")) == "&lt;"


def test_attributes():
    made = element("input", type="checkbox", checked=True, disabled=False, class_="a", aria_label=None)
    assert made == '<input type="checkbox" checked class="a">'
    assert element("meta", http_equiv="x", name="y") == '<meta http-equiv="x" name="y">'
