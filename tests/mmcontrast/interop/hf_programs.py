"""A tiny CLIP, data and a Trainer for test_hf.py, and what test_ranks.py runs."""

import tempfile

import torch
import torch.distributed as dist

import mmcontrast as mm
from mmcontrast.interop import hf
from tests.mmcontrast.peers import peer


def clip():
    """A CLIP of one layer a tower, the same every time."""
    library = peer("transformers")
    torch.manual_seed(0)
    tower = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    text = {**tower, "vocab_size": 20, "max_position_embeddings": 6, "eos_token_id": 19}
    text |= {"bos_token_id": 0, "pad_token_id": 1}
    vision = {**tower, "image_size": 8, "patch_size": 4}
    return library.CLIPModel(
        library.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    )


def rows(labels=False):
    """Sixteen images with their texts."""
    source = torch.Generator().manual_seed(1)
    images = torch.randn(16, 3, 8, 8, generator=source)
    texts = torch.randint(2, 19, (16, 6), generator=source)
    texts[:, -1] = 19
    made = [{"pixel_values": x, "input_ids": y} for x, y in zip(images, texts, strict=True)]
    return [{**row, "labels": torch.tensor(i)} for i, row in enumerate(made)] if labels else made


def fields(chosen):
    return {name: torch.stack([row[name] for row in chosen]) for name in chosen[0]}


def loss(outputs, labels):
    return mm.symmetric_info_nce(outputs["image_embeds"], outputs["text_embeds"])


def loss_of_all_ranks(outputs, labels):
    return mm.symmetric_info_nce(
        *(mm.gather(outputs[name]) for name in ("image_embeds", "text_embeds"))
    )


class InOrder(torch.utils.data.Dataset):
    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        return self.data[i]


def trainer(folder, data, accumulate=1, optimizer=torch.optim.SGD, rate=0.1, **settings):
    """Plain SGD by default, the data in order."""
    library = peer("transformers")
    defaults = {"num_train_epochs": 1, "logging_steps": 100, "save_strategy": "no"}
    settings = {**defaults, "label_names": ["labels"], **settings}
    arguments = library.TrainingArguments(
        output_dir=str(folder),
        gradient_accumulation_steps=accumulate,
        max_grad_norm=0.0,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        **settings,
    )
    model = clip()
    steps = optimizer(model.parameters(), rate)
    constant = torch.optim.lr_scheduler.LambdaLR(steps, lambda step: 1.0)
    return library.Trainer(
        model,
        arguments,
        train_dataset=InOrder(data),
        eval_dataset=InOrder(data),
        data_collator=fields,
        optimizers=(steps, constant),
    )


def ranks():
    """One step of two ranks over one batch of eight is that of one process."""
    data = rows(labels=True)[:8]
    with tempfile.TemporaryDirectory() as folder:
        made = trainer(folder, data, per_device_train_batch_size=4, logging_steps=1)
        parts = []

        def terms(outputs, labels):
            parts.append(labels)
            return mm.LossTerms({"all": loss_of_all_ranks(outputs, labels)})

        hf.attach(made, terms)
        made.train()
    assert len(parts) == 1
    assert len(parts[0]) == 4
    alone = clip()
    inputs = fields(data)
    inputs.pop("labels")
    whole = loss(alone(**inputs), None)
    whole.backward()
    with torch.no_grad():
        for value in alone.parameters():
            if value.grad is not None:
                value -= 0.1 * value.grad
    for x, y in zip(made.model.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(x, y, atol=1e-6, rtol=1e-4)
    if dist.get_rank() == 0:
        (entry,) = [entry for entry in made.state.log_history if "loss" in entry]
        assert abs(entry["all"] - whole.item()) < 1e-4
        assert abs(float(entry["loss"]) - whole.item()) < 1e-3


if __name__ == "__main__":
    ranks()
