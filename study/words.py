"""Format durations and counts."""


def describe_duration(seconds: float) -> str:
    """Format seconds for people."""
    if seconds < 100:
        return f"{max(1, round(seconds))} s"
    if seconds < 10 * 60:
        minutes, rest = divmod(round(seconds, -1), 60)
        return f"{minutes:.0f} min {rest:.0f} s" if rest else f"{minutes:.0f} min"
    if seconds < 100 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def counted(count: int, noun: str) -> str:
    """Format a number with its noun, in the plural if needed."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
