"""What `[audit]` takes."""

from typing import Any

import pytest
from pydantic import ValidationError

from autoglm.auth.audit.settings import AuditSettings, FilePlaceSettings, SyslogPlaceSettings

FILE = {"kind": "file", "folder": "/mnt/usb/audit"}


def test_places_are_told_apart_by_their_kind() -> None:
    syslog = {"kind": "syslog", "host": "log.example"}
    settings = AuditSettings.model_validate({"place": [FILE, syslog, {**FILE, "name": "second"}]})
    assert [type(place) for place in settings.place] == [FilePlaceSettings, SyslogPlaceSettings, FilePlaceSettings]
    [_, place, _] = settings.place
    assert isinstance(place, SyslogPlaceSettings)
    assert (place.tls, place.with_personal, place.port) == (True, False, 6514)


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        ({"place": [FILE, FILE]}, "a name of its own"),
        ({"place": [{"kind": "syslog"}]}, "either socket or host"),
        ({"place": [{"kind": "syslog", "host": "a", "socket": "/dev/log"}]}, "either socket or host"),
        ({"place": [{"kind": "elasticsearch", "url": "https://user:pass@es"}]}, "pattern"),
        ({"place": [{**FILE, "name": "../x"}]}, "pattern"),
        ({"place": [{**FILE, "max_file_bytes": 1}]}, "greater than or equal to 4096"),
        ({"head_every_entries": 20_000}, "less than or equal to 10000"),
    ],
)
def test_what_cannot_be_is_refused(tree: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        AuditSettings.model_validate(tree)
