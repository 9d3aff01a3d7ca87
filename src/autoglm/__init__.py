"""AutoGLM Hub: a self-hosted AI hub that goes on working without a cloud or a steady network."""
