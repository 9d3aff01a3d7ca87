"""Any gateway for SMS and the like that takes an HTTP request: what it looks like is in the settings."""
