"""The learned contrast phase: small networks on organ medians, and on an image without any organ known."""

from inference.models.phase.classifier import PhaseClassifier

__all__ = ["PhaseClassifier"]
