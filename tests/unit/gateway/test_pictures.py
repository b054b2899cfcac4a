"""Files as text."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from PIL import Image

from darkroom_server.domain.errors import InvalidImage
from darkroom_server.gateway import pictures
from darkroom_server.gateway.pictures import picture_bytes
from tests.unit.image_decoding.pictures import encoded

FILE = encoded(Image.effect_noise((16, 16), 90))
BASE64 = base64.b64encode(FILE).decode()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(BASE64, id="base64"),
        pytest.param(BASE64.rstrip("="), id="unpadded"),
        pytest.param(base64.urlsafe_b64encode(FILE).decode(), id="urlsafe"),
        pytest.param(base64.encodebytes(FILE).decode(), id="lines"),
        pytest.param(f"data:image/png;base64,{BASE64}", id="url"),
        pytest.param(f"DATA:image/png;charset=x; Base64 ,{BASE64}", id="url-capitals"),
        pytest.param(f"data:image/png;base64,{quote(BASE64, safe='')}", id="url-escaped"),
        pytest.param(f"data:;base64,{quote(BASE64, safe='')}", id="url-without-type"),
        pytest.param(f"data:image/png,{quote(FILE)}", id="bytes-escaped"),
        pytest.param("data:image/png," + "".join(f"%{b:02x}" for b in FILE), id="all-escaped"),
        pytest.param(f"data:,{quote(FILE, safe='/=?+')}", id="bytes-without-type"),
        pytest.param(f"data:image/png,{BASE64}", id="base64-unannounced"),
        pytest.param(quote(BASE64, safe=""), id="escaped-without-url"),
    ],
)
def test_a_file_is_read_however_it_is_written(text: str) -> None:
    assert picture_bytes(text, "image") == FILE


@pytest.mark.parametrize("shift", range(4))
def test_escapes_are_whole_wherever_a_text_is_cut(
    monkeypatch: pytest.MonkeyPatch, shift: int
) -> None:
    monkeypatch.setattr(pictures, "_PIECE_BYTES", 50 + shift)
    text = "".join(f"%{b:02X}" if b % 3 else quote(bytes([b])) for b in FILE)
    assert picture_bytes(f"data:image/png,{text}", "image") == FILE


def test_every_byte_may_be_escaped_or_as_it_is() -> None:
    content = bytes(range(256))
    bare = "".join(map(chr, range(32, 128))).replace("%", "").replace(",", "")
    assert picture_bytes("data:," + quote(content, safe=bare), "image") == content


@pytest.mark.parametrize("text", ["http://a.example/b.png", "HTTPS://a.example/%20", "file:///a"])
def test_addresses_are_refused(text: str) -> None:
    with pytest.raises(InvalidImage, match="address"):
        picture_bytes(text, "image")


@pytest.mark.parametrize(
    "text", ["%", "%4", "%zz", "YWFh%", "%ff%fe", "data:image/png;base64,%00", "a", "ä"]
)
def test_what_is_no_base64_is_refused(text: str) -> None:
    with pytest.raises(InvalidImage, match="base64"):
        picture_bytes(text, "image")
