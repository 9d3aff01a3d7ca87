"""The web console: one page to chat with the models and read the mailbox, built from `web/` into `static/`."""
