"""DingTalk (钉钉): group robots by webhook, and an app's robot that also hears, by DingTalk's stream."""
