"""A site's own segmenters, each a program that is run on a temporary file and whose answer is checked.

Every one says whether it is available and, if not, why. None of them is trusted to be there, to end, or
to answer with the right grid and labels; none is ever made to download anything.
"""
