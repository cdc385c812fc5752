from .examples import diagnosis, thumbnail

__all__ = ["diagnosis", "thumbnail"]
