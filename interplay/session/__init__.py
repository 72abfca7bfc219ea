"""The live loop that ties one foreground, one voice and one surface together."""

from interplay.session.session import Session, SessionOptions, SessionReport
from interplay.session.surface import Surface, SurfaceClosed, SurfaceIn, TurnView

__all__ = ["Session", "SessionOptions", "SessionReport", "Surface", "SurfaceClosed", "SurfaceIn", "TurnView"]
