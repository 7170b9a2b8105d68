"""gantry registry htpasswd and cert."""

import ipaddress
import subprocess
import sys
from pathlib import Path

import bcrypt
from cryptography import x509


def gantry(*words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "gantry.cli.main", "registry", *words], input=data, capture_output=True, check=False
    )


def test_htpasswd(tmp_path: Path) -> None:
    file = tmp_path / "htpasswd"
    for account, password in (("alice", b"one\n"), ("bob", b"two"), ("alice", b"three")):
        done = gantry("htpasswd", "--file", str(file), "--password-stdin", account, data=password)
        assert (done.returncode, done.stderr) == (0, b"")
    entries = dict(line.split(":") for line in file.read_text().splitlines())
    assert list(entries) == ["bob", "alice"]
    assert bcrypt.checkpw(b"three", entries["alice"].encode())
    assert bcrypt.checkpw(b"two", entries["bob"].encode())
    assert file.stat().st_mode & 0o7 == 0


def test_htpasswd_refuses() -> None:
    for words, data, message in (
        (["a:b", "x"], b"", "colon"),
        (["--password-stdin", "a"], b"", "empty password"),
        (["--password-stdin", "a"], b"x" * 73, "73 bytes"),
        (["a"], b"", "--password-stdin"),
    ):
        done = gantry("htpasswd", *words, data=data)
        assert done.returncode == 1
        assert message in done.stderr.decode()


def test_cert(tmp_path: Path) -> None:
    done = gantry("cert", "--directory", str(tmp_path), "127.0.0.1:5000", "registry.example.org")
    assert done.returncode == 0, done.stderr
    certificate = x509.load_pem_x509_certificate((tmp_path / "registry.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("127.0.0.1")]
    assert names.get_values_for_type(x509.DNSName) == ["registry.example.org"]
    assert (tmp_path / "registry.key").stat().st_mode & 0o777 == 0o600
    again = gantry("cert", "--directory", str(tmp_path), "localhost")
    assert b"--force replaces it" in again.stderr
    assert b"neither a host name" in gantry("cert", "a b").stderr


def test_check_names_the_wrong_key(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("version: 0.1\nhttp: {adr: x}\n")
    done = gantry("check", "--config", str(file))
    assert (done.returncode, done.stderr.decode()) == (1, f"{file}: unknown: http.adr\n")
    file.write_text("version: 0.1\n")
    assert gantry("check", "--config", str(file)).stdout == b"configuration OK\n"
    assert b"no such file" in gantry("serve", "--config", str(tmp_path / "none")).stderr
