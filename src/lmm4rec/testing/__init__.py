"""The contract tests that every component passes, in this package and in others.

check_recommender(MyModel, dim=16)      # a subclass of Recommender, with hyper-parameters other than the defaults

Each raises BrokenContractError with the name of the broken promise. `recommender_contracts(MyModel)` and its like give
the names of the promises, and `check_recommender(MyModel, contract=name)` checks one. No test library is needed.
"""

from lmm4rec.testing.contracts import BrokenContractError
from lmm4rec.testing.recommenders import check_recommender, recommender_contracts

__all__ = ["BrokenContractError", "check_recommender", "recommender_contracts"]
