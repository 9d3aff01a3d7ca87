"""How long the gateway's certificate still counts, and whether it is renewed in time."""

from pathlib import Path

from cryptography import x509

from autoglm.doctor.environment import Finding

_DAY_S = 86_400
_SOON_DAYS = 14


def examine_certificate(file: Path, now_s: float, *, renews_itself: bool, failure: str = "") -> Finding:
    """now_s: Unix time. failure: why the last renewal did not work."""
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
    except (OSError, ValueError) as error:
        if renews_itself and not file.exists() and not failure:
            return Finding(name="certificate", level="ok", text="the hub makes one at its start")
        text = f"{file} cannot be read: {error}" if file.exists() else f"there is no {file}"
        return Finding(name="certificate", level="problem", text=f"{text}{_because(failure)}", fix="see docs/tls.md")
    left_days = (certificate.not_valid_after_utc.timestamp() - now_s) / _DAY_S
    text = f"{file} counts for {left_days:.0f} more days{_because(failure)}"
    if left_days <= 0:
        text = f"{file} ended {-left_days:.0f} days ago{_because(failure)}"
        return Finding(name="certificate", level="problem", text=text, fix="renew it: clients refuse it now")
    if left_days < _SOON_DAYS:
        return Finding(name="certificate", level="problem", text=text, fix="renew it before it ends")
    return Finding(name="certificate", level="note" if failure else "ok", text=text)


def _because(failure: str) -> str:
    return f"; it was not renewed: {failure}" if failure else ""
