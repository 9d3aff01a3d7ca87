"""One file for each kind of channel: its settings, and how it speaks to the vendor or the device."""
