"""Numbers that stand for an image: radiomics of a patient, learned vectors, self-supervised features."""
