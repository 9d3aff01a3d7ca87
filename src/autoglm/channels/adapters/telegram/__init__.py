"""Telegram bots: messages, pictures, files and buttons out; messages, answers and presses of buttons in."""
