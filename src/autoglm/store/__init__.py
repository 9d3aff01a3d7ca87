"""Keeps state: the Log, KeyValue, Journal and Blobs of `core/ports.py`, in one data folder that survives power loss."""

from autoglm.store.settings import StoreSettings
from autoglm.store.sqlite.archive import Manifest, Progress, check_extra_name
from autoglm.store.sqlite.backup import BackupSummary, backup_folder
from autoglm.store.sqlite.journal import JournalReader, open_journal
from autoglm.store.sqlite.restore import RestoreSummary, restore, verify
from autoglm.store.sqlite.retention import Trimmed
from autoglm.store.sqlite.store import Recovery, Store, open_store

__all__ = [
    "BackupSummary",
    "JournalReader",
    "Manifest",
    "Progress",
    "Recovery",
    "RestoreSummary",
    "Store",
    "StoreSettings",
    "Trimmed",
    "backup_folder",
    "check_extra_name",
    "open_journal",
    "open_store",
    "restore",
    "verify",
]
