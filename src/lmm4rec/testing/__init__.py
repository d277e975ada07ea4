"""The contract tests that every component passes, in this package and in others.

check_recommender(MyModel, dim=16)          # a subclass of Recommender, with hyper-parameters other than the defaults
check_encoder(MyEncoder)                    # a subclass of Encoder, or a function that builds one
check_source(lambda: load_mine(path="…"))   # a function that returns a Dataset

Each raises BrokenContractError with the name of the broken promise. `recommender_contracts(MyModel)` and its like give
the names of the promises, and `check_recommender(MyModel, contract=name)` checks one. No test library is needed.
"""

from lmm4rec.testing.contracts import BrokenContractError
from lmm4rec.testing.encoders import check_encoder, encoder_contracts
from lmm4rec.testing.recommenders import check_recommender, recommender_contracts
from lmm4rec.testing.sources import check_source, source_contracts

__all__ = [
    "BrokenContractError",
    "check_encoder",
    "check_recommender",
    "check_source",
    "encoder_contracts",
    "recommender_contracts",
    "source_contracts",
]
