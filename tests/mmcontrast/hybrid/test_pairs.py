"""Who is whose positive and negative, by a loop over labels and presence."""

import torch
from hypothesis import given

import mmcontrast as mm
from tests import oracles
from tests.mmcontrast.hybrid.losses import batches
from tests.mmcontrast.strategies import close, numpy


@given(batch=batches)
def test_pairs_are_who_the_paper_says(batch):
    features, classes, present = batch["features"], batch["labels"], batch["present"]
    n, ids = len(classes), oracles.classes_of(numpy(classes))
    for kind, inter in (("intra", False), ("inter", True)):
        pairs = getattr(mm, f"{kind}_modal_pairs")(features, classes, present=present)
        assert list(pairs) == list(features)
        for name in features:
            partners = [other for other in features if (other != name) == inter]
            for chosen, same in ((pairs[name].positives, True), (pairs[name].negatives, False)):
                expected = torch.tensor(
                    [
                        [
                            i != k
                            and ids[i] is not None
                            and ids[k] is not None
                            and (ids[i] == ids[k]) == same
                            and oracles.is_present(present, name, i)
                            and oracles.is_present(present, other, k)
                            for other in partners
                            for k in range(n)
                        ]
                        for i in range(n)
                    ]
                )
                assert torch.equal(chosen, expected)
            used = pairs[name].positives | pairs[name].negatives
            rows = torch.cat([features[other] for other in partners])
            close(pairs[name].candidates[used.any(dim=0)], rows[used.any(dim=0)])
            close(pairs[name].anchors[used.any(dim=1)], features[name][used.any(dim=1)])
