"""Samples, batches and the scale of the features."""

import json

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from reference_models.data.batch import Batch, ModalDataset, Standardizer, collate
from reference_models.data.corpus import Split
from reference_models.data.mmsa import load_mmsa
from tests.reference_models.files import frames


def split(lengths, features, **others) -> Split:
    """A cleaned split by hand: modality -> lengths, and modality -> features."""
    random = np.random.default_rng(3)
    count = len(next(iter(lengths.values())))
    totals = {"text": 9, "audio": 8, "vision": 6}
    arrays = {m: frames(random, n, totals[m], features[m]) for m, n in lengths.items()}
    fields = {
        "name": "train",
        "ids": [str(row) for row in range(count)],
        "labels": random.uniform(-3, 3, count).astype(np.float32),
        "raw_text": None,
        "token_ids": None,
        "token_mask": None,
        "features": arrays,
        "masks": {m: x.any(axis=2) for m, x in arrays.items()},
        "present": {m: np.array(n) > 0 for m, n in lengths.items()},
    }
    return Split(**fields | others)


def two() -> Split:
    return split({"audio": [3, 8, 0, 1, 5], "vision": [2, 1, 4, 0, 3]}, {"audio": 4, "vision": 3})


def batch_of(dataset, rows) -> Batch:
    return Batch(**collate([dataset[row] for row in rows]))


def test_a_batch_holds_the_samples_it_was_made_of():
    source = two()
    dataset = ModalDataset(source, ("audio", "vision"), token_ids=None, standardizer=None)
    assert len(dataset) == 5
    rows = [4, 0, 2]
    batch = batch_of(dataset, rows)
    assert len(batch) == 3
    assert batch.modalities == ("audio", "vision")
    assert batch.index.tolist() == rows
    assert batch.index.dtype == torch.int64
    assert batch.labels.dtype == torch.float32
    assert batch.labels.tolist() == [source.labels[row] for row in rows]
    assert batch.features["audio"].shape == (3, 5, 4)  # the longest here has 5 of 8 steps
    assert batch.features["vision"].shape == (3, 4, 3)
    for modality in batch.modalities:
        x, mask = batch.features[modality], batch.masks[modality]
        assert x.dtype == torch.float32
        assert mask.dtype == batch.present[modality].dtype == torch.bool
        for place, row in enumerate(rows):
            length = int(source.masks[modality][row].sum())
            assert mask[place].tolist() == [step < length for step in range(x.shape[1])]
            assert x[place, :length].tolist() == source.features[modality][row, :length].tolist()
            assert not x[place, length:].any()
            assert batch.present[modality][place] == (length > 0)


def test_modalities_come_in_the_order_asked_for():
    dataset = ModalDataset(two(), ("vision", "audio"))
    assert batch_of(dataset, [0, 1]).modalities == ("vision", "audio")
    assert ModalDataset(two(), ("vision",)).modalities == ("vision",)


def test_a_batch_in_which_nobody_has_the_modality_keeps_one_step():
    batch = batch_of(ModalDataset(two(), ("audio", "vision")), [2, 2])
    assert batch.features["audio"].shape == (2, 1, 4)
    assert not batch.features["audio"].any()
    assert batch.masks["audio"].tolist() == [[False], [False]]
    assert batch.present["audio"].tolist() == [False, False]
    assert batch.present["vision"].all()


def test_text_as_token_ids():
    source = split({"audio": [3, 1, 2]}, {"audio": 4}, present={
        "text": np.array([True, False, True]), "audio": np.ones(3, dtype=bool)
    })  # fmt: skip
    token_ids = [[2, 7, 3], [2, 3], [2, 8, 9, 3]]
    dataset = ModalDataset(source, ("text", "audio"), token_ids=token_ids)
    batch = batch_of(dataset, [0, 1, 2])
    assert batch.features["text"].dtype == torch.int64
    assert batch.features["text"].tolist() == [[2, 7, 3, 0], [0, 0, 0, 0], [2, 8, 9, 3]]
    assert batch.masks["text"].sum(dim=1).tolist() == [3, 0, 4]
    assert batch.present["text"].tolist() == [True, False, True]
    nobody = batch_of(dataset, [1])
    assert nobody.features["text"].tolist() == [[0]]
    assert nobody.features["text"].dtype == torch.int64


def test_text_as_features_goes_by_presence_too():
    lengths = {"text": [4, 2], "audio": [1, 2]}
    present = {"text": np.array([True, False]), "audio": np.ones(2, dtype=bool)}
    source = split(lengths, {"text": 5, "audio": 2}, present=present)
    batch = batch_of(ModalDataset(source, ("text", "audio")), [0, 1])
    assert batch.features["text"].shape == (2, 4, 5)
    assert batch.present["text"].tolist() == [True, False]
    assert not batch.features["text"][1].any()


def test_emotion_labels_pass_as_they_are():
    source = split({"audio": [1, 2]}, {"audio": 2}, labels=np.array([[0, 1, 0, 1], [1, 0, 0, 0]]))
    batch = batch_of(ModalDataset(source, ("audio",)), [1, 0])
    assert batch.labels.dtype == torch.int64
    assert batch.labels.tolist() == [[1, 0, 0, 0], [0, 1, 0, 1]]


def test_scores_of_single_modalities_come_along():
    scores = {m: np.arange(5, dtype=np.float32) * k for m, k in (("audio", 0.1), ("text", -0.2))}
    source = split({"audio": [3, 8, 0, 1, 5]}, {"audio": 4}, unimodal_labels=scores)
    batch = batch_of(ModalDataset(source, ("audio",)), [3, 0])
    assert list(batch.unimodal_labels) == ["audio", "text"]
    for modality, values in batch.unimodal_labels.items():
        assert values.dtype == torch.float32
        assert values.tolist() == [scores[modality][3], scores[modality][0]]
    moved = batch.to("meta").unimodal_labels
    assert {m: (x.device.type, x.shape) for m, x in moved.items()} == dict.fromkeys(
        ("audio", "text"), ("meta", (2,))
    )
    plain = ModalDataset(two(), ("audio",))
    assert batch_of(plain, [0]).unimodal_labels == {}
    assert "unimodal_labels" not in plain[0]


def test_batches_move_whole_and_keep_the_original():
    batch = batch_of(ModalDataset(two(), ("audio", "vision")), [0, 1])
    moved = batch.to("meta", non_blocking=True)
    for group in (moved.features, moved.masks, moved.present):
        assert all(tensor.device.type == "meta" for tensor in group.values())
    assert moved.labels.device.type == moved.index.device.type == "meta"
    assert moved.features["audio"].shape == batch.features["audio"].shape
    assert batch.labels.device.type == "cpu"
    unlabelled = Batch(batch.features, batch.masks, batch.present, None, batch.index)
    assert unlabelled.to("cpu").labels is None


def test_a_loader_meets_every_sample_once():
    dataset = ModalDataset(two(), ("audio",))
    loader = DataLoader(dataset, batch_size=2, shuffle=True, collate_fn=collate)
    rows = [row for fields in loader for row in Batch(**fields).index.tolist()]
    assert sorted(rows) == list(range(5))


def test_wrong_datasets():
    with pytest.raises(ValueError, match="modalities: expected at least one, got none"):
        ModalDataset(two(), ())
    with pytest.raises(ValueError, match=r"expected some of \['audio', 'vision'\].*got 'smell'"):
        ModalDataset(two(), ("audio", "smell"))
    with pytest.raises(ValueError, match="got 'text'"):
        ModalDataset(two(), ("text", "audio"))
    with pytest.raises(ValueError, match="token_ids: expected 5 lists, got 2"):
        ModalDataset(two(), ("text",), token_ids=[[1], [2]])


def wide(scale=1.0) -> Split:
    """600 samples, so that statistics are gathered in several pieces."""
    random = np.random.default_rng(4)
    lengths = random.integers(0, 5, 600).tolist()
    source = split({"audio": lengths}, {"audio": 4})
    x = source.features["audio"]
    x *= np.array([1, 1e-5, 1e4, 0], dtype=np.float32) * scale
    x += np.array([5, 0, -3e4, 0.1], dtype=np.float32) * source.masks["audio"][..., None]
    return source


def test_statistics_are_of_the_real_frames():
    source = wide()
    fitted = Standardizer.fit(source)
    real = [
        [float(value) for value in frame]
        for sample, mask in zip(source.features["audio"], source.masks["audio"], strict=True)
        for frame in sample[mask]
    ]
    for feature in range(3):
        column = [frame[feature] for frame in real]
        mean = sum(column) / len(column)
        variance = sum((value - mean) ** 2 for value in column) / len(column)
        assert fitted.mean["audio"][feature] == pytest.approx(mean, rel=1e-9)
        assert fitted.std["audio"][feature] == pytest.approx(variance**0.5, rel=1e-9)
    assert fitted.std["audio"][3] == 1  # 0.1 in every real frame
    assert fitted.mean["audio"][3] == pytest.approx(0.1, rel=1e-6)


def test_standardized_frames_have_mean_0_and_deviation_1():
    source = wide()
    dataset = ModalDataset(source, ("audio",), standardizer=Standardizer.fit(source))
    batch = batch_of(dataset, range(600))
    x, mask = batch.features["audio"], batch.masks["audio"]
    real = x[mask].double()
    assert x.dtype == torch.float32
    torch.testing.assert_close(real.mean(0), torch.zeros(4).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        real.std(0, correction=0), torch.tensor([1, 1, 1, 0]).double(), atol=1e-4, rtol=0
    )
    assert not x[~mask].any()
    assert batch.present["audio"].tolist() == source.present["audio"].tolist()
    assert not batch.present["audio"].all()


def test_the_scale_of_training_is_used_elsewhere():
    fitted = Standardizer.fit(wide(), limit=None)
    other = wide(scale=3.0)
    batch = batch_of(ModalDataset(other, ("audio",), standardizer=fitted), [0, 1, 2])
    row = int(torch.argmax(batch.masks["audio"].sum(1)))
    first = other.features["audio"][row, 0].astype(np.float64)
    expected = (first - fitted.mean["audio"]) / fitted.std["audio"]
    assert batch.features["audio"][row, 0].tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_outliers_are_clipped():
    fitted = Standardizer({"audio": np.array([1.0])}, {"audio": np.array([2.0])})
    x = np.array([[1.0], [3.0], [11.0], [12.0], [-1e9]], dtype=np.float32)
    assert fitted.apply("audio", x).ravel().tolist() == [0, 1, 5, 5, -5]
    free = Standardizer(fitted.mean, fitted.std, None)
    assert free.apply("audio", x).ravel().tolist() == [0, 1, 5, 5.5, -5e8]


def test_a_modality_that_nobody_has_in_training():
    fitted = Standardizer.fit(split({"audio": [0, 0]}, {"audio": 3}))
    assert fitted.mean["audio"].tolist() == [0, 0, 0]
    assert fitted.std["audio"].tolist() == [1, 1, 1]


def test_scales_survive_a_json_file():
    fitted = Standardizer.fit(two(), limit=4.0)
    again = Standardizer.from_dict(json.loads(json.dumps(fitted.to_dict(), allow_nan=False)))
    assert again.limit == 4.0
    assert again.mean.keys() == {"audio", "vision"}
    for modality in again.mean:
        assert again.mean[modality].tolist() == fitted.mean[modality].tolist()
        assert again.std[modality].tolist() == fitted.std[modality].tolist()


def test_wrong_scales():
    fitted = Standardizer.fit(two())
    with pytest.raises(ValueError, match=r"expected one of \['audio', 'vision'\], got 'text'"):
        fitted.apply("text", np.zeros((2, 3)))
    with pytest.raises(ValueError, match="frames: expected 4 features for 'audio', got 3"):
        fitted.apply("audio", np.zeros((2, 3)))


def test_real_statistics_come_to_one_scale(data_folder):
    corpus = load_mmsa(data_folder / "mosi_speaker_split_trimodal.pkl")
    train = corpus.splits["train"]
    assert np.ptp(np.log10(train.features["audio"].std(axis=(0, 1)))) > 4  # orders of magnitude
    fitted = Standardizer.fit(train)
    assert (fitted.std["vision"] == 1).sum() == 32  # constant columns
    for name in ("train", "test"):
        dataset = ModalDataset(corpus.splits[name], ("audio", "vision"), standardizer=fitted)
        batch = batch_of(dataset, range(len(dataset)))
        for x in batch.features.values():
            assert x.abs().max() <= 5
            assert torch.isfinite(x).all()
