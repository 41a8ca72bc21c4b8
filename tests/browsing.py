"""What a person does on the console, without a person's browser: links are followed by hand, forms are filled in."""

from __future__ import annotations

import re
from html import unescape
from typing import cast

import httpx
from fastapi import FastAPI
from fastapi.testclient import TestClient


class Browser:
    """What a person does, without a person's browser."""

    def __init__(self, app: FastAPI) -> None:
        self.client = TestClient(app, follow_redirects=False)

    def log_in(self, key: str, *, wanted: str = "") -> httpx.Response:
        form = self.get(f"/login{wanted}")
        return self.post("/login", token=field(form, "token"), next=field(form, "next"), key=key)

    def get(self, path: str = "", **headers: str) -> httpx.Response:
        return cast(httpx.Response, self.client.get(f"/console{path}", headers=headers))

    def post(self, path: str, **values: str) -> httpx.Response:
        return cast(httpx.Response, self.client.post(f"/console{path}", data=values))

    def send(self, page: str, path: str, **values: str) -> httpx.Response:
        """Fill in the form on `page` that goes to `path`; its hidden fields come along."""
        form = re.search(rf'<form[^>]* action="/console{re.escape(path)}">(.*?)</form>', self.get(page).text, re.DOTALL)
        assert form, f"no form on {page} goes to {path}"
        hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form[1]))
        return self.post(path, **{name: unescape(value) for name, value in hidden.items()} | values)


def field(page: httpx.Response, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page.text)
    assert found, f"no field {name}"
    return unescape(found[1])


def words(page: httpx.Response) -> str:
    """The page's text, as read."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page.text)).split())
