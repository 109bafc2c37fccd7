"""The OpenAPI document as a page that needs neither scripts nor a network."""

from collections.abc import Mapping
from typing import Any

import jinja2

_PAGE = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
    """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{{ info.title }} HTTP API</title>
<h1>{{ info.title }} HTTP API</h1>
<p>Version {{ info.version }}. Programs read <a href="openapi.json">openapi.json</a>.</p>
{% for path, operations in paths.items() %}
{% for method, operation in operations.items() %}
<h2><code>{{ method | upper }} {{ path }}</code></h2>
<p>{{ operation.summary }}{% if operation.security == [] %} Needs no token.{% endif %}</p>
{% for kind, content in operation.get("requestBody", {}).get("content", {}).items() %}
<details><summary>Body: {{ kind }}</summary>
<pre>{{ content.schema | tojson(indent=2) }}</pre></details>
{% endfor %}
<ul>
{% for status, response in operation.responses.items() %}
<li><b>{{ status }}</b> {{ response.description }}
{{ response.get("content", {}) | join(", ") }}</li>
{% endfor %}
</ul>
{% endfor %}
{% endfor %}
<h2>Schemas</h2>
{% for name, schema in components.schemas.items() %}
<details id="{{ name }}"><summary>{{ name }}</summary>
<pre>{{ schema | tojson(indent=2) }}</pre></details>
{% endfor %}
</html>
"""
)


def page(document: Mapping[str, Any]) -> str:
    """Return the page of an OpenAPI document."""
    return _PAGE.render(document)
