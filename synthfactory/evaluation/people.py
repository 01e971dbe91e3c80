"""How few people are too few: to be shown, and to be compared.

Two rules that are easily taken for one.  What a figure or a table shows of real people must not be
so few that it tells something of one of them.  A rate of a group is worth saying only when it rests
on more people than that.
"""

from __future__ import annotations

# Levels and cells of fewer real people are not shown: they are put together or left out.
FEWEST_SHOWN = 10
# Groups of fewer people have no rates of their own: their intervals would say nothing.
FEWEST_COMPARED = 50
