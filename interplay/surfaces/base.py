"""The surface protocol, under the name of the room that implements it; the session defines it."""

from interplay.session.surface import Surface, SurfaceClosed, SurfaceIn, TurnView

__all__ = ["Surface", "SurfaceClosed", "SurfaceIn", "TurnView"]
