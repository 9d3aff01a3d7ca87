"""SMS by Aliyun (阿里云短信服务), with receipts asked for or pushed."""
