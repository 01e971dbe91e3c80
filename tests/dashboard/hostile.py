"""What is planted in a table: names that must stay text, values that must not be found."""

from __future__ import annotations

HOSTILE = "<img src=x onerror=alert(1)>"
FORMULA = '=HYPERLINK("http://x")</script>'
CANARY = "Zyxqwvut-canary-77"
EXTREME = 987654321987.0
