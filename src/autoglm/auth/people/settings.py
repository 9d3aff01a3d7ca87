"""Settings of people's logins."""

from ipaddress import ip_address
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from autoglm.auth.people.roles import Role

_LEAST_COST_KIB = 35_840
"""Memory times passes of the weakest parameters that OWASP's Password Storage Cheat Sheet names: 7 MiB, 5 passes."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class PasswordSettings(BaseModel, frozen=True, extra="forbid"):
    """`[people.password]`: argon2id; the defaults are RFC 9106's second choice."""

    memory_kib: int = Field(default=65_536, ge=7168, le=4_194_304, description="Memory of one hash, in KiB")
    passes: int = Field(default=3, ge=1, le=100, description="Passes over the memory")
    lanes: int = Field(default=4, ge=1, le=64, description="Lanes, each a thread")
    max_waiting: int = Field(default=32, ge=1, le=1000, description="Logins that wait for the one that is hashed")
    words: tuple[str, ...] = Field(
        default=(),
        max_length=1000,
        description="Of which no password may be made, beside the site's and the machine's names: products, places",
    )
    breached_file: Path | None = Field(
        default=None,
        description="Passwords that leaked, none of which is taken: lines SHA1:COUNT in the order of the digests",
    )

    @model_validator(mode="after")
    def _strong(self) -> Self:
        if self.memory_kib * self.passes < _LEAST_COST_KIB:
            raise ValueError(f"memory_kib times passes must be at least {_LEAST_COST_KIB} (OWASP's weakest choice)")
        return self


class SessionSettings(BaseModel, frozen=True, extra="forbid"):
    """`[people.session]`."""

    idle_min: int = Field(default=480, ge=1, le=43_200, description="Minutes without a request that end a session")
    absolute_h: int = Field(default=168, ge=1, le=8760, description="Hours after the login that end it in any case")
    max_per_person: int = Field(default=10, ge=1, le=100, description="A further login ends the oldest session")
    fresh_min: int = Field(default=15, ge=1, le=1440, description="Minutes after a login in which passkeys may change")
    requests_per_minute: int = Field(default=1200, ge=10, le=10_000_000, description="Of one person")


class ThrottleSettings(BaseModel, frozen=True, extra="forbid"):
    """`[people.throttle]`: failed logins are slowed down, each caller by its own failures."""

    free_failures: int = Field(default=5, ge=1, le=100, description="Failures of one account from one address")
    free_failures_per_address: int = Field(default=30, ge=1, le=10_000, description="Failures from one address")
    free_failures_per_device: int = Field(default=10, ge=1, le=100, description="Failures from a known device")
    first_wait_s: float = Field(default=1.0, gt=0, le=60, description="After one more failure; it doubles with each")
    max_wait_s: float = Field(default=900.0, ge=1, le=86_400, description="The longest wait")
    forget_after_s: float = Field(default=86_400.0, ge=60, le=864_000, description="After so long, all is forgotten")
    device_days: int = Field(default=180, ge=1, le=3650, description="Days that a device stays known without a login")

    @model_validator(mode="after")
    def _remembers(self) -> Self:
        if self.forget_after_s <= self.max_wait_s:
            raise ValueError("forget_after_s must be longer than max_wait_s, or waiting once would clear all")
        return self


class PasskeySettings(BaseModel, frozen=True, extra="forbid"):
    """`[people.passkey]`: off where the hub has no origin that browsers allow."""

    rp_id: str | None = Field(
        default=None, max_length=253, pattern=r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$",
        description="The name that passkeys belong to: the origins' host, or a domain above it; the host when absent",
    )  # fmt: skip
    origins: tuple[str, ...] = Field(
        default=(),
        max_length=10,
        description="Where the console is opened, such as https://hub.example; when absent, the first of "
        "gateway.tls_names, or http://localhost where the hub listens there alone",
    )
    ceremony_s: float = Field(default=300.0, ge=30, le=3600, description="Time for the person to use the key")
    max_per_person: int = Field(default=10, ge=1, le=100, description="Passkeys of one person")

    @property
    def name(self) -> str:
        """The rp id. Only with origins."""
        return self.rp_id or _host(self.origins[0])

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """Source: WebAuthn Level 3, section 5.1.2 (rp id), and W3C Secure Contexts, section 3.1 (localhost)."""
        if self.rp_id and _is_address(self.rp_id):
            raise ValueError("rp_id must be a name: browsers refuse passkeys for addresses")
        if not self.origins:
            return self
        for origin in self.origins:
            host = _host(origin)
            parts = urlsplit(origin)
            port = f":{parts.port}" if parts.port else ""
            if origin != f"{parts.scheme}://{host}{port}" or not host or host != host.lower():
                raise ValueError(f"origin {origin!r} must be scheme://host or scheme://host:port in lower case")
            if _is_address(host):
                raise ValueError(f"origin {origin!r}: browsers refuse passkeys for addresses; use a name or localhost")
            if parts.scheme != "https" and (parts.scheme, host) != ("http", "localhost"):
                raise ValueError(f"origin {origin!r} must be https, or http://localhost")
            if (parts.scheme, parts.port) in (("https", 443), ("http", 80)):
                raise ValueError(f"origin {origin!r}: browsers leave the usual port out")
            if host != self.name and not (host.endswith(f".{self.name}") and "." in self.name):
                raise ValueError(f"origin {origin!r} is not under rp_id {self.name!r}")
        return self


class OidcSettings(BaseModel, frozen=True, extra="forbid"):
    """`[people.oidc]`: logins by an OpenID provider, while it can be reached."""

    issuer: str = Field(max_length=500, description="The provider's issuer address, exactly as it names itself")
    client_id: str = Field(min_length=1, max_length=200, description="This hub's name at the provider")
    client_secret: SecretStr | None = Field(default=None, min_length=1, description="Its secret, if it has one")
    redirect_uri: str = Field(max_length=500, description="The hub's callback address, as registered at the provider")
    scopes: tuple[str, ...] = Field(default=("openid", "profile"), description="Must have openid")
    algorithms: tuple[str, ...] = Field(default=("RS256", "ES256"), description="That ID tokens may have")
    creates_accounts: bool = Field(default=True, description="The first login makes an account")
    default_roles: tuple[Role, ...] = Field(default=("member",), description="Roles of an account that is made so")
    roles_claim: str = Field(default="groups", max_length=100, description="Claim whose values roles_by_value maps")
    roles_by_value: dict[str, Role] = Field(default={}, description="Role for each value of roles_claim")
    recheck_min: int = Field(default=60, ge=1, le=1440, description="Minutes after which the provider is asked again")
    grace_h: float = Field(default=72.0, ge=0, le=8760, description="Hours to go on while it cannot be reached")
    timeout_s: float = Field(default=10.0, gt=0, le=60, description="For one request to the provider")

    @field_validator("issuer", "redirect_uri")
    @classmethod
    def _is_safe(cls, url: str) -> str:
        if not is_safe_url(url) or urlsplit(url).query:
            raise ValueError("must be https, or http on this machine, without a query, fragment or user")
        return url

    @field_validator("scopes")
    @classmethod
    def _has_openid(cls, scopes: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in scopes or any(not scope or " " in scope for scope in scopes):
            raise ValueError("must have openid, and no blanks within a scope")
        return scopes

    @field_validator("algorithms")
    @classmethod
    def _are_asymmetric(cls, algorithms: tuple[str, ...]) -> tuple[str, ...]:
        known = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519"}
        if not algorithms or not set(algorithms) <= known:
            raise ValueError(f"must be some of {', '.join(sorted(known))}")
        return algorithms


class PeopleSettings(BaseModel, frozen=True, extra="forbid"):
    """`[people]`: who logs in, and how."""

    password: PasswordSettings = PasswordSettings()
    session: SessionSettings = SessionSettings()
    throttle: ThrottleSettings = ThrottleSettings()
    passkey: PasskeySettings = PasskeySettings()
    oidc: OidcSettings | None = None
    passkey_roles: tuple[Role, ...] = Field(
        default=(), description="Roles that count in sessions that began by a passkey, and in no others"
    )
    invitation_h: int = Field(default=72, ge=1, le=720, description="Hours that an invitation or a reset link is valid")


def is_safe_url(url: str) -> bool:
    """https, or http that does not leave this machine; with a host, and no fragment or user."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    if not host or parts.fragment or parts.username is not None:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)


def _host(origin: str) -> str:
    return urlsplit(origin).netloc.rpartition("@")[2].rsplit(":", 1)[0] if "]" not in origin else "[::1]"


def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return host.rsplit(".", 1)[-1].isdecimal()  # 127.1 is an address to browsers as well
    return True
