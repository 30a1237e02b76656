"""The page that shows the API's description to people: one HTML text without a script, made from the document.

Owns the page's form. Pure: the document in, HTML out; everything of the document is escaped. It needs nothing from
elsewhere and, as its Content-Security-Policy says, can load nothing. The keyboard works it since it is made of links
and `details`; light and dark are the reader's own setting.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

Json = Mapping[str, Any]  # Any: JSON

STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8882; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem; }
:focus-visible { outline: 3px solid currentColor; outline-offset: 2px; }
code { font-family: ui-monospace, monospace; font-size: .92em; overflow-wrap: anywhere; }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1rem; padding: 0; list-style: none; }
details { border: 1px solid var(--line); border-radius: .4rem; margin: .4rem 0; }
summary { cursor: pointer; padding: .4rem .7rem; }
details > div { padding: 0 .7rem .7rem; overflow-x: auto; }
.method { display: inline-block; min-width: 4.2rem; font-weight: 700; }
.role { float: right; font-size: .85em; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .5rem; border-top: 1px solid var(--line); }
thead th { background: var(--soft); }
"""
_DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)


def page(document: Json) -> str:
    """The whole page. Its one style is what POLICY allows by its hash."""
    about = document["info"]
    tags = document["tags"]
    schemas = document["components"]["schemas"]
    title = f"{escape(about['title'])} {escape(about['version'])}: the HTTP API"
    links = "".join(f'<li><a href="#{_id(tag["name"])}">{escape(tag["name"])}</a></li>' for tag in tags)
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{STYLE}</style></head><body><header><h1>{title}</h1><p>{_text(about['description'])}</p>",
        '<p>For programs: <a href="/openapi.json">/openapi.json</a> (OpenAPI 3.1).</p></header>',
        f'<nav aria-label="Sections"><ul>{links}<li><a href="#schemas">Schemas</a></li></ul></nav><main>',
    ]
    for tag in tags:
        parts.append(f'<section><h2 id="{_id(tag["name"])}">{escape(tag["name"])}</h2>')
        parts.append(f"<p>{_text(tag['description'])}</p>")
        parts += _routes(document, tag["name"])
        parts.append("</section>")
    parts.append('<section><h2 id="schemas">Schemas</h2>')
    parts += [_schema(name, schema) for name, schema in schemas.items()]
    parts.append("</section></main></body></html>\n")
    return "".join(parts)


def _routes(document: Json, tag: str) -> Iterator[str]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if operation["tags"] == [tag]:
                yield _route(method, path, operation)


def _route(method: str, path: str, operation: Json) -> str:
    rows = [
        (
            f"<code>{escape(each['name'])}</code>",
            each["in"],
            _type(each["schema"]),
            _text(each["description"]),
        )
        for each in operation.get("parameters", ())
    ]
    found = [f"<p>{_text(operation['description'])}</p>"] if "description" in operation else []
    if rows:
        found.append(_table(("parameter", "in", "type", "what it is"), rows))
    if "requestBody" in operation:
        found.append(f"<p>Body: {_content(operation['requestBody'])}</p>")
    answers = [
        (status, _text(answer["description"]), _content(answer), _named(answer.get("headers", ())))
        for status, answer in operation["responses"].items()
    ]
    found.append(_table(("status", "what it says", "body", "headers"), answers))
    role = operation["x-role"]
    needed = "no token" if role == "nobody" else f"role {escape(role)}"
    return (
        f'<details id="{_id(operation["operationId"])}"><summary><span class="method">{method.upper()}</span> '
        f'<code>{escape(path)}</code> <span class="role">{needed}</span><br>{_text(operation["summary"])}'
        f"</summary><div>{''.join(found)}</div></details>"
    )


def _schema(name: str, schema: Json) -> str:
    required = schema.get("required", ())
    rows = [
        (f"<code>{escape(field)}</code>", _type(kind), "always" if field in required else "")
        for field, kind in schema.get("properties", {}).items()
    ]
    shown = _table(("field", "type", "there"), rows) if rows else "<p>No fields.</p>"
    text = f"<p>{_text(schema['description'])}</p>" if "description" in schema else ""
    return f'<h3 id="schema-{_id(name)}">{escape(name)}</h3>{text}{shown}'


def _content(holder: Json) -> str:
    return "<br>".join(
        f"{_type(content['schema'])} as <code>{escape(media)}</code>"
        for media, content in holder.get("content", {}).items()
    )


def _type(schema: Json) -> str:
    """A schema in a few words, with a link where it is one of the components."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#schema-{_id(name)}">{escape(name)}</a>'
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(map(_type, schema[several]))
    if "contentSchema" in schema:
        return f"pieces of {_type(schema['contentSchema'])}"
    if "enum" in schema:
        return " or ".join(f"<code>{escape(json.dumps(each))}</code>" for each in schema["enum"])
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}{_limits(schema)}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"map of {_type(schema['additionalProperties'])}"
    return escape(kind) + _limits(schema)


def _limits(schema: Json) -> str:
    words = {
        "minimum": "from",
        "maximum": "to",
        "minLength": "at least",
        "maxLength": "at most",
        "maxItems": "at most",
        "pattern": "like",
        "default": "default",
    }
    found = [f"{word} {json.dumps(schema[key])}" for key, word in words.items() if key in schema]
    return f" <small>({escape(', '.join(found))})</small>" if found else ""


def _named(names: object) -> str:
    return ", ".join(f"<code>{escape(name)}</code>" for name in (names if isinstance(names, Mapping) else ()))


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """The rows are HTML already."""
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _text(text: str) -> str:
    """Escaped, with what stands between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _id(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")
