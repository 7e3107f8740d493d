"""The methods text in the forms that papers are written in: Markdown, HTML, and LaTeX with BibTeX.

The text is what `boilerplate.methods_text` writes: headings, paragraphs, and a list of references of the form
``Authors (Year). Title. Venue.``, which the paragraphs cite as ``Author Year``.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from bids_parcellate.io.files import write_atomically

_REFERENCE = re.compile(r"(?P<authors>[^()]+) \((?P<year>\d{4})\)\. (?P<title>.+?[.?!]) (?P<venue>.+?)\.?")


@dataclass(frozen=True)
class Reference:
    """A work that is cited.

    Parameters
    ----------
    authors : tuple of str
        Surnames with initials, such as ``Ward JH``.
    year : str
        Year.
    title, venue : str
        Title, and where it was published.
    """

    authors: tuple[str, ...]
    year: str
    title: str
    venue: str

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Read a reference.

        Parameters
        ----------
        text : str
            ``Authors (Year). Title. Venue.``

        Returns
        -------
        Reference
            Its parts.

        Raises
        ------
        ValueError
            If the text has another form.
        """
        match = _REFERENCE.fullmatch(text)
        if match is None:
            raise ValueError(f"no reference of the form 'Authors (Year). Title. Venue.': {text!r}")
        return cls(tuple(match["authors"].split(", ")), match["year"], match["title"].rstrip("."), match["venue"])

    @property
    def surname(self) -> str:
        """Surname of the first author."""
        return self.authors[0].rpartition(" ")[0] or self.authors[0]

    @property
    def key(self) -> str:
        """Key of its entry in a bibliography."""
        plain = unicodedata.normalize("NFKD", self.surname).encode("ascii", "ignore").decode()
        return re.sub(r"[^A-Za-z]", "", plain) + self.year

    @property
    def mention(self) -> re.Pattern[str]:
        """How the text cites it: alone, with a second author, or with others; the year may be in brackets."""
        return re.compile(
            rf"{re.escape(self.surname)}(?: et al\.| and [^\s(),;]+)? (?:{self.year}|(?P<bracket>\({self.year}\)))"
        )

    @property
    def bibtex(self) -> str:
        """Its entry in a bibliography."""
        names = [_bibtex_name(author) for author in self.authors]
        fields = {
            "author": " and ".join(names),
            "year": self.year,
            "title": f"{{{_latex(self.title)}}}",
            "howpublished": _latex(self.venue),
        }
        lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items())
        return f"@misc{{{self.key},\n{lines}}}\n"


def _bibtex_name(author: str) -> str:
    surname, _, initials = author.rpartition(" ")
    if not surname:
        return f"{{{_latex(author)}}}"
    return f"{_latex(surname)}, {' '.join(f'{initial}.' for initial in initials)}"


def write_methods(folder: Path, methods: str) -> list[Path]:
    """Write the methods in all forms.

    Parameters
    ----------
    folder : Path
        Where to.
    methods : str
        The text, in Markdown.

    Returns
    -------
    list of Path
        ``CITATION.md``, ``.html``, ``.tex`` and ``.bib``.
    """
    forms = {".md": methods, ".html": methods_html(methods), ".tex": methods_latex(methods), ".bib": bibtex(methods)}
    return [write_atomically(folder / f"CITATION{extension}", text.encode()) for extension, text in forms.items()]


def methods_html(methods: str) -> str:
    """Write the methods as a page.

    Parameters
    ----------
    methods : str
        The text, in Markdown.

    Returns
    -------
    str
        HTML.
    """
    body = []
    for kind, lines in _blocks(methods):
        texts = [escape(line) for line in lines]
        if kind == "list":
            body.append("\n".join(["<ul>", *(f"<li>{text}</li>" for text in texts), "</ul>"]))
        else:
            body.append(f"<{kind}>{' '.join(texts)}</{kind}>")
    head = '<head>\n<meta charset="utf-8">\n<title>Methods</title>\n</head>'
    return "\n".join(["<!DOCTYPE html>", '<html lang="en">', head, "<body>", *body, "</body>", "</html>", ""])


def methods_latex(methods: str) -> str:
    """Write the methods as a LaTeX document that cites ``CITATION.bib``.

    Parameters
    ----------
    methods : str
        The text, in Markdown.

    Returns
    -------
    str
        LaTeX, with natbib.
    """
    references = list(_references(methods))
    commands = {"h1": "section*", "h2": "subsection*", "h3": "subsubsection*"}
    body = []
    for kind, lines in _blocks(methods):
        if kind == "list" or lines == ["References"]:
            continue
        text = _cite(_latex(" ".join(lines)), references)
        body.append(f"\\{commands[kind]}{{{text}}}" if kind in commands else text)
    return "\n\n".join(
        [
            "\\documentclass{article}\n\\usepackage[utf8]{inputenc}\n\\usepackage{natbib}\n\\begin{document}",
            *body,
            "\\bibliographystyle{plainnat}\n\\bibliography{CITATION}\n\n\\end{document}\n",
        ]
    )


def bibtex(methods: str) -> str:
    """Write the bibliography of the methods.

    Parameters
    ----------
    methods : str
        The text, in Markdown.

    Returns
    -------
    str
        BibTeX.
    """
    return "\n".join(reference.bibtex for reference in _references(methods))


def _blocks(methods: str) -> Iterator[tuple[str, list[str]]]:
    """Split Markdown into its headings (h1 to h3), paragraphs (p) and lists, each with its lines."""
    for block in re.split(r"\n\n+", methods.strip()):
        heading = re.fullmatch(r"(#{1,3}) (.+)", block)
        if heading:
            yield f"h{len(heading[1])}", [heading[2]]
        elif block.startswith("- "):
            yield "list", [line.removeprefix("- ") for line in block.splitlines()]
        else:
            yield "p", block.splitlines()


def _references(methods: str) -> Iterator[Reference]:
    """Find the references: the list that follows their heading."""
    _, _, listed = methods.partition("# References\n")
    for kind, lines in _blocks(listed):
        if kind == "list":
            yield from map(Reference.parse, lines)


def _cite(text: str, references: Sequence[Reference]) -> str:
    """Turn mentions of references into citations that read the same."""
    for reference in references:
        parts, end = [], 0
        for match in reference.mention.finditer(text):
            command = "citet" if match["bracket"] else "citealp"
            parts += [text[end : match.start()], f"\\{command}{{{reference.key}}}"]
            end = match.end()
        text = "".join([*parts, text[end:]])
    return text


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
