"""Mail: out by SMTP, in by IMAP, so that a thread of mails is a conversation with the hub."""
