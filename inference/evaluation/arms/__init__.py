"""The study protocol's arms: what images add to clinical values, real ones and virtual ones.

Four survival models see the same patients and differ in what they are given: clinical values alone; also
the baseline images; also a real follow-up; or, in its place, the virtual follow-up that the generator draws
of the baseline. The baseline arm is the one without which virtual images cannot be told from what the
baseline already says.
"""
