from __future__ import annotations

from pathlib import Path

import pytest
import trustme

from darkroom_server.wire.tls import TlsError, TlsFiles


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
