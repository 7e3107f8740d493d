"""Fills the page of options from the configuration models, so that it cannot differ from them."""

from typing import Any, get_args

from bids_parcellate.cli import option_flags
from bids_parcellate.config import Config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the marker in a page by the tables of options."""
    return markdown.replace("<!-- options -->", options_tables())


def options_tables() -> str:
    """Make a table for each section of the configuration."""
    return "\n\n".join(_table(name, model) for name, model in Config.sections().items())


def _table(section: str, model: Any) -> str:
    head = f"## `[{section}]`\n\n{model.__doc__}\n\n"
    head += "| option | key in TOML | default | meaning |\n| --- | --- | --- | --- |\n"
    return head + "\n".join(_row(name, field) for name, field in model.model_fields.items())


def _row(name: str, field: Any) -> str:
    flags = " ".join(f"`{flag}`" for flag in option_flags(name, field))
    return f"| {flags} | `{name}` | {_default(field.default)} | {_text(field)} |"


def _default(value: Any) -> str:
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{' '.join(map(str, value)) if isinstance(value, tuple) else value}`"


def _text(field: Any) -> str:
    allowed = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
    text = field.description.replace("|", "\\|")
    return f"{text} One of {', '.join(f'`{choice}`' for choice in allowed)}." if allowed else text
