"""The HTTP face: OpenAI's API, messages, and the hub's own state."""
