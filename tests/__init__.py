"""Tests, in folders that mirror the code; what several share is in `helpers`."""

import pytest

pytest.register_assert_rewrite("tests.helpers")
