"""Sign the checksums of an export with an Ed25519 key, and verify them.

The signature is that of `openssl pkeyutl -sign -rawin -in SHA256SUMS`, 64 bytes. Keys are PEM files
of `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout`.
"""

from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from peculiar.core.errors import InputError

SIGNATURE = "SHA256SUMS.sig"


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read a private key without a password.

    Raises
    ------
    InputError
        When the file is not one.
    """
    try:
        key = load_pem_private_key(_content(path, "--sign"), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise InputError(
            f"--sign {path} is no Ed25519 private key in PEM without a password: make one with "
            "`openssl genpkey -algorithm ed25519 -out key.pem`"
        )
    return key


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Read a public key.

    Raises
    ------
    InputError
        When the file is not one.
    """
    try:
        key = load_pem_public_key(_content(path, "--verify"))
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise InputError(
            f"--verify {path} is no Ed25519 public key in PEM: ask for the file that "
            "`openssl pkey -in key.pem -pubout -out key.pub` writes"
        )
    return key


def sign(sums: Path, key: Ed25519PrivateKey) -> None:
    """Write the signature of an export's checksums beside them."""
    (sums.parent / SIGNATURE).write_bytes(key.sign(sums.read_bytes()))


def verify(sums: Path, key: Ed25519PublicKey) -> None:
    """Verify that the owner of a key signed an export's checksums.

    Raises
    ------
    InputError
        When there is no signature, or it is of other checksums or by another key.
    """
    path = sums.parent / SIGNATURE
    again = "import nothing of it, and ask who sent it"
    try:
        key.verify(path.read_bytes(), sums.read_bytes())
    except OSError:
        raise InputError(f"{sums.parent} is not signed ({path.name} is missing): {again}") from None
    except InvalidSignature:
        raise InputError(
            f"{path} is not this key's signature of {sums.name}: one was changed, or another key "
            f"signed: {again}"
        ) from None


def _content(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{option} {path} cannot be read ({error.strerror}): name a key") from None
