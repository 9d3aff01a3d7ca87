"""Web Push: notifications in browsers, by their makers' push services."""
