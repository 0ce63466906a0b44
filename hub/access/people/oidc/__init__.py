"""Login by an OpenID Connect provider: authorization code with PKCE, against any provider that its issuer describes."""

from hub.access.people.oidc.flow import SignIn, Started
from hub.access.people.oidc.provider import Provider, ProviderSettings, configured

__all__ = ["Provider", "ProviderSettings", "SignIn", "Started", "configured"]
