"""Numbers in sentences."""


def counted(count: int, noun: str) -> str:
    """A number and its noun, such as "1 clip" or "2,048 clips"."""
    return f"{count:,} {noun}" + ("" if count == 1 else "es" if noun.endswith("s") else "s")
