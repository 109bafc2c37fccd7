"""How much each key of a sweep's space mattered.

By PED-ANOVA (Watanabe et al. 2023, "PED-ANOVA: efficiently quantifying hyperparameter importance in
arbitrary subspaces"), as Optuna has it: how differently the best trials and all trials are spread
along a key.
"""

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from tuning.ledger import Ledger, Record, Report
from tuning.suggestions import frozen

# With fewer trials there is no telling.
_TRIALS = 6


def importances(ledger: Ledger) -> tuple[dict[str, float], int]:
    """The share of each key, the largest first, and the outer step at which trials were compared.

    Trials stop at different steps, so they are compared at the last one that most of them reached.
    Nothing is returned where that tells nothing.
    """
    step, seen = comparable(ledger)
    scores = {report.score for _, report in seen}
    if len(seen) < _TRIALS or len(scores) < 2:
        return {}, step
    study = optuna.create_study()
    for record, report in seen:
        study.add_trial(
            frozen(ledger.sweep.settings.space, record, TrialState.COMPLETE, report.score)
        )
    # The better half, since there are few of them.
    evaluator = PedAnovaImportanceEvaluator(target_quantile=0.5, evaluate_on_local=False)
    return get_param_importances(study, evaluator=evaluator), step


def comparable(ledger: Ledger) -> tuple[int, list[tuple[Record, Report]]]:
    """The last step that more than half of the trials reached, with what was seen there."""
    reports = [(record, report) for record, report in ledger.reports() if report.finite]
    by_step: dict[int, dict[int, tuple[Record, Report]]] = {}
    for record, report in reports:
        by_step.setdefault(report.step, {})[record.number] = (record, report)
    trials = len({record.number for record, _ in reports})
    enough = [step for step, seen in by_step.items() if 2 * len(seen) > trials]
    if not enough:
        return 0, []
    return max(enough), list(by_step[max(enough)].values())
