"""SMS by Tencent Cloud (腾讯云短信), with receipts and replies pulled."""
