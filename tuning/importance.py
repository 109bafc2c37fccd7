"""The importance of each key of a sweep's space.

By PED-ANOVA (Watanabe et al. 2023, "PED-ANOVA: efficiently quantifying hyperparameter importance in
arbitrary subspaces"), as Optuna implements it: the difference between the distributions of the best
trials and of all trials along a key.
"""

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from tuning.ledger import SweepLedger, TrialRecord, TrialReport
from tuning.suggestions import frozen_trial

# Fewer trials do not tell keys apart.
_MIN_TRIALS = 6


def importances(ledger: SweepLedger) -> tuple[dict[str, float], int]:
    """Compute the share of each key, the largest first.

    Returns:
        The shares, and the outer step at which trials were compared: they stop at different steps,
        so it is the last one that most of them reached. No shares where there are too few trials,
        or all scores are equal.
    """
    step, reports = comparable_reports(ledger)
    scores = {report.score for _, report in reports}
    if len(reports) < _MIN_TRIALS or len(scores) < 2:
        return {}, step
    study = optuna.create_study()
    space = ledger.sweep.settings.space
    for record, report in reports:
        study.add_trial(frozen_trial(space, record, state=TrialState.COMPLETE, score=report.score))
    # The better half: there are too few trials for a smaller share.
    evaluator = PedAnovaImportanceEvaluator(target_quantile=0.5, evaluate_on_local=False)
    return get_param_importances(study, evaluator=evaluator), step


def comparable_reports(
    ledger: SweepLedger,
) -> tuple[int, list[tuple[TrialRecord, TrialReport]]]:
    """Find the last step that more than half of the trials reached, with the reports there."""
    reports = [(record, report) for record, report in ledger.reports_in_order() if report.is_finite]
    by_step: dict[int, dict[int, tuple[TrialRecord, TrialReport]]] = {}
    for record, report in reports:
        by_step.setdefault(report.step, {})[record.number] = (record, report)
    trials = len({record.number for record, _ in reports})
    reached = [step for step, by_trial in by_step.items() if 2 * len(by_trial) > trials]
    if not reached:
        return 0, []
    return max(reached), list(by_step[max(reached)].values())
