"""Lets agents use a hub: an MCP server that talks to it by the client."""
