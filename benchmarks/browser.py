"""A headless Chromium with a fresh profile that asks nothing of a network by itself."""

from __future__ import annotations

import shutil
from pathlib import Path

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--window-size=1400,1000", "--force-prefers-reduced-motion"),
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def open_browser(profile: Path) -> webdriver.Chrome | None:
    """Start it, with logs of its console and of what it asks for.

    Args:
        profile: an empty folder; downloads go there too.

    Returns:
        The browser; None where Chromium or its driver is not installed.
    """
    binary = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        return None
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(profile)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(driver))
