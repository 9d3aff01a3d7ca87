"""`[trust]`: what is wrong is told before the hub starts, and secrets stay secret."""

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from auth.tokens.forge import HUB
from autoglm.auth.tokens.settings import TrustSettings

SECRET = "a-shared-secret-that-is-32-bytes-or-more"


def test_the_defaults_are_short_lives_and_no_shared_secret() -> None:
    trust = TrustSettings()
    assert (trust.token_ttl_s, trust.max_token_ttl_s, trust.skew_s, trust.proof_window_s) == (900, 86_400, 60, 120)
    assert trust.shared_secret is None
    assert trust.issuer == ()


def test_origins_get_their_plain_form() -> None:
    assert TrustSettings(origins=("HTTPS://Hub.example:443/",)).origins == ("https://hub.example",)


ISSUER = {"name": "ward-4", "public_key": HUB.public.x}


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"site": "ward 3"}, "site"),
        ({"site": ""}, "site"),
        ({"site": "ward-3\n"}, "site"),
        ({"token_ttl_s": 59}, "token_ttl_s"),
        ({"token_ttl_s": 86_401}, "token_ttl_s"),
        ({"token_ttl_s": 900, "max_token_ttl_s": 600}, "over max_token_ttl_s"),
        ({"max_token_ttl_s": 91 * 86_400}, "max_token"),
        ({"skew_s": -1}, "skew_s"),
        ({"skew_s": 601}, "skew_s"),
        ({"proof_window_s": 9}, "proof_window_s"),
        ({"origins": ("hub.example",)}, "origin"),
        ({"origins": ("https://hub.example/api",)}, "origin"),
        ({"issuer": (ISSUER | {"public_key_file": "x"},)}, "public_key_file"),
        ({"issuer": ({"name": "ward-4"},)}, "public_key"),
        ({"issuer": (ISSUER | {"name": "../x"},)}, "name"),
        ({"issuer": (ISSUER | {"jku": "https://x"},)}, "jku"),
        ({"shared_secret": "short"}, "shared_secret"),
        ({"shared_secret": SECRET, "shared_secret_file": "x"}, "either"),
    ],
)
def test_what_is_wrong_is_named(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words) as raised:
        TrustSettings(**table)
    assert SECRET not in str(raised.value)


def test_the_shared_secret_is_not_shown() -> None:
    trust = TrustSettings(shared_secret=SECRET)  # type: ignore[arg-type]  # as TOML gives it
    assert SECRET not in f"{trust!r} {trust} {trust.model_dump()}"


def test_the_settings_load_no_cryptography() -> None:
    """They are read at each start, also where nobody uses tokens."""
    code = (
        "import sys, autoglm.auth.tokens.settings; print([n for n in ('joserfc', 'cryptography') if n in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
