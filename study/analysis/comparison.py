"""What a comparison came to, in words: against a claim, or against the control of a search."""

from study.analysis.effects import Effect, judge


def confirmed(found: list[Effect], control: str) -> str:
    """Whether one of the settings is better than the control's."""
    if next(effect for effect in found if effect.label == control).diverged:
        return f"no verdict: {control} diverged"
    # One that diverged, or of which a single seed was trained, says nothing of the others.
    judged = [each for each in found if len(each.seeds) > 1 and not each.diverged]
    if len(judged) < 2 or control not in [effect.label for effect in judged]:
        return f"no verdict: two seeds of {control} and of another are needed"
    verdict, why = judge(judged, control)
    meaning = {
        "refuted": f"a real winner, better than {control} by more than the noise",
        "confirmed": f"no winner, {control} is better by more than the noise",
        "within noise": "no winner beyond the noise of the seeds",
    }
    return f"{meaning[verdict]}: {why}"
