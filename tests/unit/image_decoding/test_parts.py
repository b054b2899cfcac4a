"""The structure of files: what is counted before any decoder sees them, and what is set aside."""

from __future__ import annotations

import struct
import time
import zlib

import numpy as np
import pytest

from darkroom_server.domain.errors import InvalidImage
from darkroom_server.domain.image_size import Size
from darkroom_server.image_decoding import jpeg, png, webp
from darkroom_server.image_decoding.images import ImageLimits, decode, to_rgb, upright_size
from darkroom_server.image_decoding.parts import MAX_SECTION_COUNT
from tests.unit.image_decoding.pictures import chunk, encoded, gradient, jpeg_of_scans, segment

FIELD = "image.content"
LIMITS = ImageLimits()
#: Against work without an end: what is bounded takes a second or two.
MOST_WORK_S = 60.0
PNG = encoded(gradient())
AFTER_HEADER = 33
JPEG = encoded(gradient(), "JPEG")
WEBP = encoded(gradient(), "WEBP", lossless=True)


def webp_of(chunks: bytes) -> bytes:
    body = b"WEBP" + chunks
    return b"RIFF" + struct.pack("<I", len(body)) + body


def png_with(chunks: bytes) -> bytes:
    return PNG[:AFTER_HEADER] + chunks + PNG[AFTER_HEADER:]


MILLION = 1_000_000
ENDLESS = [
    pytest.param(jpeg_of_scans(3000), "100 scans", id="jpeg-scans"),
    pytest.param(JPEG[:2] + segment(0xE5, b"") * MILLION + JPEG[2:], "segments", id="jpeg-apps"),
    pytest.param(JPEG[:2] + segment(0xFE, b"") * MILLION + JPEG[2:], "segments", id="jpeg-notes"),
    pytest.param(
        JPEG[:2] + segment(0xDD, b"\0\0") * MILLION + JPEG[2:], "segments", id="jpeg-restarts"
    ),
    pytest.param(JPEG[:20] + b"\0" * (30 << 20) + JPEG[20:], "between", id="jpeg-stray-bytes"),
    pytest.param(
        JPEG[:20] + b"\xff" * (30 << 20) + JPEG[20:], "between", id="jpeg-stray-fill-bytes"
    ),
    pytest.param(png_with(chunk(b"IDAT", b"") * MILLION), "chunks", id="png-empty-data"),
    pytest.param(png_with(chunk(b"tEXt", b"a\0") * MILLION), "chunks", id="png-texts"),
    pytest.param(png_with(chunk(b"prIv", b"") * MILLION), "chunks", id="png-private"),
    pytest.param(PNG[:-12] + chunk(b"prIv", b"") * MILLION + PNG[-12:], "chunks", id="png-late"),
    pytest.param(webp_of((b"JUNK" + bytes(4)) * MILLION + WEBP[12:]), "chunks", id="webp"),
    pytest.param(webp_of(WEBP[12:] + (b"ANMF" + bytes(4)) * MILLION), "chunks", id="webp-frames"),
]


@pytest.mark.parametrize("read", [upright_size, decode])
@pytest.mark.parametrize(("content", "told"), ENDLESS)
def test_what_would_take_a_decoder_minutes_is_refused(read, content: bytes, told: str) -> None:
    with pytest.raises(InvalidImage, match=told) as caught:
        read(content, FIELD, LIMITS)
    assert caught.value.field == FIELD


BOMB = zlib.compress(bytes(1 << 20), 9)
HEAVY = [
    pytest.param(jpeg_of_scans(jpeg.MAX_SCAN_COUNT), Size(5792, 5792), id="jpeg-scans"),
    pytest.param(
        png_with(chunk(b"iCCP", b"a\0\0" + BOMB) * 9_000), Size(24, 16), id="png-profiles"
    ),
    pytest.param(png_with(chunk(b"zTXt", b"a\0\0" + BOMB) * 9_000), Size(24, 16), id="png-texts"),
    pytest.param(
        png_with(chunk(b"iTXt", b"a\0\1\0\0\0" + BOMB) * 9_000), Size(24, 16), id="png-unicode"
    ),
]


@pytest.mark.parametrize(("content", "size"), HEAVY)
def test_what_is_just_taken_is_little_work(content: bytes, size: Size) -> None:
    before_s = time.process_time()
    assert decode(content, FIELD, LIMITS).size == size
    assert time.process_time() - before_s < MOST_WORK_S


def exif_of(orientation: int, *, entry_count: int = 0, value_bytes: int = 0) -> bytes:
    """TIFF with an orientation, after entries that all point at the whole of one large value."""
    entries = b"".join(
        struct.pack("<HHII", 0x8000 + i % 0x7000, 7, value_bytes, 8) for i in range(entry_count)
    ) + struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    directory = struct.pack("<H", entry_count + 1) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + value_bytes) + bytes(value_bytes) + directory


@pytest.mark.parametrize("late", [False, True])
def test_a_directory_of_a_thousand_times_its_file_is_not_read_out(late: bool) -> None:
    exif = chunk(b"eXIf", exif_of(6, entry_count=60_000, value_bytes=8 << 20))
    content = PNG[:-12] + exif + PNG[-12:] if late else png_with(exif)
    before_s = time.process_time()
    assert upright_size(content, FIELD, LIMITS) == Size(16, 24)
    assert time.process_time() - before_s < MOST_WORK_S


RAW = b"\nexif\n      %d\n%s\n" % (len(exif_of(6)), exif_of(6).hex().encode())
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
EXTENDED_WEBP = encoded(gradient(), "WEBP", lossless=True, exif=b"Exif\0\0" + exif_of(6))


def late(made: bytes) -> bytes:
    return PNG[:-12] + made + PNG[-12:]


ON_ITS_SIDE = [
    pytest.param(png_with(chunk(b"eXIf", exif_of(6))), id="png"),
    pytest.param(late(chunk(b"eXIf", exif_of(6))), id="png-late"),
    pytest.param(late(chunk(b"tEXt", b"Raw profile type exif\0" + RAW)), id="png-raw-late"),
    pytest.param(
        late(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(RAW))),
        id="png-raw-packed-late",
    ),
    pytest.param(late(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)), id="png-xmp-late"),
    pytest.param(JPEG[:2] + segment(0xE1, b"Exif\0\0" + exif_of(6)) + JPEG[2:], id="jpeg"),
    pytest.param(JPEG[:-2] + segment(0xE1, b"Exif\0\0" + exif_of(6)) + JPEG[-2:], id="jpeg-late"),
    pytest.param(
        JPEG[:2] + segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP) + JPEG[2:],
        id="jpeg-xmp",
    ),
    pytest.param(EXTENDED_WEBP, id="webp"),
]


@pytest.mark.parametrize("content", ON_ITS_SIDE)
def test_size_and_pixels_are_the_right_way_up_wherever_the_file_says_so(content: bytes) -> None:
    picture = decode(content, FIELD, LIMITS)
    assert upright_size(content, FIELD, LIMITS) == picture.size == Size(16, 24)
    rgb = np.asarray(to_rgb(picture, FIELD, flatten=True)[0])
    # Red grows downwards now, and green to the left.
    assert rgb[0, -1].tolist() == pytest.approx([0, 0, 0], abs=24)
    assert rgb[-1, -1, 0] > 200
    assert rgb[0, 0, 1] > 200


def test_a_second_header_is_not_believed() -> None:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0))
    assert decode(png_with(header), FIELD, LIMITS).size == Size(24, 16)


def test_a_webp_with_a_huge_canvas_is_refused_before_its_decoder_makes_room() -> None:
    canvas = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\x3f\0" * 2
    assert webp.canvas_pixel_count(webp_of(canvas + WEBP[12:])) == 16_384**2


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_a_jpeg_taken_apart_has_the_same_pixels(mode: str, progressive: bool) -> None:
    content = encoded(
        gradient().convert(mode), "JPEG", progressive=progressive, comment=b"a", exif=exif_of(1)
    )
    assert b"Exif" not in jpeg.take_apart(content).pixels
    direct = to_rgb(decode(content, FIELD, LIMITS), FIELD, flatten=True)[0]
    plain = encoded(gradient().convert(mode), "JPEG", progressive=progressive)
    expected = to_rgb(decode(plain, FIELD, LIMITS), FIELD, flatten=True)[0]
    assert (np.asarray(direct) == np.asarray(expected)).all()


def test_as_many_chunks_as_are_taken() -> None:
    # Header, data and end are chunks, too.
    fits = chunk(b"prIv", b"") * (MAX_SECTION_COUNT - 3)
    assert png.take_apart(png_with(fits)).pixels == png.take_apart(PNG).pixels
    with pytest.raises(InvalidImage):
        decode(png_with(fits + chunk(b"prIv", b"")), FIELD, LIMITS)
