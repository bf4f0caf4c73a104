"""The mechanistic response model: growth, kill and devascularisation, drawn into the patient's images."""

from inference.models.mechanistic.generator import MechanisticGenerator, PreparedGenerator

__all__ = ["MechanisticGenerator", "PreparedGenerator"]
