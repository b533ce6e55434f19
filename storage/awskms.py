"""Master keys in AWS KMS: the service wraps and unwraps, and the master key never leaves it.

What a key is for goes along as the encryption context, which KMS authenticates and writes to CloudTrail. Credentials,
region and profile are found as every AWS client finds them (environment, files, the machine's role).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from storage.errors import KeyUnavailable, ProviderAway

T = TypeVar("T")
_PREFIX = b"aws-kms:"
_CONTEXT = "entrepot"

# What the service says of a key that a person has to act on; everything else may pass by itself.
_REASONS = {
    "NotFoundException": "does not exist (any more): correct keys.aws_key_id and keys.aws_region",
    "AccessDeniedException": "may not be used: allow kms:Encrypt, kms:Decrypt and kms:DescribeKey on it",
    "DisabledException": "is disabled: enable it again",
    "KMSInvalidStateException": "is not usable in its state (its deletion may be scheduled: cancel that)",
    "InvalidCiphertextException": "does not open what was wrapped: it is another key, or for another purpose",
    "IncorrectKeyException": "is not the key that wrapped",
    "InvalidKeyUsageException": "is not made for encryption: a symmetric key for ENCRYPT_DECRYPT is needed",
    "UnrecognizedClientException": "cannot be used: the credentials are unknown to the service",
    "InvalidSignatureException": "cannot be used: the credentials are wrong",
    "ExpiredTokenException": "cannot be used: the credentials have expired",
}


class KmsProvider:
    """A key provider over AWS KMS. Safe for many threads."""

    name = "aws-kms"

    def __init__(self, key_id: str, *, region: str = "", endpoint_url: str = "", timeout_seconds: float = 5.0) -> None:
        """``key_id`` is an ARN, an alias (``alias/entrepot``) or a key id. Connects when first used."""
        self._key_id = key_id
        self._region = region
        self._endpoint_url = endpoint_url
        self._timeout_seconds = timeout_seconds
        self._client: Any = None

    def __repr__(self) -> str:
        return f"KmsProvider({self._key_id!r})"

    def wrap(self, key: bytes, context: str) -> bytes:
        """``key`` under the master key of the settings."""
        answer = self._ask(
            self._key_id,
            lambda kms: kms.encrypt(KeyId=self._key_id, Plaintext=key, EncryptionContext={_CONTEXT: context}),
        )
        arn = str(answer["KeyId"]).encode("ascii")
        return _PREFIX + len(arn).to_bytes(2, "big") + arn + bytes(answer["CiphertextBlob"])

    def unwrap(self, wrapped: bytes, context: str) -> bytes:
        """What ``wrap`` was given, under whichever key of the service that was."""
        arn, ciphertext = _parts(wrapped)
        answer = self._ask(
            arn,
            lambda kms: kms.decrypt(KeyId=arn, CiphertextBlob=ciphertext, EncryptionContext={_CONTEXT: context}),
        )
        return bytes(answer["Plaintext"])

    def current_id(self) -> str:
        """The ARN of the key that the settings name."""
        answer = self._ask(self._key_id, lambda kms: kms.describe_key(KeyId=self._key_id))
        return str(answer["KeyMetadata"]["Arn"])

    def master_of(self, wrapped: bytes) -> str | None:
        """The ARN of the key that made ``wrapped``."""
        return _parts(wrapped)[0] if wrapped.startswith(_PREFIX) else None

    def rotate(self) -> str:
        """Nothing is made: KMS renews a key's material by itself, and another key is chosen in the settings."""
        return self.current_id()

    def check(self) -> None:
        """Look whether the key is fit, and wrap and unwrap a value."""
        described = self._ask(self._key_id, lambda kms: kms.describe_key(KeyId=self._key_id))["KeyMetadata"]
        if described.get("KeyUsage") != "ENCRYPT_DECRYPT":
            raise KeyUnavailable(f"the AWS KMS key {self._key_id} {_REASONS['InvalidKeyUsageException']}")
        if described.get("KeyState") != "Enabled":
            raise KeyUnavailable(f"the AWS KMS key {self._key_id} is {described.get('KeyState')}: enable it again")
        probe = os.urandom(32)
        if self.unwrap(self.wrap(probe, "check"), "check") != probe:
            raise KeyUnavailable(f"the AWS KMS key {self._key_id} does not give back what it wrapped")

    def _ask(self, key_id: str, call: Callable[[Any], T]) -> T:
        exceptions = _botocore_exceptions()
        try:
            return call(self._connected())
        except exceptions.ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _REASONS:
                raise KeyUnavailable(f"the AWS KMS key {key_id} {_REASONS[code]} ({code})") from None
            raise ProviderAway(f"AWS KMS cannot do it now: {code}") from None
        except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError, exceptions.NoRegionError) as error:
            raise KeyUnavailable(f"the AWS KMS key {key_id} cannot be used: {error}") from None
        except exceptions.BotoCoreError as error:
            raise ProviderAway(f"AWS KMS cannot be asked: {type(error).__name__}") from None

    def _connected(self) -> Any:
        if self._client is None:
            import boto3
            from botocore.config import Config

            patience = Config(
                connect_timeout=self._timeout_seconds, read_timeout=self._timeout_seconds, retries={"max_attempts": 1}
            )
            # A session of its own: boto3's default one is not made for many threads.
            self._client = boto3.session.Session().client(
                "kms", region_name=self._region or None, endpoint_url=self._endpoint_url or None, config=patience
            )
        return self._client


def _botocore_exceptions() -> Any:
    try:
        import botocore.exceptions
    except ImportError:
        raise KeyUnavailable('keys.provider "aws-kms" needs boto3: install entrepot[aws]') from None
    return botocore.exceptions


def _parts(wrapped: bytes) -> tuple[str, bytes]:
    start = len(_PREFIX) + 2
    length = int.from_bytes(wrapped[len(_PREFIX) : start], "big")
    arn, ciphertext = wrapped[start : start + length], wrapped[start + length :]
    if not wrapped.startswith(_PREFIX) or not arn or not ciphertext or not arn.isascii():
        raise KeyUnavailable("a key of AWS KMS is expected, and this is none")
    return arn.decode("ascii"), ciphertext
