"""Whose versions are loaded: signatures over a version's digest, and the digest that was reviewed.

A signature lies beside the source, `ledger.py.sig` (of a package: `shop.sig` beside its folder). It
is over the digest, which is over every byte of the source, so what was signed is what runs. The
signing itself is Ed25519 of the `cryptography` package, which is an extra: `replank[sign]`.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from replank.code.source import digest_of
from replank.code.store import Version
from replank.errors import ConfigError, TrustError, UsageError
from replank.report import Phase

PREFIX: Final = "ed25519:"
_PURPOSE: Final = b"replank version 1\n"
"""Signed before the digest: a signature made for something else never fits."""
_SIGNATURE_BYTES_MAX: Final = 64 * 1024


class Signature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of a signature file."""

    digest: str
    key: str
    """The public key, "ed25519:...", only to name it: the host's own list is what counts."""
    signature: str
    """Base64."""


def signature_path(source: Path) -> Path:
    """Return where the signature of a source lies."""
    return source.with_name(f"{source.name}.sig")


def require_digest(name: str, version: Version, expect: str | None) -> None:
    """Refuse a source that is not the one which was named.

    Args:
        name: The module's name.
        version: What was read.
        expect: The digest that was named; None for any.

    Raises:
        TrustError: It is another one.
    """
    if expect is not None and version.digest != expect:
        raise TrustError(
            "the source is not the one that was asked for",
            module=name,
            phase=Phase.PREPARE,
            found=version.digest,
            expected=expect,
            do=f"look at what has changed since: replank diff {name}",
            location=str(version.source),
        )


def find_signer(name: str, version: Version, keys: Mapping[str, str]) -> str:
    """Return the name of the listed key that has signed a version.

    Args:
        name: The module's name.
        version: The candidate.
        keys: Public keys by the signer's name.

    Raises:
        TrustError: None of them has.
        ConfigError: A listed key is none.
    """
    path = signature_path(version.source)
    listed = ", ".join(sorted(keys)) or "nobody: [trust] keys is empty"
    facts: dict[str, Any] = {
        "module": name,
        "phase": Phase.PREPARE,
        "expected": f"a signature of {version.digest} by {listed}",
        "do": f"have it signed: replank sign --key KEYFILE {version.source}",
        "location": str(path),
    }
    try:
        with path.open("rb") as file:
            signed = msgspec.json.decode(file.read(_SIGNATURE_BYTES_MAX), type=Signature)
    except FileNotFoundError:
        raise TrustError("the version is not signed", found=f"no {path.name}", **facts) from None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise TrustError("its signature cannot be read", found=str(error), **facts) from error
    if signed.digest != version.digest:
        raise TrustError(
            "its signature is of another version", found=f"one of {signed.digest}", **facts
        )
    for signer, key in sorted(keys.items()):
        if _fits(signer, key, signed):
            return signer
    raise TrustError(
        "its signature is by no key that is listed", found=f"one by {signed.key}", **facts
    )


def sign(source: Path, key_file: Path) -> Signature:
    """Sign a source as it is now, and write the signature beside it.

    Args:
        source: A file or package folder.
        key_file: The private key, as `new_key` wrote it.

    Raises:
        SourceError: The source cannot be taken.
        UsageError: The key cannot be read.
    """
    digest = digest_of(source)
    ed25519, serialization = _library()
    try:
        private = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise UsageError(
            f"{key_file} is no private key",
            found=str(error),
            expected="a file that `replank new-key` wrote",
        ) from error
    if not isinstance(private, ed25519.Ed25519PrivateKey):
        raise UsageError(f"{key_file} is no Ed25519 key", do="make one: replank new-key FILE")
    signature = base64.b64encode(private.sign(_PURPOSE + digest.encode())).decode()
    signed = Signature(digest=digest, key=_public(private, serialization), signature=signature)
    signature_path(source).write_bytes(msgspec.json.encode(signed) + b"\n")
    return signed


def new_key(path: Path) -> str:
    """Write a new private key, for its owner's eyes only, and return its public half.

    Args:
        path: A file that does not exist yet.

    Raises:
        UsageError: It exists, or cannot be written.
    """
    ed25519, serialization = _library()
    private = ed25519.Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        # Never over another key, and never for a moment readable by others.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise UsageError(f"{path} cannot be written", found=str(error)) from error
    with os.fdopen(handle, "wb") as file:
        file.write(pem)
    return _public(private, serialization)


def check_keys(keys: Mapping[str, str]) -> None:
    """Refuse keys that are none, before anything depends on them.

    Raises:
        ConfigError: One is none, or `cryptography` is missing.
    """
    for name, key in keys.items():
        _public_key(name, key)


def _public(private: Any, serialization: Any) -> str:
    raw: bytes = private.public_key().public_bytes(
        serialization.Encoding.Raw, serialization.PublicFormat.Raw
    )
    return PREFIX + base64.b64encode(raw).decode()


def _public_key(name: str, key: str) -> Any:
    ed25519, _ = _library()
    try:
        raw = base64.b64decode(key.removeprefix(PREFIX), validate=True)
        return ed25519.Ed25519PublicKey.from_public_bytes(raw)
    except (binascii.Error, ValueError) as error:
        raise ConfigError(
            f"the key of {name} is none",
            found=key,
            expected="ed25519: and 44 characters, as `replank new-key` prints it",
            do="correct it under [trust] keys",
        ) from error


def _fits(signer: str, key: str, signed: Signature) -> bool:
    invalid = importlib.import_module("cryptography.exceptions").InvalidSignature
    try:
        raw = base64.b64decode(signed.signature, validate=True)
        _public_key(signer, key).verify(raw, _PURPOSE + signed.digest.encode())
    except (invalid, binascii.Error):
        return False
    return True


def _library() -> tuple[Any, Any]:
    base = "cryptography.hazmat.primitives"
    try:
        return (
            importlib.import_module(f"{base}.asymmetric.ed25519"),
            importlib.import_module(f"{base}.serialization"),
        )
    except ImportError as error:
        raise ConfigError(
            "signatures need the package cryptography",
            found=str(error),
            expected="cryptography in this environment",
            do="install it: pip install 'replank[sign]'",
        ) from error


__all__ = [
    "Signature",
    "check_keys",
    "find_signer",
    "new_key",
    "require_digest",
    "sign",
    "signature_path",
]
