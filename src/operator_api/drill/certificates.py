"""Certificates made at run time: a good one, and those that a caller must refuse."""

import ipaddress
import ssl
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

CertificateKind = Literal["good", "wrong_name", "expired", "untrusted"]
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Certificate:
    """A server's certificate with its key, and the authority that a caller trusts, as PEM.

    An untrusted one is signed by another authority, of the same name.
    """

    certificate: bytes
    key: bytes = field(repr=False)
    authority: bytes

    def server_context(self) -> ssl.SSLContext:
        """Return the TLS settings of a server with this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:  # ssl reads keys from files alone
            file = Path(folder, "server.pem")
            file.touch(mode=0o600)
            file.write_bytes(self.key + self.certificate)
            context.load_cert_chain(file)
        return context

    def client_context(self) -> ssl.SSLContext:
        """Return the TLS settings of a caller that trusts the authority, and checks all else."""
        return ssl.create_default_context(cadata=self.authority.decode())


def make_certificate(kind: CertificateKind = "good") -> Certificate:
    """Make a certificate for 127.0.0.1 and localhost, with the fault that its kind names."""
    now = datetime.now(UTC)
    names: list[x509.GeneralName] = [
        x509.DNSName("localhost"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    if kind == "wrong_name":
        names = [x509.DNSName("elsewhere.example")]
    trusted = _authority(now)
    issuer, issuer_key = _authority(now) if kind == "untrusted" else trusted
    ends = now - _DAY if kind == "expired" else now + _DAY
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    certificate = (
        _builder("operator drill", now - 2 * _DAY, ends)
        .issuer_name(issuer.subject)
        .public_key(public)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(_identifier(issuer_key), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return Certificate(
        certificate.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        trusted[0].public_bytes(Encoding.PEM),
    )


def _authority(now: datetime) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key()
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = _builder("operator drill authority", now - 3 * _DAY, now + 2 * _DAY)
    certificate = (
        builder.issuer_name(_name("operator drill authority"))
        .public_key(public)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def _builder(name: str, begins: datetime, ends: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _identifier(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
