"""A self-signed TLS certificate, which is its own authority."""

from __future__ import annotations

import datetime as dt
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gantry.cli.errors import CommandError


def self_signed(names: list[str], days: int) -> tuple[bytes, bytes]:
    """PEM of a certificate for `names` (host names or addresses; a port is cut off), and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives = [_alternative(name) for name in dict.fromkeys(names)]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, str(alternatives[0].value)[:64])])
    start = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private


def _alternative(name: str) -> x509.DNSName | x509.IPAddress:
    host = name
    if name.startswith("["):
        host = name[1:].partition("]")[0]
    elif name.count(":") == 1:
        host = name.partition(":")[0]
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    if not host or len(host) > 253 or not host.isascii() or not all(c.isalnum() or c in "-.*" for c in host):
        raise CommandError(f'"{name}" is neither a host name nor an address')
    return x509.DNSName(host)
