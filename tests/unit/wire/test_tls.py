from __future__ import annotations

import datetime
from pathlib import Path

import pytest
import structlog
import trustme

from darkroom_server.wire.tls import Certificates, TlsError, TlsFiles


@pytest.fixture
def good(tmp_path: Path) -> TlsFiles:
    authority = trustme.CA()
    files = TlsFiles(*(tmp_path / name for name in ("cert.pem", "key.pem", "ca.pem")))
    issued = authority.issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(files.certificate)
    issued.private_key_pem.write_to_path(files.key)
    assert files.client_ca is not None
    authority.cert_pem.write_to_path(files.client_ca)
    return files


def test_what_fits_together_is_taken(good: TlsFiles) -> None:
    good.check()


@pytest.mark.parametrize("name", ["cert.pem", "key.pem", "ca.pem"])
@pytest.mark.parametrize("content", [None, "no PEM"])
def test_what_does_not_is_named(good: TlsFiles, name: str, content: str | None) -> None:
    file = good.certificate.with_name(name)
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(TlsError, match=name):
        good.check()


def test_the_key_is_that_of_the_certificate(good: TlsFiles) -> None:
    trustme.CA().issue_cert("localhost").private_key_pem.write_to_path(good.key)
    with pytest.raises(TlsError, match="no certificate and its key"):
        good.check()


@pytest.mark.parametrize(("days", "told"), [(30, []), (-1, ["certificate has expired"])])
def test_one_that_has_ended_is_told_at_the_start(
    good: TlsFiles, days: int, told: list[str]
) -> None:
    """It is served, since a later one is read without a restart; its clients say no more of it."""
    ends = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    issued = trustme.CA().issue_cert("localhost", not_after=ends)
    issued.cert_chain_pems[0].write_to_path(good.certificate)
    issued.private_key_pem.write_to_path(good.key)
    with structlog.testing.capture_logs() as logs:
        Certificates(good)
    assert [str(one["problem"]).partition(": ")[2] for one in logs] == told
