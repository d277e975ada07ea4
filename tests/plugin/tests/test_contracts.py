from lmm4rec_example_plugin.contentbpr import ContentBPR
from lmm4rec_example_plugin.cooccurrence import Cooccurrence
from lmm4rec_example_plugin.letters import Letters

from lmm4rec.testing import check_encoder, check_recommender


def test_the_components_keep_their_contracts() -> None:
    check_recommender(Cooccurrence)
    check_recommender(ContentBPR, dim=16)
    check_encoder(Letters)
