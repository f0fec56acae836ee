"""Reads the pages that the product writes."""

import html.parser

VOID = {"meta", "input", "br", "link", "img", "hr"}
HOSTILE = "</script><img src=x onerror=alert(1)><!-- {{ 7*7 }} ${x} \"' &amp; \u2028 <b>"


class Page(html.parser.HTMLParser):
    """Reads a page strictly: every opened element is closed in order."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: dict[str | None, str] = {}
        self._open: list[tuple[str, str | None]] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append((tag, dict(attrs).get("id")))

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        tag, identifier = self._open[-1] if self._open else (None, None)
        if tag == "script":
            self.scripts[identifier] = self.scripts.get(identifier, "") + data
        elif tag != "style":
            self.text += data

    def ids(self):
        return [attrs["id"] for _, attrs in self.elements if "id" in attrs]
