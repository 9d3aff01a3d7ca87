"""Headers that keep browsers from doing with an answer what it is not meant for.

Sources: OWASP, "HTTP Security Response Headers" and "REST Security"; ASVS 5.0, section 3.4.
"""

API_HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
]
"""Of every answer but the page: data, which no page of others may load, and no browser keep."""
API_LINES = b"".join(b"%b: %b\r\n" % header for header in API_HEADERS)

PAGE_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; object-src 'none'; "
        b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (
        b"permissions-policy",
        b"accelerometer=(), camera=(), display-capture=(), geolocation=(), gyroscope=(), magnetometer=(), "
        b"microphone=(), midi=(), payment=(), usb=()",
    ),
    (b"cache-control", b"no-cache"),
]
