"""kdref: knowledge distillation, one short tested function per method, and the course that teaches them.

``import kdref`` imports nothing heavy; import the topic you need: ``from kdref.soft_targets import distillation_loss``.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
