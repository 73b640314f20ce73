from __future__ import annotations

import pytest

from jupyter_gpudeploy.backends.local.backend import LocalBackend
from jupyter_gpudeploy.testing.backend_contract import BackendContract


class TestLocalBackend(BackendContract):
    @pytest.fixture
    def backend(self):
        return LocalBackend()
