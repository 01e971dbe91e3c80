"""Models of the ``ctgan`` package from ours, and ours from theirs.

``ctgan`` is under the Business Source Licence 1.1.  It is no dependency: nothing of it is imported
before one of the two functions below is called, and its form was read from its objects.

Both sides have the same networks and the same mode-specific normalisation, so that most of a model
is carried over as it stands.  What differs, and how it is expressed:

==========================  ====================================================================
ours                        theirs
==========================  ====================================================================
an exact value              a component of width 0
"missing" of a number       a component whose mean is NaN, on which their decoding comes out as NaN
folded batch normalisation  linear layers, and normalisations that do nothing to what comes in
spans by size               spans by column
a factored softmax          its product, which is large: levels times width of the last layer
a level drawn by softmax    CTGAN: the same; TVAE: the largest, and so a last layer adds the noise
                            whose largest is such a draw
==========================  ====================================================================
"""

from __future__ import annotations

from synthfactory.generators.exchange.exporting import to_ctgan as to_ctgan
from synthfactory.generators.exchange.importing import from_ctgan as from_ctgan
from synthfactory.generators.exchange.importing import read_levels as read_levels
