"""Durations and counts in words."""


def describe_duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    if seconds < 10 * 60:
        minutes, rest = divmod(round(seconds, -1), 60)
        return f"{minutes:.0f} min {rest:.0f} s" if rest else f"{minutes:.0f} min"
    if seconds < 100 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def counted(count: int, noun: str) -> str:
    """A number and what it counts."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
