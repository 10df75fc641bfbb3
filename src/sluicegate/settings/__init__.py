"""The settings: one frozen tree, validated as a whole before anything starts.

Rooms never read the loader: each receives its slice by constructor. The tree is in `tree.py`, the loader in `load.py`.
"""

from sluicegate.settings.load import load_settings
from sluicegate.settings.tree import (
    UNLIMITED,
    BackendKind,
    BackendSettings,
    ObservabilitySettings,
    ResultsSettings,
    SchedulingSettings,
    ServerSettings,
    Settings,
    StorageSettings,
    TierLimits,
    TierSettings,
    TimeoutSettings,
    TlsSettings,
    WorkerSettings,
    without_password,
)

__all__ = [
    "UNLIMITED",
    "BackendKind",
    "BackendSettings",
    "ObservabilitySettings",
    "ResultsSettings",
    "SchedulingSettings",
    "ServerSettings",
    "Settings",
    "StorageSettings",
    "TierLimits",
    "TierSettings",
    "TimeoutSettings",
    "TlsSettings",
    "WorkerSettings",
    "load_settings",
    "without_password",
]
