"""Takes what other programs' clients send: calls of Apprise's API and publications of ntfy become events."""
