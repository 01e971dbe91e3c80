"""The compiled inner loops of training steps and of drawing rows on a processor.

Between two matrix products a step of a small network makes many passes over tensors that fit the
cache; each pass that is an operation of its own costs a launch and goes through memory.  Here one
loop does the work of all of them.  Importing these modules imports numba; see
`synthfactory.compiling`.

Exponential and logarithm are written as polynomials, so that the loops are vectorised and their
bits are the same on every processor: nothing is reordered, and no library is asked.  What is no
number stays none: comparisons are written so that they let it pass.
"""
