"""Fixed client keys, for programs, and what opens the file of secrets."""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from autoglm.auth.scopes import FORMS, MAX_SCOPES, flaw
from autoglm.core.address import check_address
from autoglm.core.errors import InvalidField
from autoglm.core.preference import PreferenceName

TENANT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:@+-]{0,127}$"
"""Tenants' names get into headers, logs and metrics."""
KEY_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
FIRST_KEY_NAME = "admin"
"""Of the key in DATA/admin.key."""


class KeySettings(BaseModel, frozen=True, extra="forbid"):
    """`[[key]]`: one fixed key."""

    name: str = Field(min_length=1, max_length=64, pattern=KEY_NAME_PATTERN, description="Unique name")
    value: SecretStr | None = Field(default=None, min_length=1, description="The key itself")
    value_file: Path | None = Field(default=None, description="File that holds the key")
    address: str | None = Field(default=None, description="The key's own address; 'device:NAME' when absent")
    tenant: str | None = Field(
        default=None,
        pattern=TENANT_PATTERN,
        description="On whose account its requests go: fair share, budgets, cache; the key's name when absent",
    )
    scopes: tuple[str, ...] = Field(
        default=("model:use:*",),
        max_length=MAX_SCOPES,
        description=f"Of {FORMS}; what stands behind the last colon may end in *, and where it may be left out, "
        "that means everything",
    )
    prefer: PreferenceName | None = Field(
        default=None,
        description="fast | balanced | best | cheap, where the request does not say; then its tenant's, the hub's",
    )
    rate_per_minute: int | None = Field(default=None, ge=1, le=10_000_000, description="Requests; no limit when absent")

    @model_validator(mode="after")
    def _valid(self) -> Self:
        if (self.value is None) == (self.value_file is None):
            raise ValueError("give either value or value_file")
        if (wrong := flaw(self.scopes)) is not None:
            raise ValueError(wrong)
        return self

    @field_validator("address")
    @classmethod
    def _is_address(cls, address: str | None) -> str | None:
        if address is not None:
            try:
                check_address(address, field="address")
            except InvalidField as error:
                raise ValueError(str(error)) from None
        return address


class SecretsSettings(BaseModel, frozen=True, extra="forbid"):
    """`[secrets]`: by what DATA/secrets/secrets.json is opened, for settings that say `secret:NAME`."""

    key_file: Path | None = Field(default=None, description="Its key file; DATA/secrets/secrets.key when absent")
    passphrase_file: Path | None = Field(
        default=None,
        description="File with its passphrase; when absent, systemd's credential autoglm.passphrase, or a prompt",
    )
