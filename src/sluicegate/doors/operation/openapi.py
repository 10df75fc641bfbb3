"""``/openapi.json`` and ``/docs``: made from the same endpoints that the server routes.

Source: https://spec.openapis.org/oas/v3.1.0
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
from starlette.responses import FileResponse, Response

from sluicegate import __version__
from sluicegate.doors.endpoint import Answer, Call, Endpoint, json_response
from sluicegate.errors import UnknownRoute

_PARAMETER = re.compile(r"{(\w+)}")
_REFERENCES = "#/components/schemas/{name}"
_ERRORS = {
    "openai": {
        "type": "object",
        "properties": {
            "error": {
                "type": "object",
                "properties": {
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "param": {"type": ["string", "null"]},
                    "code": {"type": "string"},
                },
                "required": ["message", "type", "param", "code"],
            }
        },
        "required": ["error"],
    },
    "chat": {
        "type": "object",
        "properties": {
            "error": {"type": "string"},
            "message": {"type": "string"},
            "details": {"type": "array", "items": {"type": "object"}},
        },
        "required": ["error", "message", "details"],
    },
    "ollama": {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]},
    "native": {
        "type": "object",
        "description": "RFC 9457 problem document",
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "code": {"type": "string"},
            "request_id": {"type": "string"},
            "errors": {"type": "array", "items": {"type": "object"}},
        },
        "required": ["type", "title", "status", "detail", "code", "request_id"],
    },
}
_ERROR_MEDIA = {
    "openai": "application/json",
    "chat": "application/json",
    "ollama": "application/json",
    "native": "application/problem+json",
}


def build_document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the endpoints."""
    kinds = [kind for kind in _kinds(endpoints) if _is_type(kind)]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCES)
    schema_of = {_key(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.template, {})[endpoint.method.lower()] = _operation(endpoint, schema_of)
    errors = {f"{dialect.capitalize()}Error": schema for dialect, schema in _ERRORS.items()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sluicegate",
            "version": __version__,
            "description": "One front door for generative models: chat, pictures and jobs.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": {**components, **errors},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
        "tags": [{"name": tag} for tag in dict.fromkeys(endpoint.tag for endpoint in endpoints)],
    }


def _kinds(endpoints: Iterable[Endpoint]) -> Iterator[Any]:
    seen: set[str] = set()
    for endpoint in endpoints:
        for kind in (endpoint.body, *endpoint.answers.values()):
            if _is_type(kind) and _key(kind) not in seen:
                seen.add(_key(kind))
                yield kind


def _is_type(kind: Any) -> bool:
    return kind is not None and not isinstance(kind, str)


def _key(kind: Any) -> str:
    return repr(kind)


def _operation(endpoint: Endpoint, schema_of: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{endpoint.method.lower()}_{re.sub(r'[^a-z0-9]+', '_', endpoint.template.lower()).strip('_')}",
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "responses": {str(status): _response(status, kind, schema_of) for status, kind in endpoint.answers.items()},
    }
    if endpoint.description:
        operation["description"] = endpoint.description
    if not endpoint.public:
        operation["security"] = [{"bearer": []}, {"key": []}, {}]
    error = {"schema": {"$ref": _REFERENCES.format(name=f"{endpoint.dialect.capitalize()}Error")}}
    media = {_ERROR_MEDIA[endpoint.dialect]: error}
    operation["responses"]["4XX"] = {"description": "The request cannot be served as it stands", "content": media}
    operation["responses"]["5XX"] = {"description": "Not now", "content": media}
    parameters = [*_path_parameters(endpoint), *_query_parameters(endpoint)]
    if parameters:
        operation["parameters"] = parameters
    if endpoint.body is not None:
        operation["requestBody"] = {"required": True, "content": _content(endpoint.body, schema_of)}
    return operation


def _response(status: int, kind: Any, schema_of: dict[str, Any]) -> dict[str, Any]:
    response: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if kind is not None:
        response["content"] = _content(kind, schema_of)
    return response


def _content(kind: Any, schema_of: dict[str, Any]) -> dict[str, Any]:
    if isinstance(kind, str):
        media = {"schema": {"type": "string", "format": "binary"}} if kind.startswith("image/") else {}
        return dict.fromkeys(kind.split(" or "), media)
    return {"application/json": {"schema": schema_of[_key(kind)]}}


def _path_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(endpoint.template)
    ]


def _query_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    if endpoint.query is None:
        return []
    _, components = msgspec.json.schema_components([endpoint.query], ref_template=_REFERENCES)
    properties: dict[str, Any] = components[endpoint.query.__name__]["properties"]
    return [{"name": name, "in": "query", "schema": schema} for name, schema in properties.items()]


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><title>Sluicegate API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" href="/docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"""
_START = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null});\n'
_FILES = frozenset({"swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"})
_POLICY = "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"


class DocsDoor:
    """Serves the documentation of all endpoints, its own included."""

    def __init__(self) -> None:
        self._document: dict[str, Any] = {}

    def describe(self, endpoints: Sequence[Endpoint]) -> None:
        """Take the endpoints to document; called once, when the server is put together."""
        self._document = build_document(endpoints)

    def endpoints(self) -> list[Endpoint]:
        """The routes of this door."""
        return [
            Endpoint(
                method="GET",
                path="/openapi.json",
                handler=self.document,
                dialect="native",
                tag="Documentation",
                summary="This API as an OpenAPI 3.1 document",
                answers={200: dict[str, Any]},
                public=True,
            ),
            Endpoint(
                method="GET",
                path="/docs",
                handler=self.page,
                dialect="native",
                tag="Documentation",
                summary="This API as a page to try it on",
                answers={200: "text/html"},
                public=True,
            ),
            Endpoint(
                method="GET",
                path="/docs/{file}",
                handler=self.file,
                dialect="native",
                tag="Documentation",
                summary="A file of that page",
                answers={200: "text/css or text/javascript"},
                public=True,
            ),
        ]

    async def document(self, call: Call) -> Answer:
        """The OpenAPI document."""
        return json_response(self._document)

    async def page(self, call: Call) -> Answer:
        """The page."""
        headers = {"content-type": "text/html; charset=utf-8", "content-security-policy": _POLICY}
        return Response(_PAGE, 200, headers)

    async def file(self, call: Call) -> Answer:
        """A file of the page, from the installed package."""
        name = call.path("file")
        if name == "start.js":
            return Response(_START, 200, {"content-type": "text/javascript; charset=utf-8"})
        if name not in _FILES:
            raise UnknownRoute(f'no route "/docs/{name[:100]}"; the page is at /docs')
        from swagger_ui_bundle import swagger_ui_path

        return FileResponse(Path(str(swagger_ui_path)) / name)
