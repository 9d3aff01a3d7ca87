"""Names of labels: any in an envelope, few in Alertmanager.

Source: github.com/prometheus/common, model.EscapeName with ValueEncodingEscaping (the `U__` form). Names that are
legal stay as they are, unless they look like an escaped one, so that no two names become the same.
"""

import re

_MARK = "U__"
_is_legal = re.compile(r"[A-Za-z_][A-Za-z0-9_]*").fullmatch
_is_plain = re.compile(r"[A-Za-z0-9]").fullmatch
_is_escaped = re.compile(r"U__([A-Za-z0-9]|__|_[0-9a-f]{1,6}_)*").fullmatch
_ESCAPE = re.compile(r"__|_([0-9a-f]{1,6})_")


def legal_name(name: str) -> str:
    """For Alertmanager, which takes [A-Za-z_][A-Za-z0-9_]*. `plain_name` brings the name back."""
    if _is_legal(name) is not None and not name.startswith(_MARK):
        return name
    return _MARK + "".join(_escaped(character, index) for index, character in enumerate(name))


def plain_name(label: str) -> str:
    """What `legal_name` was given; a label that it cannot have made stays as it is."""
    if _is_escaped(label) is None:
        return label
    try:
        plain = _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else "_", label.removeprefix(_MARK))
        plain.encode()
    except ValueError:  # beyond Unicode, or half a surrogate pair, which could not be written down
        return label
    return plain


def _escaped(character: str, index: int) -> str:
    if character == "_":
        return "__"
    if _is_plain(character) is not None and not (index == 0 and character.isdecimal()):
        return character
    return f"_{ord(character):x}_"
