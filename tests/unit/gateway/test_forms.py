"""Forms as clients and people write them."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image
from starlette.requests import Request

from darkroom_server.domain.errors import InvalidParameter
from darkroom_server.gateway.forms import is_form, read_form


def file(form: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, form, lossless=True)
    return buffer.getvalue()


def request(body: bytes, kind: str = "multipart/form-data; boundary=b") -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "headers": [(b"content-type", kind.encode())]}
    return Request(scope, receive)


def parts(*given: tuple[str, bytes], boundary: str = "b") -> bytes:
    """A form whose parts have these lines as their disposition and rest of the head."""
    found = b"".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode()
        + content
        + b"\r\n"
        for head, content in given
    )
    return found + f"--{boundary}--\r\n".encode()


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize(
    "rest",
    [
        pytest.param("", id="bare"),
        pytest.param("\r\nContent-Type: application/octet-stream", id="typed"),
        pytest.param('; filename=""', id="empty-name"),
        pytest.param('; filename="a.png"\r\nContent-Type: image/png', id="named"),
    ],
)
async def test_a_file_is_one_with_or_without_a_name(form: str, rest: str) -> None:
    content = file(form)
    body = parts(('name="prompt"', "ein Hund 🐕".encode()), (f'name="image"{rest}', content))
    assert await read_form(request(body)) == {"prompt": "ein Hund 🐕", "image": content}


@pytest.mark.parametrize(
    "kind",
    [
        "Multipart/Form-Data; Boundary=b",
        "MULTIPART/FORM-DATA; BOUNDARY=b",
        'multipart/form-data; charset=utf-16; boundary="b"',
    ],
)
async def test_the_content_type_is_read_in_any_case(kind: str) -> None:
    found = request(parts(('name="prompt"', "ä".encode())), kind)
    assert is_form(found)
    assert await read_form(found) == {"prompt": "ä"}


@pytest.mark.parametrize("name", ["image", "image[]", "image[0]", "image[12]"])
async def test_a_list_is_one_by_any_mark(name: str) -> None:
    found = await read_form(request(parts((f'name="{name}"', b"1"), (f'name="{name}"', b"2"))))
    assert found == {"image": ["1", "2"]}


async def test_other_brackets_are_part_of_a_name() -> None:
    found = await read_form(request(parts(('name="image[a]"', b"1"))))
    assert found == {"image[a]": "1"}


async def test_a_form_without_a_boundary_is_none() -> None:
    with pytest.raises(InvalidParameter, match="boundary"):
        await read_form(request(b"", "multipart/form-data"))


def test_other_bodies_are_no_forms() -> None:
    assert not is_form(request(b"", "application/json"))
    assert not is_form(request(b"", "multipart/mixed; boundary=b"))
