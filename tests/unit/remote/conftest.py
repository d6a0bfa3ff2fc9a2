from __future__ import annotations

import os

import pytest

_PREFIXES = ("DASHSCOPE_", "OPENAI_", "JINA_", "SILICONFLOW_", "SSL_CERT_", "REQUESTS_CA_")

FAULTS: list[tuple[str, str, str, float]] = []
"""Case, how it was called, what came of it, seconds; shown after the tests."""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No keys, hosts, proxies and certificates of whoever runs the tests."""
    for name in list(os.environ):
        if name.upper().endswith("_PROXY") or name.startswith(_PREFIXES):
            monkeypatch.delenv(name)


@pytest.fixture
def faults() -> list[tuple[str, str, str, float]]:
    return FAULTS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not FAULTS:
        return
    terminalreporter.section("what came of each fault")
    outcomes: dict[str, dict[str, tuple[str, float]]] = {}
    for case, way, outcome, seconds in FAULTS:
        outcomes.setdefault(case, {})[way] = (outcome, seconds)
    for case, ways in outcomes.items():
        told = "   ".join(f"{way}: {outcome:<27} {seconds:5.2f} s" for way, (outcome, seconds) in sorted(ways.items()))
        terminalreporter.write_line(f"{case:<44} {told}")
