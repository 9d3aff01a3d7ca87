"""What WeCom and Official Accounts have in common: callbacks, access tokens, media, error codes."""
