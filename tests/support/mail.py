"""A real mail server with TLS and login on the loopback address, for the time of a test."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.ports import free_port

HOST = "127.0.0.1"
USER, PASSWORD = "alerts@example.com", "open sesame"


@dataclass
class Mailbox:
    """Every mail that was taken: receivers and text as it came."""

    port: int
    mails: list[tuple[list[str], str]] = field(default_factory=list)

    def environment(self, folder: Path, security: str, *receivers: str) -> dict[str, str]:
        """Variables by which alerts are sent to receivers over this server."""
        return {
            "SSL_CERT_FILE": str(folder / "mail.pem"),
            "SMTP_PASSWORD": PASSWORD,
            "REVIEWSUM_ALERT_EMAIL_TO": ",".join(receivers),
            "REVIEWSUM_ALERT_EMAIL_FROM": USER,
            "REVIEWSUM_SMTP_HOST": HOST,
            "REVIEWSUM_SMTP_PORT": str(self.port),
            "REVIEWSUM_SMTP_SECURITY": security,
        }

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        """Take a mail."""
        self.mails.append((envelope.rcpt_tos, envelope.content.decode("ascii")))
        return "250 OK"


@contextmanager
def mail_server(folder: Path, security: str) -> Iterator[Mailbox]:
    """Start a server that speaks ``SSL`` or ``STARTTLS``, with a certificate ``mail.pem``."""
    mailbox = Mailbox(free_port())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate(folder))
    is_wrapped = security == "SSL"
    controller = Controller(
        mailbox,
        hostname=HOST,
        port=mailbox.port,
        ready_timeout=60,
        ssl_context=context if is_wrapped else None,
        tls_context=None if is_wrapped else context,
        require_starttls=not is_wrapped,
        authenticator=_check_login,
        auth_required=True,
        auth_require_tls=not is_wrapped,
    )
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()


def _check_login(
    server: Any, session: Any, envelope: Any, mechanism: str, login: Any
) -> AuthResult:
    is_right = (login.login, login.password) == (USER.encode(), PASSWORD.encode())
    return AuthResult(success=is_right)


def _certificate(folder: Path) -> Path:
    """A certificate for the loopback address, and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "mail.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path
