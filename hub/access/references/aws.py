"""References to AWS Secrets Manager: `aws-sm:NAME` or an ARN, `#FIELD` for one field of a JSON secret."""

from __future__ import annotations

from hub.access.references.fields import field_of
from hub.access.references.types import Reference
from hub.access.types import VaultError
from hub.keys.services.aws import aws_client, aws_errors
from hub.settings import Settings

GONE = frozenset({"ResourceNotFoundException", "InvalidRequestException"})


def from_aws(reference: Reference, settings: Settings) -> str:
    """The text of the current version."""
    client = aws_client(settings, "secretsmanager", settings.aws_secrets_endpoint)
    with aws_errors(f"read the secret {reference.name}"):
        try:
            answer = client.get_secret_value(SecretId=reference.name)
        except client.exceptions.ClientError as error:
            if error.response.get("Error", {}).get("Code") not in GONE:
                raise
            raise VaultError(
                f"the secret reference {reference} names nothing in Secrets Manager of {settings.aws_region}; "
                "create it there, or mend HUB_AWS_REGION"
            ) from None
    if not isinstance(answer.get("SecretString"), str):
        raise VaultError(f"the secret reference {reference} names a binary secret; store it as text")
    return field_of(reference, answer["SecretString"])
